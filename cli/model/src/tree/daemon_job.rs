//! A DaemonJob: the current wave, in it the nodes that run, wait or failed, and below each its Jobs and pods.
//!
//! The status names only nodes that failed or are blocked, at most 20 of each; the others are known by their Jobs.

use std::collections::BTreeMap;

use operon_api::{DaemonJob, daemon_job::DaemonJobStatus, keys};

use super::{Mark, Row, collapsed};
use crate::{Related, Wanted, job, text::count};

/// The Jobs and the pods of the DaemonJob.
pub(crate) fn wanted(job: &DaemonJob) -> Wanted {
    let uid = job.metadata.uid.as_deref().unwrap_or_default();
    let selector = format!("{}={uid}", keys::OWNER_UID);
    Wanted {
        jobs: Some(selector.clone()),
        pods: Some(selector),
        pod_names: Vec::new(),
    }
}

pub(super) fn rows(job: &DaemonJob, related: &Related) -> Vec<Row> {
    let status = job.status.clone().unwrap_or_default();
    let nodes = collapsed(nodes(&status, related), "node");
    let mut rows = match &status.wave {
        Some(wave) if !nodes.is_empty() => {
            let mark = nodes
                .iter()
                .map(|row| row.mark)
                .min()
                .unwrap_or(Mark::Running);
            let mut row = Row::new(mark, format!("wave {}", wave.name), "");
            row.until = wave.completion_time.as_ref().map(|time| time.0);
            row.children = nodes;
            vec![row]
        }
        _ => nodes,
    };
    let number = |number: Option<i32>| usize::try_from(number.unwrap_or(0)).unwrap_or(0);
    let (succeeded, failed) = (number(status.succeeded), number(status.failed));
    let ended = succeeded + failed + number(status.active);
    let left = number(status.desired).saturating_sub(ended);
    let summaries = [
        (left, Mark::Waiting, "without a Job yet"),
        (
            number(status.skipped),
            Mark::Skipped,
            "without a Job: excluded, not selected or not available",
        ),
        (succeeded, Mark::Done, "succeeded"),
    ];
    for (nodes, mark, what) in summaries.into_iter().filter(|(nodes, ..)| *nodes > 0) {
        rows.push(Row::new(
            mark,
            format!("{} {what}", count(nodes, "node")),
            "",
        ));
    }
    rows
}

/// The nodes with a Job that has not succeeded, and those that the status names.
fn nodes(status: &DaemonJobStatus, related: &Related) -> Vec<Row> {
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    let mut jobs: Vec<_> = related.jobs.iter().collect();
    jobs.sort_by_key(|job| job::attempt(job));
    for job in jobs {
        let Some(node) = job::annotation(job, keys::NODE_NAME) else {
            continue;
        };
        let below = job::row(job, related);
        let row = Row::new(below.mark, format!("node {node}"), below.state.clone());
        let row = Row {
            since: below.since,
            ..row
        };
        let row_of_node = rows.entry(node.to_owned()).or_insert(row.clone());
        row_of_node.mark = row.mark;
        row_of_node.state = row.state;
        row_of_node.children.push(below);
    }
    rows.retain(|_, row| row.mark != Mark::Done);
    for node in &status.blocked_nodes {
        let name = format!("node {}", node.name);
        let row = rows.entry(node.name.clone());
        let row = row.or_insert_with(|| Row::new(Mark::Blocked, name, "Blocked"));
        row.mark = Mark::Blocked;
        row.since = Some(node.since.0);
        *row = row.clone().because(&node.reason, &node.message);
    }
    for node in &status.failed_nodes {
        let name = format!("node {}", node.name);
        let row = rows.entry(node.name.clone());
        let row = row.or_insert_with(|| Row::new(Mark::Failed, name, "Failed"));
        row.mark = Mark::Failed;
        *row = row.clone().because(&node.reason, &node.message);
    }
    rows.into_values().collect()
}
