//! `get`: an object as a tree, once or while it changes.

use std::process::ExitCode;

use k8s_openapi::jiff::Timestamp;
use operon_cli_model::{Tree, draw};

use crate::{
    cluster::{Cluster, Flags},
    follow::{Follow, Wait},
    name::Named,
    terminal::{Output, print},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    object: Named,
    /// Watch: draw the tree again when something changes; without a terminal, print a line per change
    #[arg(long, short)]
    watch: bool,
    #[command(flatten)]
    wait: Wait,
}

pub(crate) async fn run(flags: &Flags, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let (kind, name) = arguments.object.parsed()?;
    let end = arguments.wait.end();
    let cluster = Cluster::connect(flags).await?;
    let object = cluster.get(kind, &name).await?;
    let related = cluster.related(&object).await;
    if arguments.watch || end.is_awaited() {
        return Follow::new(&cluster, kind, end).run(object, related).await;
    }
    let output = Output::stdout();
    print(&draw(
        &Tree::of(&object, &related),
        Timestamp::now(),
        output.screen(),
    ))?;
    Ok(ExitCode::SUCCESS)
}
