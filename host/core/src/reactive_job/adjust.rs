//! The changes of an edit to the newest Job itself, if only the pod template runs a new one. Only fields
//! that the user edited are written: the fields that another controller, such as a queue, wrote into the
//! Job stay.

use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use operon_api::{
    ReactiveJob, keys,
    reactive_job::{Inputs, TemplateTrigger},
};
use serde_json::{Map, Value, json};

use super::{Observed, plan::triggers};
use crate::jobs::{self, held::suspend_patch};

/// The fields besides `suspend` that Kubernetes lets one change while a Job runs.
const ADJUSTABLE: [&str; 4] = [
    "parallelism",
    "backoffLimit",
    "activeDeadlineSeconds",
    "ttlSecondsAfterFinished",
];

/// The template's value of a field of the Job's spec; null counts as absent.
fn wanted<'a>(object: &'a ReactiveJob, field: &str) -> Option<&'a Value> {
    let value = object.spec.job_template.at(&["spec", field]);
    value.filter(|value| !value.is_null())
}

/// Whether the template suspends its Job.
pub(super) fn is_suspended(object: &ReactiveJob) -> bool {
    wanted(object, "suspend") == Some(&Value::Bool(true))
}

/// The template's values of the fields that can be changed in place.
pub(super) fn applied(object: &ReactiveJob) -> Map<String, Value> {
    let fields = ADJUSTABLE.iter();
    let fields = fields.filter_map(|field| Some((field, wanted(object, field)?)));
    fields
        .map(|(field, value)| ((*field).to_owned(), value.clone()))
        .collect()
}

/// The changed values of the template, of the fields that can be changed in place.
pub(super) fn adjust(
    observed: &Observed<'_>,
    newest: &Arc<Job>,
    inputs: &Inputs,
) -> Option<(Arc<Job>, Value)> {
    let object = observed.object;
    let counts = triggers(object).template.unwrap_or_default();
    let is_edited = !observed.template.is_whole(&inputs.template_hash);
    if counts == TemplateTrigger::JobTemplate || !is_edited || jobs::is_deleted(newest) {
        return None;
    }
    let known = newest.annotations().get(keys::APPLIED);
    let known = known.and_then(|text| serde_json::from_str::<Map<_, _>>(text).ok());
    let (known, now) = (known.unwrap_or_default(), applied(object));
    let mut patch = suspend_patch(newest, is_suspended(object)).unwrap_or_else(|| json!({}));
    if known != now {
        patch["metadata"]["annotations"][keys::APPLIED] = json!(json!(now).to_string());
    }
    let spec = json!(newest.spec);
    let is_finished = jobs::finish(newest).is_some();
    for (field, value) in &now {
        let is_pointless = is_finished && field != "ttlSecondsAfterFinished";
        if !is_pointless && known.get(field) != Some(value) && spec.get(field) != Some(value) {
            patch["spec"][field] = value.clone();
        }
    }
    (patch != json!({})).then(|| (Arc::clone(newest), patch))
}
