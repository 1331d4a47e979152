//! `-o`: objects as they are, for programs, as `kubectl get` prints them.

use anyhow::Context as _;
use kube::api::DynamicObject;
use operon_cli_cluster::name;
use operon_cli_model::{Kind, Screen};
use serde_json::{Value, json};

use crate::terminal::Output;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// The object, or a List of objects, as JSON
    Json,
    /// The same as YAML
    Yaml,
    /// What is printed without -o, but with whole lines, or with more columns
    Wide,
    /// kind.group/name, a line for each object
    Name,
}

/// The flag `-o`.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Format {
    /// How to print
    #[arg(id = "format", long = "output", short = 'o', value_name = "FORMAT")]
    form: Option<Form>,
}

impl Format {
    pub(crate) fn is_for_people(self) -> bool {
        matches!(self.form, None | Some(Form::Wide))
    }

    pub(crate) fn is_wide(self) -> bool {
        self.form == Some(Form::Wide)
    }

    /// What can be shown to people now; whole lines if it is wide.
    pub(crate) fn screen(self) -> Screen {
        let screen = Output::stdout().screen();
        Screen {
            columns: screen.columns.filter(|_| !self.is_wide()),
            ..screen
        }
    }

    /// One object in the format for programs; none if people read it.
    pub(crate) fn object(
        self,
        kind: Kind,
        object: &DynamicObject,
    ) -> anyhow::Result<Option<String>> {
        let text = match self.form {
            None | Some(Form::Wide) => return Ok(None),
            Some(Form::Name) => name(kind, object) + "\n",
            Some(Form::Json) => as_json(&plain(object)?)?,
            Some(Form::Yaml) => as_yaml(&plain(object)?)?,
        };
        Ok(Some(text))
    }

    /// Several objects in the format for programs; none if people read them.
    pub(crate) fn list<'a>(
        self,
        objects: impl Iterator<Item = (Kind, &'a DynamicObject)>,
    ) -> anyhow::Result<Option<String>> {
        let text = match self.form {
            None | Some(Form::Wide) => return Ok(None),
            Some(Form::Name) => objects
                .map(|(kind, object)| name(kind, object) + "\n")
                .collect(),
            Some(Form::Json) => as_json(&list(objects)?)?,
            Some(Form::Yaml) => as_yaml(&list(objects)?)?,
        };
        Ok(Some(text))
    }
}

fn list<'a>(objects: impl Iterator<Item = (Kind, &'a DynamicObject)>) -> anyhow::Result<Value> {
    let items = objects.map(|(_, object)| plain(object));
    let items = items.collect::<anyhow::Result<Vec<_>>>()?;
    Ok(
        json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": items}),
    )
}

/// The object without `managedFields`, which kubectl does not print either.
fn plain(object: &DynamicObject) -> anyhow::Result<Value> {
    let mut object = object.clone();
    object.metadata.managed_fields = None;
    serde_json::to_value(object).context("failed to write the object")
}

fn as_json(value: &Value) -> anyhow::Result<String> {
    let text = serde_json::to_string_pretty(value).context("failed to write JSON")?;
    Ok(text + "\n")
}

fn as_yaml(value: &Value) -> anyhow::Result<String> {
    serde_yaml_ng::to_string(value).context("failed to write YAML")
}
