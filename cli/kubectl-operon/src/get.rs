//! `get`: an object as a tree, once or while it changes, or as it is.

use std::process::ExitCode;

use clap::ArgGroup;
use k8s_openapi::jiff::Timestamp;
use operon_cli_cluster::parsed;
use operon_cli_model::{Tree, draw};

use crate::{
    flags::Flags,
    follow::{Follow, WAITS, Wait},
    name::Named,
    output::Format,
    terminal::print,
};

#[derive(Debug, clap::Args)]
#[command(group(ArgGroup::new(WAITS).conflicts_with("format")))]
pub(crate) struct Arguments {
    #[command(flatten)]
    object: Named,
    /// Watch: draw the tree again when something changes; without a terminal, print a line per change
    #[arg(long, short, conflicts_with = "format")]
    watch: bool,
    #[command(flatten)]
    wait: Wait,
    #[command(flatten)]
    format: Format,
}

pub(crate) async fn run(flags: &Flags, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let (kind, name) = arguments.object.parsed()?;
    let end = arguments.wait.end();
    let cluster = flags.connect().await?;
    let found = cluster.get_raw(kind, &name).await?;
    if let Some(text) = arguments.format.object(kind, &found)? {
        print(&text)?;
        return Ok(ExitCode::SUCCESS);
    }
    let object = parsed(kind, &found)?;
    if arguments.watch || end.is_awaited() {
        return Follow::new(&cluster, kind, end).run(object).await;
    }
    let related = cluster.related(&object).await;
    print(&draw(
        &Tree::of(&object, &related),
        Timestamp::now(),
        arguments.format.screen(),
    ))?;
    Ok(ExitCode::SUCCESS)
}
