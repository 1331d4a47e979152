//! The order in which nodes go: canaries first, then one wave for each value of a label, then the rest;
//! within a wave by name. And how far that has got.

use std::collections::BTreeSet;

use k8s_openapi::{
    api::core::v1::Node,
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::{SignedDuration, Timestamp},
};
use kube::ResourceExt;

use super::{memory::Memory, rollout::Rules, standing::NodeState, survey::Place};

/// Which wave a node is in; waves go in this order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wave {
    /// The nodes that go first.
    Canary,
    /// Those with one value of `rollout.topologyKey`, by `<key>=<value>`: a value alone may be `rest`.
    Value(String),
    /// Those without it.
    Rest,
}

impl Wave {
    /// As the status has it.
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Canary => "canary",
            Self::Value(value) => value,
            Self::Rest => "rest",
        }
    }
}

/// How far the waves have got.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Frontier {
    /// The last wave with a Job that was created or due.
    pub(super) begun: Option<Wave>,
    /// When everything up to that wave was over, if it is.
    pub(super) end: Option<Timestamp>,
    /// The last wave whose nodes may start.
    pub(super) open: Option<Wave>,
    /// What the next one waits for, if not for unfinished nodes.
    pub(super) hold: Option<Hold>,
}

/// What a wave waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// `canary.selector` selects no node.
    NoCanary,
    /// `pauseSeconds`: this wave begins at this time.
    Pause(Wave, Timestamp),
}

/// The wave of each of these places, which are sorted by name; `known` are the canaries that were chosen.
pub(super) fn assign(rules: &Rules, known: &BTreeSet<String>, places: &[Place<'_>]) -> Vec<Wave> {
    let canaries = canaries(rules, known, places);
    let of_label = |node: &Node| {
        let key = rules.topology_key.as_ref();
        let value = key.and_then(|key| Some(format!("{key}={}", node.labels().get(key)?)));
        value.map_or(Wave::Rest, Wave::Value)
    };
    let wave = |place: &Place<'_>| {
        if canaries.contains(&place.digest) {
            Wave::Canary
        } else {
            of_label(place.node)
        }
    };
    places.iter().map(wave).collect()
}

/// The canaries: the chosen nodes, as long as one of them exists. Otherwise nodes that have started come
/// before the others, because a process may have died before it recorded its choice.
fn canaries(rules: &Rules, known: &BTreeSet<String>, places: &[Place<'_>]) -> BTreeSet<String> {
    let Some(rule) = &rules.canary else {
        return BTreeSet::new();
    };
    let chosen = places.iter().filter(|place| known.contains(&place.digest));
    let chosen: BTreeSet<_> = chosen.map(|place| place.digest.clone()).collect();
    if !chosen.is_empty() {
        return chosen;
    }
    let selector = rule.selector.as_ref();
    let is_allowed = |place: &&Place<'_>| selector.is_none_or(|s| s.selects(place.node));
    let allowed = places.iter().filter(is_allowed);
    let (begun, others): (Vec<_>, Vec<_>) = allowed.partition(|place| place.has_begun());
    let count = rule.count(places.len());
    let first = begun.into_iter().chain(others).take(count);
    first.map(|place| place.digest.clone()).collect()
}

/// How far the waves of these places, which are in their order, have got.
pub(super) fn frontier(
    rules: &Rules,
    memory: &Memory<'_>,
    places: &[Place<'_>],
    now: Timestamp,
) -> Frontier {
    let known = known(rules, memory);
    let has_begun = |place: &&Place<'_>| {
        let is_skipped = place.standing == NodeState::Skipped;
        place.has_begun() || is_skipped || known == Some(place.wave.as_str())
    };
    let begun = places.iter().rev().find(has_begun);
    let Some(begun) = begun.map(|place| place.wave.clone()) else {
        return at_the_start(rules, memory, places);
    };
    let is_begun = |place: &&Place<'_>| place.wave <= begun;
    let next = places.iter().find(|place| place.wave > begun);
    if !places
        .iter()
        .filter(is_begun)
        .all(|place| place.standing.is_over())
    {
        return Frontier {
            open: Some(begun.clone()),
            begun: Some(begun),
            end: None,
            hold: None,
        };
    }
    let end = end(memory, &begun, now);
    let next_at = SignedDuration::try_from(rules.pause)
        .ok()
        .and_then(|pause| end.checked_add(pause).ok())
        .unwrap_or(end);
    let (open, hold) = match next {
        Some(next) if now < next_at => {
            (begun.clone(), Some(Hold::Pause(next.wave.clone(), next_at)))
        }
        Some(next) => (next.wave.clone(), None),
        None => (begun.clone(), None),
    };
    Frontier {
        begun: Some(begun),
        end: Some(end),
        open: Some(open),
        hold,
    }
}

/// The wave that began last, by the status: none of its Jobs may have been granted yet. Canaries that are
/// to be chosen come before any other wave.
fn known<'a>(rules: &Rules, memory: &Memory<'a>) -> Option<&'a str> {
    let wave = memory.status?.wave.as_ref()?;
    let is_chosen = rules.canary.is_none() || !memory.ledger.canaries.is_empty();
    is_chosen.then_some(wave.name.as_str())
}

/// Nothing has begun. Without any canary the others must not go first, unless there was one once.
fn at_the_start(rules: &Rules, memory: &Memory<'_>, places: &[Place<'_>]) -> Frontier {
    let Some(first) = places.first() else {
        return Frontier::default();
    };
    let canary = rules.canary.as_ref().filter(|rule| rule.selector.is_some());
    let wants_canary = canary.is_some_and(|rule| rule.count(places.len()) > 0);
    let had_canary = memory.status.is_some_and(|status| status.wave.is_some());
    if wants_canary && !had_canary && first.wave != Wave::Canary {
        return Frontier {
            hold: Some(Hold::NoCanary),
            ..Frontier::default()
        };
    }
    Frontier {
        open: Some(first.wave.clone()),
        ..Frontier::default()
    }
}

/// When it was first seen that the last node up to this wave had finished.
fn end(memory: &Memory<'_>, wave: &Wave, now: Timestamp) -> Timestamp {
    let known = memory.status.and_then(|status| status.wave.as_ref());
    let known = known.filter(|known| known.name == wave.as_str());
    let end = known.and_then(|known| known.completion_time.as_ref());
    end.map_or(now, |Time(end)| *end)
}
