//! A DaemonJob: its waves, in each the nodes that run, wait or failed, and below each node its Jobs and pods.
//!
//! The status names the last wave, and nodes that failed or are blocked, at most 20 of each. Everything else is known
//! by the Jobs: which nodes have had one, and in which wave.

use std::collections::BTreeMap;

use operon_api::{
    DaemonJob,
    daemon_job::{DaemonJobStatus, Wave},
    keys,
};

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

/// A node, and the wave in which it got its last Job, if that is known.
struct Node {
    wave: Option<String>,
    row: Row,
}

pub(super) fn rows(job: &DaemonJob, related: &Related) -> Vec<Row> {
    let status = job.status.clone().unwrap_or_default();
    let last = status.wave.as_ref();
    let mut waves: BTreeMap<Place, Vec<Row>> = BTreeMap::new();
    waves.extend(last.map(|wave| (Place::of(&wave.name), Vec::new())));
    let mut others = Vec::new();
    for Node { wave, row } in nodes(&status, related) {
        match wave {
            Some(wave) => waves.entry(Place::of(&wave)).or_default().push(row),
            None => others.push(row),
        }
    }
    let mut rows: Vec<_> = waves
        .into_iter()
        .map(|(place, nodes)| wave(&place.name, nodes, last))
        .collect();
    rows.extend(unfinished(others));
    rows.extend(summaries(&status));
    rows
}

/// Where a wave is in the order of the waves.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    order: u8,
    name: String,
}

impl Place {
    fn of(name: &str) -> Self {
        let order = match name {
            "canary" => 0,
            "rest" => 2,
            _ => 1,
        };
        let name = name.to_owned();
        Self { order, name }
    }
}

/// A wave with its nodes.
fn wave(name: &str, nodes: Vec<Row>, last: Option<&Wave>) -> Row {
    let last = last.filter(|last| last.name == name);
    let end = last.and_then(|last| Some(last.completion_time.as_ref()?.0));
    let is_open = last.is_some() && end.is_none();
    let own = if is_open { Mark::Running } else { Mark::Done };
    let mark = nodes.iter().map(|row| row.mark).min();
    Row {
        since: nodes.iter().filter_map(|row| row.since).min(),
        until: end.or_else(|| {
            let ends: Option<Vec<_>> = nodes.iter().map(|row| row.until).collect();
            ends?.into_iter().max().filter(|_| !is_open)
        }),
        children: unfinished(nodes),
        ..Row::new(
            mark.map_or(own, |mark| mark.min(own)),
            format!("wave {name}"),
            "",
        )
    }
}

/// The nodes that have not succeeded.
fn unfinished(mut nodes: Vec<Row>) -> Vec<Row> {
    nodes.retain(|row| row.mark != Mark::Done);
    collapsed(nodes, "node")
}

/// How many nodes there are of each other state.
fn summaries(status: &DaemonJobStatus) -> Vec<Row> {
    let number = |number: Option<i32>| usize::try_from(number.unwrap_or(0)).unwrap_or(0);
    let (succeeded, failed) = (number(status.succeeded), number(status.failed));
    let ended = succeeded + failed + number(status.active);
    let summaries = [
        (
            number(status.desired).saturating_sub(ended),
            Mark::Waiting,
            "without a Job yet",
        ),
        (
            number(status.skipped),
            Mark::Skipped,
            "without a Job: excluded, not selected or not available",
        ),
        (succeeded, Mark::Done, "succeeded"),
    ];
    let summaries = summaries.into_iter().filter(|(nodes, ..)| *nodes > 0);
    let row = |(nodes, mark, what)| Row::new(mark, format!("{} {what}", count(nodes, "node")), "");
    summaries.map(row).collect()
}

/// The nodes with a Job, and those that the status names.
fn nodes(status: &DaemonJobStatus, related: &Related) -> Vec<Node> {
    let mut nodes: BTreeMap<String, Node> = BTreeMap::new();
    let mut jobs: Vec<_> = related.jobs.iter().collect();
    jobs.sort_by_key(|job| job::attempt(job));
    for job in jobs {
        let Some(name) = job::annotation(job, keys::NODE_NAME) else {
            continue;
        };
        let below = job::row(job, related);
        let node = nodes.entry(name.to_owned()).or_insert_with(|| Node {
            wave: None,
            row: Row {
                since: below.since,
                ..Row::new(below.mark, format!("node {name}"), "")
            },
        });
        node.wave = job::annotation(job, keys::WAVE).map(str::to_owned);
        node.row.mark = below.mark;
        node.row.state.clone_from(&below.state);
        node.row.until = below.until;
        node.row.children.push(below);
    }
    for found in &status.blocked_nodes {
        let row = named(&mut nodes, &found.name, Mark::Blocked, "Blocked");
        row.since = Some(found.since.0);
        *row = row.clone().because(&found.reason, &found.message);
    }
    for found in &status.failed_nodes {
        let row = named(&mut nodes, &found.name, Mark::Failed, "Failed");
        *row = row.clone().because(&found.reason, &found.message);
    }
    nodes.into_values().collect()
}

/// The row of a node that the status names with this mark; it has this state unless a Job says more.
fn named<'a>(
    nodes: &'a mut BTreeMap<String, Node>,
    name: &str,
    mark: Mark,
    state: &str,
) -> &'a mut Row {
    let node = nodes.entry(name.to_owned()).or_insert_with(|| Node {
        wave: None,
        row: Row::new(mark, format!("node {name}"), state),
    });
    node.row.mark = mark;
    &mut node.row
}
