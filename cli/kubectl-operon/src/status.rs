//! `status`: everything that has not finished.

use std::process::ExitCode;

use anyhow::bail;
use operon_cli_model::{Kind, Object, Outcome, fitted};

use crate::{
    cluster::{Cluster, Flags},
    terminal::{Output, complain, print},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// In all namespaces
    #[arg(long, short = 'A')]
    all_namespaces: bool,
}

pub(crate) async fn run(flags: &Flags, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let cluster = Cluster::connect(flags).await?;
    let mut unfinished = Vec::new();
    let (mut failures, mut unserved) = (Vec::new(), 0);
    for kind in Kind::ALL {
        match cluster.list(kind, arguments.all_namespaces).await {
            Ok(objects) => {
                for object in objects {
                    match object {
                        Ok(object) if is_unfinished(&object) => unfinished.push(object),
                        Ok(_) => {}
                        Err(error) => failures.push(format!("{}: {error:#}", kind.plural())),
                    }
                }
            }
            Err(failure) if failure.is_unknown_kind() => unserved += 1,
            Err(failure) if failure.is_of_all_requests() => bail!("{failure}"),
            Err(failure) => failures.push(format!("{}: {failure}", kind.plural())),
        }
    }
    if unserved == Kind::ALL.len() {
        bail!(
            "the cluster serves none of Operon's kinds: `kubectl apply --server-side -f crds/` installs its CRDs"
        );
    }
    failures.dedup();
    for failure in &failures {
        complain(&format!("error: {failure}"));
    }
    if unfinished.is_empty() && failures.is_empty() {
        print("Everything has finished.\n")?;
    } else if !unfinished.is_empty() {
        print(&table(&unfinished, Output::stdout().screen().columns))?;
    }
    Ok(if failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// A CollaSet that failed is stalled, and not at its end.
fn is_unfinished(object: &Object) -> bool {
    match object.outcome() {
        Outcome::Unfinished => true,
        Outcome::Succeeded => false,
        Outcome::Failed => object.kind() == Kind::CollaSet,
    }
}

/// Columns as wide as their longest entry, within the terminal.
fn table(objects: &[Object], columns: Option<usize>) -> String {
    let mut rows = vec![["NAMESPACE", "OBJECT", "STATE", "DONE", "REASON"].map(str::to_owned)];
    for object in objects {
        let (done, total) = object.progress();
        rows.push([
            object.namespace().to_owned(),
            object.called(),
            object.state().to_owned(),
            format!("{done}/{total}"),
            object.explanation(),
        ]);
    }
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths = [width(0), width(1), width(2), width(3)];
    let lines = rows.iter().map(|[namespace, object, state, done, reason]| {
        let [a, b, c, d] = widths;
        let line = format!("{namespace:a$}  {object:b$}  {state:c$}  {done:d$}  {reason}");
        fitted(line.trim_end(), columns) + "\n"
    });
    lines.collect()
}
