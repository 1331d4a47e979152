//! `status`: everything that has not finished.

use std::process::ExitCode;

use anyhow::bail;
use k8s_openapi::jiff::Timestamp;
use kube::api::DynamicObject;
use operon_cli_model::{Kind, Object, fitted};

use crate::{
    flags::Flags,
    output::Format,
    terminal::{complain, print},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// In all namespaces
    #[arg(long, short = 'A')]
    all_namespaces: bool,
    #[command(flatten)]
    format: Format,
}

pub(crate) async fn run(flags: &Flags, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let cluster = flags.connect().await?;
    let mut unfinished = Vec::new();
    let (mut failures, mut unserved) = (Vec::new(), 0);
    for kind in Kind::ALL {
        match cluster.list(kind, arguments.all_namespaces).await {
            Ok(objects) => {
                for object in objects {
                    match object {
                        Ok(object) if object.0.is_unfinished() => unfinished.push(object),
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
    let raw = unfinished.iter().map(|(object, raw)| (object.kind(), raw));
    if let Some(text) = arguments.format.list(raw)? {
        print(&text)?;
    } else if unfinished.is_empty() && failures.is_empty() {
        print("Everything has finished.\n")?;
    } else if !unfinished.is_empty() {
        print(&table(&unfinished, arguments.format))?;
    }
    Ok(if failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Columns as wide as their longest entry, within the terminal; the age only if it is wide.
fn table(objects: &[(Object, DynamicObject)], format: Format) -> String {
    let now = Timestamp::now();
    let titles = ["NAMESPACE", "OBJECT", "STATE", "DONE", "AGE", "REASON"];
    let mut rows = vec![titles.map(str::to_owned)];
    for (object, _) in objects {
        let (done, total) = object.progress();
        rows.push([
            object.namespace().to_owned(),
            object.called(),
            object.state().to_owned(),
            format!("{done}/{total}"),
            object.age(now),
            object.explanation(),
        ]);
    }
    let width = |column: usize| {
        let entries = rows.iter().map(|row| row[column].chars().count());
        entries.max().unwrap_or(0)
    };
    let shown = (0..titles.len()).filter(|column| format.is_wide() || titles[*column] != "AGE");
    let shown: Vec<_> = shown.map(|column| (column, width(column))).collect();
    let columns = format.screen().columns;
    let lines = rows.iter().map(|row| {
        let entries = shown
            .iter()
            .map(|(column, width)| format!("{:width$}  ", row[*column]));
        fitted(entries.collect::<String>().trim_end(), columns) + "\n"
    });
    lines.collect()
}
