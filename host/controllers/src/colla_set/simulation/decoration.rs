//! A PodDecoration comes and goes, and the CollaSet says that it is not applied.

use k8s_openapi::jiff::Timestamp;
use operon_api::conditions::POD_DECORATIONS_NOT_APPLIED;
use serde_json::{Value, json};

use super::NAME;
use crate::simulation::{Objects, State, plurals::DECORATIONS};

/// A PodDecoration that selects the pods.
const DECORATION: &str = "sidecar";

/// A user creates the PodDecoration, or deletes it.
pub(super) fn decorate(state: &mut State, now: Timestamp) {
    if state.objects.get(DECORATIONS, DECORATION).is_some() {
        return state.objects.delete(DECORATIONS, DECORATION, now);
    }
    let decoration = json!({
        "apiVersion": "apps.kusionstack.io/v1alpha1", "kind": "PodDecoration",
        "metadata": {"name": DECORATION},
        "spec": {"selector": {"matchLabels": {"app": NAME}}},
    });
    state.objects.create(DECORATIONS, decoration, now);
}

/// The CollaSet says so while there is one.
pub(super) fn assert_is_reported(object: &Value, objects: &Objects) {
    let conditions = object["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    let says = conditions.any(|one| one["type"] == POD_DECORATIONS_NOT_APPLIED);
    let is_decorated = objects.get(DECORATIONS, DECORATION).is_some();
    assert_eq!(says, is_decorated, "{object:#}");
}
