//! What an edit changes on the newest Job itself, if only the pod template runs a new one.

use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use operon_api::reactive_job::{Inputs, TemplateTrigger};
use serde_json::{Map, Value, json};

use super::{Observed, plan::triggers};
use crate::jobs;

/// The fields that Kubernetes lets one change while a Job runs, if only the pod template counts.
const ADJUSTABLE: [&str; 5] = [
    "suspend",
    "parallelism",
    "backoffLimit",
    "activeDeadlineSeconds",
    "ttlSecondsAfterFinished",
];

/// What the template says otherwise than the newest Job, of what can be changed in place.
pub(super) fn adjust(
    observed: &Observed<'_>,
    newest: &Arc<Job>,
    inputs: &Inputs,
) -> Option<(Arc<Job>, Value)> {
    let counts = triggers(observed.object).template.unwrap_or_default();
    // What others change meanwhile is theirs, until the template is edited.
    let is_edited = !observed.template.is_whole(&inputs.template_hash);
    if counts == TemplateTrigger::JobTemplate || !is_edited || jobs::is_deleted(newest) {
        return None;
    }
    let wanted = observed.object.spec.job_template.at(&["spec"])?;
    let spec = json!(newest.spec);
    let is_finished = jobs::finish(newest).is_some();
    let mut patch = Map::new();
    for field in ADJUSTABLE {
        let wanted = wanted.get(field).filter(|wanted| !wanted.is_null());
        let wanted = match (field, wanted) {
            ("suspend", None) => &Value::Bool(false),
            (_, Some(wanted)) => wanted,
            (_, None) => continue,
        };
        let is_pointless = is_finished && field != "ttlSecondsAfterFinished";
        let now = match (field, spec.get(field)) {
            ("suspend", None) => &Value::Bool(false),
            (_, now) => now.unwrap_or(&Value::Null),
        };
        if !is_pointless && now != wanted {
            patch.insert(field.to_owned(), wanted.clone());
        }
    }
    (!patch.is_empty()).then(|| (Arc::clone(newest), json!({"spec": patch})))
}
