//! One Job of a ReactiveJob: its outcome, and how the next one is rendered.

use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use operon_api::{ReactiveJob, keys, reactive_job::RunReason};
use serde_json::{Value, json};

use super::adjust;
use crate::{
    driver::Claim,
    jobs::{self, owned::owner},
};

/// How many names are tried if other owners' Jobs have them.
pub(super) const NAMES: u32 = 4;

/// Returns who owns a Job that already has a name of this `body`: both are labelled with the uid of the
/// object that they are for.
pub(super) fn claim(body: &Value, job: &Job) -> Claim {
    let owner = body["metadata"]["labels"][keys::CONTROLLER_UID].as_str();
    let label = job.labels().get(keys::CONTROLLER_UID).map(String::as_str);
    if owner.is_some() && label == owner {
        Claim::Mine
    } else {
        Claim::Others
    }
}

/// Which attempt a Job is, counted from 1.
pub(super) fn attempt(job: &Job) -> i64 {
    jobs::number(job, keys::RUN_ATTEMPT).unwrap_or(1).max(1)
}

/// Why a Job was created; unknown for a Job that was taken over.
pub(super) fn reason(job: &Job) -> RunReason {
    if job.annotations().contains_key(keys::ADOPTED) {
        return RunReason::Adopted;
    }
    let known = [
        RunReason::Created,
        RunReason::TemplateChanged,
        RunReason::ConfigChanged,
        RunReason::RerunRequested,
        RunReason::Retry,
        RunReason::JobLost,
    ];
    let said = job.annotations().get(keys::RUN_REASON);
    let found = known
        .into_iter()
        .find(|reason| said.is_some_and(|said| said == reason.as_str()));
    found.unwrap_or(RunReason::Adopted)
}

/// What a Job is created for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Purpose {
    pub(super) number: i64,
    pub(super) attempt: i64,
    pub(super) reason: RunReason,
    /// The uid of the Job before; empty for the first.
    pub(super) after: String,
    pub(super) template_hash: String,
    pub(super) stored_template_hash: String,
    pub(super) pod_template_hash: String,
    /// As the annotation has it.
    pub(super) config: Option<String>,
    pub(super) rerun: Option<String>,
}

/// The names that a Job of this purpose may have, the first being the name that it gets unless another
/// owner's Job has it. The same purpose always gives the same names.
pub(super) fn names(object: &str, uid: &str, purpose: &Purpose) -> Vec<String> {
    let Purpose {
        number,
        attempt,
        reason: _,
        after,
        template_hash,
        stored_template_hash: _,
        pod_template_hash: _,
        config,
        rerun,
    } = purpose;
    let config = config.as_deref().unwrap_or_default();
    let rerun = rerun.as_deref().unwrap_or_default();
    let key = json!([uid, after, number, attempt, template_hash, config, rerun]);
    (0..NAMES)
        .map(|salt| format!("{object}-{}", jobs::name::five(&format!("{key}{salt}"))))
        .collect()
}

/// Whether a Job has one of the names that its own annotations give it: a copy under another name, or
/// a Job by hand, has not.
pub(super) fn is_made_here(object: &str, job: &Job) -> bool {
    let annotation = |key: &str| job.annotations().get(key).cloned();
    let (Some(uid), Some(number), Some(template_hash)) = (
        job.labels().get(keys::CONTROLLER_UID),
        jobs::number(job, keys::RUN),
        annotation(keys::CONTROLLER_HASH),
    ) else {
        return false;
    };
    let purpose = Purpose {
        number,
        attempt: attempt(job),
        reason: reason(job),
        after: annotation(keys::RUN_AFTER).unwrap_or_default(),
        template_hash,
        stored_template_hash: String::new(),
        pod_template_hash: String::new(),
        config: annotation(keys::CONFIG),
        rerun: annotation(keys::RERUN),
    };
    names(object, uid, &purpose).contains(&job.name_any())
}

/// The Job itself, without a name: the template, with the keys that identify its owner. Our keys override
/// the user's; everything else is as the user wrote it.
pub(super) fn body(object: &ReactiveJob, purpose: &Purpose) -> Value {
    let template = &object.spec.job_template;
    // An API server takes null for absent.
    let own = |field: &str| {
        template
            .at(&["metadata", field])
            .filter(|value| !value.is_null())
    };
    let mut metadata = json!({
        "namespace": object.namespace(),
        "labels": own("labels").cloned().unwrap_or(json!({})),
        "annotations": own("annotations").cloned().unwrap_or(json!({})),
        "finalizers": own("finalizers").cloned().unwrap_or(json!([])),
        "ownerReferences": [owner(object)],
    });
    let labels = [
        (keys::CONTROLLER_UID, object.uid()),
        (keys::CONTROLLER_NAME, Some(object.name_any())),
    ];
    set(&mut metadata["labels"], labels);
    let Purpose {
        number,
        attempt,
        reason,
        after,
        template_hash,
        stored_template_hash,
        pod_template_hash,
        config,
        rerun,
    } = purpose;
    let generation = object.metadata.generation.unwrap_or_default();
    let (is_suspended, applied) = (adjust::is_suspended(object), adjust::applied(object));
    let annotations = [
        (keys::CONTROLLER_GENERATION, Some(generation.to_string())),
        (keys::CONTROLLER_HASH, Some(template_hash.clone())),
        (keys::TEMPLATE_HASH, Some(stored_template_hash.clone())),
        (keys::POD_TEMPLATE_HASH, Some(pod_template_hash.clone())),
        (keys::CONFIG, config.clone()),
        (keys::RUN, Some(number.to_string())),
        (keys::RUN_REASON, Some(reason.as_str().to_owned())),
        (keys::RUN_ATTEMPT, Some(attempt.to_string())),
        (
            keys::RUN_AFTER,
            (!after.is_empty()).then(|| after.to_owned()),
        ),
        (keys::RERUN, rerun.clone()),
        (keys::ADOPTED, None),
        (keys::SUSPENDED, is_suspended.then(|| "true".to_owned())),
        (
            keys::APPLIED,
            (!applied.is_empty()).then(|| json!(applied).to_string()),
        ),
    ];

    set(&mut metadata["annotations"], annotations);
    if let Some(finalizers) = metadata["finalizers"].as_array_mut() {
        finalizers.retain(|finalizer| finalizer != keys::REACTIVE_JOB_FINALIZER);
        finalizers.push(json!(keys::REACTIVE_JOB_FINALIZER));
    }
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": template.at(&["spec"]).cloned().unwrap_or(json!({})),
    })
}

/// Sets these keys, and takes off those without a value.
fn set<const N: usize>(map: &mut Value, pairs: [(&str, Option<String>); N]) {
    if let Some(map) = map.as_object_mut() {
        for (key, value) in pairs {
            match value {
                Some(value) => map.insert(key.to_owned(), json!(value)),
                None => map.remove(key),
            };
        }
    }
}
