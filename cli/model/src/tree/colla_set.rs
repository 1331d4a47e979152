//! A CollaSet: its pods, below a pod that is being replaced its new pod, and how many pods its partition keeps back.

use k8s_openapi::api::core::v1::Pod;
use operon_api::{CollaSet, keys};

use super::{Mark, Row};
use crate::{Related, Wanted, pod, text::count, verb::promote::outdated};

/// The pods of the CollaSet.
pub(crate) fn wanted(set: &CollaSet) -> Wanted {
    Wanted {
        pods: set
            .status
            .as_ref()
            .and_then(|status| status.selector.clone()),
        ..Wanted::default()
    }
}

pub(super) fn rows(set: &CollaSet, related: &Related) -> Vec<Row> {
    let ours = |pod: &&Pod| {
        let mut owners = pod.metadata.owner_references.iter().flatten();
        owners.any(|owner| Some(&owner.uid) == set.metadata.uid.as_ref())
    };
    let pods: Vec<_> = related.pods.iter().filter(ours).collect();
    let (new, others): (Vec<&Pod>, Vec<&Pod>) = pods.iter().partition(|pod| {
        let origin = label(pod, keys::PAIR_ORIGIN_NAME);
        origin.is_some_and(|origin| pods.iter().any(|other| pod::name(other) == origin))
    });
    let mut ready = 0;
    let mut rows = Vec::new();
    for origin in others {
        let is_of_pair =
            |new: &&&Pod| label(new, keys::PAIR_ORIGIN_NAME) == Some(pod::name(origin));
        let mut row = pod::row(origin);
        row.children = new
            .iter()
            .filter(is_of_pair)
            .map(|new| pod::row(new))
            .collect();
        if label(origin, keys::TO_REPLACE).is_some() {
            "being replaced".clone_into(&mut row.text);
            row.mark = row.mark.min(Mark::Running);
        }
        if row.mark == Mark::Done {
            ready += 1;
        } else {
            rows.push(row);
        }
    }
    rows.extend(held_back(set));
    if ready > 0 {
        let verb = if ready == 1 { "is" } else { "are" };
        rows.push(Row::new(
            Mark::Done,
            format!("{} {verb} Ready", count(ready, "pod")),
            "",
        ));
    }
    rows
}

/// The pods that keep the previous revision because of the partition.
fn held_back(set: &CollaSet) -> Option<Row> {
    let (kept, partition) = (outdated(set).min(set.partition()), set.partition());
    if kept == 0 || set.is_updated_by_label() {
        return None;
    }
    let verb = if kept == 1 { "keeps" } else { "keep" };
    let name = format!("{} {verb} the previous revision", count(kept, "pod"));
    let set = set.metadata.name.as_deref().unwrap_or_default();
    Some(Row {
        next: Some(format!("kubectl operon promote cls/{set}")),
        ..Row::new(Mark::Waiting, name, "")
            .saying("WaitingForPartition", format!("partition is {partition}"))
    })
}

fn label<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata.labels.as_ref()?.get(key).map(String::as_str)
}
