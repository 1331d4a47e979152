//! The sentence that names the nodes that are waited for, and why, long before anything is late.

use kube::ResourceExt;

use super::{
    standing::NodeState,
    status::{Case, NAMES, some, with_skip},
    survey::Place,
};
use crate::node::is_ready;

/// Which nodes are waited for; nothing, if there are too many and none of them is special. `is_brief` leaves
/// out what others say of them.
pub(super) fn awaited(case: &Case<'_>, is_brief: bool) -> Option<String> {
    let survey = case.survey;
    let special: Vec<_> = survey
        .places
        .iter()
        .filter_map(|place| Some((place, special(case, place)?)))
        .collect();
    let is_plain = |place: &&Place<'_>| {
        place.standing.is_active() && !special.iter().any(|(other, _)| other.uid == place.uid)
    };
    let plain: Vec<_> = survey.places.iter().filter(is_plain).collect();
    let plain = plain.iter().filter(|_| plain.len() <= NAMES);
    let names: Vec<_> = special
        .iter()
        .map(|(_, words)| words.clone())
        .chain(plain.map(|place| format!("{:?}", place.name())))
        .collect();
    if names.is_empty() {
        return None;
    }
    let word = if names.len() == 1 { "node" } else { "nodes" };
    let names = some(names.into_iter());
    let quoted = match special.as_slice() {
        [(place, _)] if !is_brief => quoted(case, place),
        _ => None,
    };
    let quoted = quoted.map(|said| format!(": {said}")).unwrap_or_default();
    Some(format!("Waiting for {word} {names}{quoted}"))
}

/// A node that is waited for longer than for others, and why.
fn special(case: &Case<'_>, place: &Place<'_>) -> Option<String> {
    let name = place.name();
    if case.survey.is_waited_for(place) {
        return Some(with_skip(place));
    }
    match place.standing {
        NodeState::Again(_) if place.is_held_back && place.skip.is_none() => Some(format!(
            "{name:?} (the pod of its failed Job has not terminated)"
        )),
        NodeState::Active | NodeState::Ending if !is_ready(place.node) => {
            Some(format!("{name:?} (not Ready)"))
        }
        NodeState::Active => {
            let job = place.job?.name_any();
            let blocked = case.blocked.find(&job)?;
            let is_known = !matches!(blocked.reason.as_str(), "NoPods" | "ContainerCreating");
            is_known.then(|| format!("{name:?} ({})", blocked.reason))
        }
        NodeState::Due
        | NodeState::Lost(_)
        | NodeState::Again(_)
        | NodeState::Replacing
        | NodeState::Ending
        | NodeState::Succeeded
        | NodeState::Failed
        | NodeState::Skipped => None,
    }
}

/// What others say of the Job of a node.
fn quoted(case: &Case<'_>, place: &Place<'_>) -> Option<String> {
    let job = place.job.filter(|_| place.standing == NodeState::Active)?;
    let blocked = case.blocked.find(&job.name_any())?;
    Some(blocked.message.clone())
}
