//! An ActionPlugin: what it is, whether its action is served, and what its conditions report.

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Condition, jiff::Timestamp};
use operon_api::{
    ActionPlugin,
    conditions::{PODS_LEFT_BEHIND, READY, STALLED, SUSPENDED, TAG_MOVED, find},
};

use crate::{
    text::{duration, printable, reasoned},
    tree::{Mark, Row, Tree},
};

/// The ActionPlugin with a row for each condition that reports something.
pub fn plugin_tree(plugin: &ActionPlugin) -> Tree {
    let is_served = is_true(plugin, READY);
    Tree {
        title: format!("ActionPlugin {}  {}", name(plugin), plugin.spec.action),
        mark: mark(plugin),
        state: state(plugin),
        progress: (usize::from(is_served), 1),
        since: created(plugin),
        until: None,
        text: explanation(plugin),
        rows: rows(plugin),
    }
}

/// Whether its action is served, since when, why not, and the next command.
pub fn plugin_why(plugin: &ActionPlugin, now: Timestamp) -> String {
    let name = name(plugin);
    let age = created(plugin).map_or(String::new(), |since| {
        format!(", {} old", duration(since, now))
    });
    let mut lines = vec![format!("ap/{name} is {}{age}.", state(plugin))];
    let explanation = explanation(plugin);
    if !explanation.is_empty() {
        lines.push(explanation);
    }
    lines.push(match conditions(plugin) {
        [] => "Next: kubectl get pods -n operon-system".to_owned(),
        _ => format!("Next: kubectl describe actionplugin {name}"),
    });
    let lines: Vec<_> = lines.iter().map(|line| printable(line)).collect();
    lines.join("\n")
}

/// What its status records of the component, each with a name.
pub fn facts(plugin: &ActionPlugin) -> Vec<(&'static str, String)> {
    let status = plugin.status.clone().unwrap_or_default();
    let signers = match status.signers.as_slice() {
        [] => "none: no signature is required".to_owned(),
        signers => signers.join(", "),
    };
    let (reference, manifest) = match status.artifact {
        Some(artifact) => (artifact.reference, artifact.manifest),
        None => (String::new(), String::new()),
    };
    let has_component = status.digest.is_some();
    let facts = [
        ("Action", plugin.spec.action.clone()),
        ("Source", status.source.unwrap_or_default()),
        ("Artifact", reference),
        ("Manifest", manifest),
        ("Digest", status.digest.unwrap_or_default()),
        (
            "Signers",
            if has_component {
                signers
            } else {
                String::new()
            },
        ),
        ("Interface", status.interface_version.unwrap_or_default()),
        ("Reads", status.watches.join(", ")),
    ];
    let facts = facts.into_iter();
    facts.filter(|(_, value)| !value.is_empty()).collect()
}

fn mark(plugin: &ActionPlugin) -> Mark {
    match state(plugin) {
        "Ready" => Mark::Done,
        "Stalled" => Mark::Failed,
        "Suspended" => Mark::Blocked,
        _ => Mark::Running,
    }
}

fn state(plugin: &ActionPlugin) -> &'static str {
    if plugin.metadata.deletion_timestamp.is_some() {
        return "Deleting";
    }
    if is_true(plugin, SUSPENDED) {
        return "Suspended";
    }
    if is_true(plugin, READY) {
        return "Ready";
    }
    if is_true(plugin, STALLED) {
        return "Stalled";
    }
    "NotReady"
}

/// The reason and the message of the condition that says most.
fn explanation(plugin: &ActionPlugin) -> String {
    let suspended = of(plugin, SUSPENDED).filter(|found| found.status == "True");
    match suspended.or(of(plugin, READY)) {
        Some(found) => reasoned(&found.reason, &found.message),
        None => "it has no status: does Operon run?".to_owned(),
    }
}

fn rows(plugin: &ActionPlugin) -> Vec<Row> {
    let row = |condition: &Condition, mark: Mark| {
        Row {
            since: Some(condition.last_transition_time.0),
            ..Row::new(mark, condition.type_.clone(), condition.status.clone())
        }
        .because(&condition.reason, &condition.message)
    };
    let mut rows: Vec<_> = [SUSPENDED, TAG_MOVED, PODS_LEFT_BEHIND]
        .iter()
        .filter_map(|type_| of(plugin, type_).filter(|found| found.status == "True"))
        .map(|condition| row(condition, Mark::Blocked))
        .collect();
    rows.extend(of(plugin, READY).map(|ready| {
        let mark = match ready.status.as_str() {
            "True" => Mark::Done,
            _ if is_true(plugin, STALLED) => Mark::Failed,
            _ => Mark::Running,
        };
        row(ready, mark)
    }));
    rows.sort_by_key(|row| row.mark);
    rows
}

fn name(plugin: &ActionPlugin) -> &str {
    plugin.metadata.name.as_deref().unwrap_or_default()
}

fn created(plugin: &ActionPlugin) -> Option<Timestamp> {
    let created = plugin.metadata.creation_timestamp.as_ref();
    created.map(|created| created.0)
}

fn conditions(plugin: &ActionPlugin) -> &[Condition] {
    let status = plugin.status.as_ref();
    status.map_or(&[], |status| &status.conditions)
}

fn of<'a>(plugin: &'a ActionPlugin, type_: &str) -> Option<&'a Condition> {
    find(conditions(plugin), type_)
}

fn is_true(plugin: &ActionPlugin, type_: &str) -> bool {
    of(plugin, type_).is_some_and(|found| found.status == "True")
}
