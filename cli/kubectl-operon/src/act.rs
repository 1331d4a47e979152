//! The verbs: read the object, let the model decide, write.

use std::{
    io::{IsTerminal as _, Write as _},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions};
use operon_cli_model::{Effect, Object, Promotion, Verb, effect};

use crate::{
    cluster::{Cluster, Flags, timely},
    failure::explained,
    name::Named,
    terminal::print,
};

/// The name of what the command writes, as the API server records it.
const MANAGER: &str = "kubectl-operon";

#[derive(Debug, clap::Args)]
pub(crate) struct Promote {
    #[command(flatten)]
    pub(crate) object: Named,
    /// How many targets may have started in total
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(0..))]
    to: Option<i32>,
    /// All targets may start
    #[arg(long, conflicts_with = "to")]
    all: bool,
}

impl Promote {
    pub(crate) fn promotion(&self) -> Promotion {
        match (self.all, self.to) {
            (true, _) => Promotion::All,
            (false, Some(number)) => Promotion::To(number),
            (false, None) => Promotion::Next,
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Cancel {
    #[command(flatten)]
    pub(crate) object: Named,
    /// Do not ask for confirmation
    #[arg(long, short)]
    pub(crate) yes: bool,
}

/// A verb of the command line.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Do {
    Promote(Promotion),
    Pause,
    Resume,
    Retry,
    Rerun,
    Cancel { is_confirmed: bool },
}

impl Do {
    fn verb(self) -> Verb {
        match self {
            Self::Promote(promotion) => Verb::Promote(promotion),
            Self::Pause => Verb::Pause,
            Self::Resume => Verb::Resume,
            Self::Retry => Verb::Retry(Timestamp::now()),
            Self::Rerun => Verb::Rerun(Timestamp::now()),
            Self::Cancel { .. } => Verb::Cancel,
        }
    }
}

pub(crate) async fn run(flags: &Flags, object: &Named, what: Do) -> anyhow::Result<ExitCode> {
    let (kind, name) = object.parsed()?;
    let cluster = Cluster::connect(flags).await?;
    let object = cluster.get(kind, &name).await?;
    let effect = effect(&object, what.verb())?;
    if let (
        Effect::Delete { says },
        Do::Cancel {
            is_confirmed: false,
        },
    ) = (&effect, what)
        && !confirmed(says)?
    {
        bail!("nothing was changed");
    }
    let says = perform(&cluster, &object, effect).await?;
    print(&format!("{says}\n"))?;
    Ok(ExitCode::SUCCESS)
}

async fn perform(cluster: &Cluster, object: &Object, effect: Effect) -> anyhow::Result<String> {
    let (kind, name) = (object.kind(), object.name());
    let api = cluster.api(kind);
    let what = format!("{} {name:?}", kind.name());
    match effect {
        Effect::Patch { patch, says } => {
            let params = PatchParams {
                field_manager: Some(MANAGER.to_owned()),
                ..PatchParams::default()
            };
            let patched = timely(api.patch(name, &params, &Patch::Merge(patch))).await;
            patched.map_err(|failure| explained(failure, "patch", &what, kind))?;
            Ok(says)
        }
        Effect::Create { object, says } => {
            let object: DynamicObject =
                serde_json::from_value(object).context("failed to read the new object")?;
            let params = PostParams {
                field_manager: Some(MANAGER.to_owned()),
                ..PostParams::default()
            };
            let new = object.metadata.name.clone().unwrap_or_default();
            match timely(api.create(&params, &object)).await {
                Ok(_) => Ok(says),
                Err(crate::failure::Failure::Refused { code: 409, .. }) => {
                    bail!(
                        "{new} exists already; see `kubectl operon get {}/{new}`",
                        kind.word()
                    )
                }
                Err(failure) => Err(explained(failure, "create", &new, kind)),
            }
        }
        Effect::Delete { says } => {
            let preconditions = Preconditions {
                uid: object.metadata().uid.clone(),
                resource_version: None,
            };
            let params = DeleteParams {
                preconditions: Some(preconditions),
                ..DeleteParams::background()
            };
            let deleted = timely(api.delete(name, &params)).await;
            deleted.map_err(|failure| explained(failure, "delete", &what, kind))?;
            Ok(says)
        }
    }
}

/// Asks the user. Without a terminal there is no answer.
fn confirmed(says: &str) -> anyhow::Result<bool> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        bail!("{says}; to do it without a question, add --yes");
    }
    let mut stderr = std::io::stderr().lock();
    write!(stderr, "{says}. Continue? [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    stdin
        .read_line(&mut answer)
        .context("failed to read the answer")?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}
