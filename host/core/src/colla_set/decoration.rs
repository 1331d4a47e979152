//! PodDecorations of KusionStack: Operon applies none of them, and says so on the CollaSets that they are for.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{
    ResourceExt as _,
    core::{Selector, SelectorExt as _},
};
use operon_api::{
    PodDecoration,
    colla_set::CollaSetStatus,
    conditions::{POD_DECORATIONS_NOT_APPLIED, condition},
};

use super::{Seen, selection::texts};
use crate::{jobs::text::short, pod_lifecycle::labels::Labels};

/// The reason of the condition.
const REASON: &str = "NotSupported";

/// How many PodDecorations are named.
const NAMED: usize = 10;

/// How long a message may be.
const MESSAGE: usize = 1024;

/// The condition that names the PodDecorations which select the pods of the template, if there are any.
pub(super) fn not_applied(seen: &Seen, previous: &CollaSetStatus) -> Option<Condition> {
    let labels = texts(&seen.object.spec.template, "labels");
    let selecting = seen.decorations.iter().filter(|one| selects(one, &labels));
    let mut names: Vec<_> = selecting
        .map(|one| format!("{:?}", one.name_any()))
        .collect();
    names.sort_unstable();
    let (first, more) = names.split_at(names.len().min(NAMED));
    let more = match more.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let message = format!(
        "PodDecorations are not applied, but {}{more} select the pods. New pods do not get what these \
         PodDecorations add. Add it to spec.template instead, and delete the PodDecorations",
        first.join(", ")
    );
    (!names.is_empty()).then(|| {
        condition(
            &previous.conditions,
            POD_DECORATIONS_NOT_APPLIED,
            "True",
            REASON,
            &short(&message, MESSAGE),
            seen.object.metadata.generation,
            seen.now,
        )
    })
}

/// Whether a PodDecoration is for pods with these labels. As in KusionStack, without a selector it is for none.
fn selects(decoration: &PodDecoration, labels: &Labels) -> bool {
    let selector = decoration.spec.selector.clone().map(Selector::try_from);
    decoration.metadata.deletion_timestamp.is_none()
        && selector.is_some_and(|selector| selector.is_ok_and(|selector| selector.matches(labels)))
}
