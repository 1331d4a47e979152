//! `why`: what an object or a part of it waits for, and what to do next.

use std::process::ExitCode;

use k8s_openapi::jiff::Timestamp;
use operon_cli_model::why;

use crate::{flags::Flags, name::named, terminal::print};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The object, and a target, step, node, Job or pod of it [default: the part that needs attention first]
    #[arg(required = true, num_args = 1..=3, value_names = ["KIND/NAME", "PART"])]
    object: Vec<String>,
}

impl Arguments {
    /// The words that name the object, and the part.
    fn split(&self) -> (&[String], Option<&str>) {
        let has_both = self.object.first().is_some_and(|word| word.contains('/'));
        let words = self.object.len().min(if has_both { 1 } else { 2 });
        let (object, part) = self.object.split_at(words);
        (object, part.first().map(String::as_str))
    }
}

pub(crate) async fn run(flags: &Flags, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let (object, part) = arguments.split();
    let (kind, name) = named(object)?;
    if let Some(extra) = arguments.object.get(object.len() + 1) {
        anyhow::bail!("{extra:?} is one word too many: write KIND/NAME PART");
    }
    let cluster = flags.connect().await?;
    let object = cluster.get(kind, &name).await?;
    let related = cluster.related(&object).await;
    let text = why(&object, &related, part, Timestamp::now())?;
    print(&format!("{text}\n"))?;
    Ok(ExitCode::SUCCESS)
}
