//! The Job of a step: its name, its content, and who owns a Job that already has its name.

use k8s_openapi::{api::batch::v1::Job, jiff::Timestamp};
use kube::ResourceExt;
use operon_api::{
    JobFlow,
    embedded::JobSpec,
    job_flow::{Step, StepStatus},
    keys,
};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{Observed, graph::FlowGraph};
use crate::{
    action::Failure,
    driver::{Claim, Start},
    jobs::{
        self,
        name::{is_name, names},
        owned::{is_owned, not_owned, owner},
        render::{Overlay, render},
        time::first_seen,
    },
};

/// How many characters the digest of a template has.
const REVISION_LENGTH: usize = 16;

/// The reasons why a Job can't be created, found before any request to the API server.
pub(super) const HINDRANCES: [&str; 4] = [
    "TemplateNotFound",
    "NoTemplate",
    "UnknownVolume",
    "VolumeNameTaken",
];

/// Which attempt of its step a Job is, counted from 1.
pub(super) fn attempt(job: &Job) -> i32 {
    let number = jobs::number(job, keys::RUN_ATTEMPT).unwrap_or(1).max(1);
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// The wanted name of the Job of an attempt.
fn wanted_name(flow: &JobFlow, step: &str, attempt: i32) -> String {
    let flow = flow.name_any();
    if attempt == 1 {
        format!("{flow}-{step}")
    } else {
        format!("{flow}-{step}-{attempt}")
    }
}

/// The suffix of an attempt in a shortened name.
fn key(flow: &JobFlow, step: &str, attempt: i32) -> String {
    json!([flow.uid().unwrap_or_default(), step, attempt]).to_string()
}

/// Whether a Job belongs to a flow and has one of the names that its own labels give it: a copy under
/// another name has not.
pub(super) fn is_own(flow: &JobFlow, job: &Job) -> bool {
    let uid = flow.metadata.uid.as_ref();
    let Some(step) = job.labels().get(keys::STEP) else {
        return false;
    };
    let is_labelled = uid.is_some() && job.labels().get(keys::OWNER_UID) == uid;
    let has_name = || {
        let attempt = attempt(job);
        let (wanted, key) = (wanted_name(flow, step, attempt), key(flow, step, attempt));
        is_name(&job.name_any(), &wanted, &key)
    };
    is_labelled && is_owned(flow, job) && has_name()
}

/// The Job of an attempt of a step.
///
/// # Errors
/// Why it can't be created: its template does not exist, or no Job can be rendered from it.
pub(super) fn start(
    observed: &Observed<'_>,
    graph: &FlowGraph,
    step: &Step,
    attempt: i32,
    known: &[StepStatus],
) -> Result<Start, Failure> {
    let flow = observed.flow;
    let spec = template(observed, step)?;
    let global = flow.spec.global_params.as_ref();
    let overlay = Overlay {
        global,
        env: inputs(graph, step, known),
        volumes: &flow.spec.share_volumes,
        mounts: &step.share_volume_mounts,
        node: global.and_then(|global| global.node_name.as_deref()),
        tolerates_all: false,
        timeout: step.timeout_seconds,
        queue: jobs::held::queue(flow),
    };
    let rendered = render(spec, &overlay)?;
    let mut labels = map(&rendered.labels);
    set(&mut labels, keys::OWNER_UID, flow.uid());
    set(&mut labels, keys::STEP, Some(step.name.clone()));
    let made_from = step.job_template_ref.as_ref().map(|name| {
        let namespace = flow.namespace().unwrap_or_default();
        format!("{namespace}.{name}")
    });
    let mut annotations = map(&rendered.annotations);
    set(&mut annotations, keys::JOB_TEMPLATE, made_from);
    set(
        &mut annotations,
        keys::RUN_ATTEMPT,
        Some(attempt.to_string()),
    );
    let step_status = known.iter().find(|known| known.name == step.name);
    let failures = step_status.and_then(|known| known.failures).unwrap_or(0);
    set(&mut annotations, keys::FAILURES, Some(failures.to_string()));
    set(&mut annotations, keys::REVISION, Some(revision(spec)));
    let ttl = rendered.ttl.map(|ttl| ttl.to_string());
    set(&mut annotations, keys::TTL, ttl);
    Ok(Start {
        subject: step.name.clone(),
        names: names(
            &wanted_name(flow, &step.name, attempt),
            &key(flow, &step.name, attempt),
            spec,
        ),
        body: json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {
                "namespace": flow.namespace(),
                "labels": labels,
                "annotations": annotations,
                "ownerReferences": [owner(flow)],
            },
            "spec": rendered.spec,
        }),
    })
}

/// A digest of the template that the Job is rendered from.
fn revision(spec: &JobSpec) -> String {
    let digest = Sha256::digest(json!(spec).to_string());
    let bytes = digest.iter().take(8);
    let number = bytes.fold(0_u64, |number, byte| (number << 8) | u64::from(*byte));
    format!("{number:0REVISION_LENGTH$x}")
}

/// The digest of the template that a Job was rendered from.
pub(super) fn template_hash(job: &Job) -> Option<String> {
    let revision = job.annotations().get(keys::REVISION)?;
    (revision.len() <= REVISION_LENGTH).then(|| revision.clone())
}

/// The template of the Job: the JobTemplate, if one is named.
pub(super) fn template<'a>(
    observed: &'a Observed<'_>,
    step: &'a Step,
) -> Result<&'a JobSpec, Failure> {
    if let Some(name) = &step.job_template_ref {
        let found = observed.templates.get(name);
        return found.map(|found| &found.spec.job_template).ok_or_else(|| {
            Failure::new(
                "TemplateNotFound",
                format!("JobTemplate {name:?} does not exist in this namespace; the step starts when the JobTemplate is created"),
            )
        });
    }
    step.job_template.as_ref().ok_or_else(|| {
        Failure::new(
            "NoTemplate",
            "it has neither jobTemplate nor jobTemplateRef",
        )
    })
}

/// The outputs of other steps that a step takes as inputs, without those that were never written. They are
/// taken literally: in a variable's value, `$(…)` would refer to another variable.
fn inputs(graph: &FlowGraph, step: &Step, known: &[StepStatus]) -> Vec<(String, String)> {
    let inputs = step.inputs.iter();
    inputs
        .filter_map(|input| {
            let from = known.get(graph.step(&input.step)?)?;
            let value = from.outputs.get(&input.output)?;
            Some((input.env.clone(), value.replace('$', "$$")))
        })
        .collect()
}

fn map(pairs: &std::collections::BTreeMap<String, String>) -> Map<String, Value> {
    let pairs = pairs.iter();
    pairs
        .map(|(key, value)| (key.clone(), json!(value)))
        .collect()
}

/// Sets one of our keys, or removes the user's value.
fn set(map: &mut Map<String, Value>, key: &str, value: Option<String>) {
    match value {
        Some(value) => map.insert(key.to_owned(), json!(value)),
        None => map.remove(key),
    };
}

/// Returns who owns a Job that already has a name of `start`.
///
/// Guarantees that a Job is never taken for two steps or two attempts: the second attempt of `a` has the
/// same name as the first attempt of a step `a-2`. `now` limits the wait for a Job that is being deleted.
pub(super) fn claim(flow: &JobFlow, start: &Start, job: &Job, now: Timestamp) -> Claim {
    if !is_owned(flow, job) {
        let status = flow.status.as_ref();
        let conditions = status.map_or(&[][..], |status| &status.conditions);
        return not_owned(flow, job, first_seen(conditions, now), now);
    }
    let labels = &start.body["metadata"]["labels"];
    let annotations = &start.body["metadata"]["annotations"];
    let is_same = |key: &str| job.labels().get(key).map(String::as_str) == labels[key].as_str();
    if is_same(keys::OWNER_UID) && is_same(keys::STEP) {
        let wanted = annotations[keys::RUN_ATTEMPT].as_str();
        let is_this = wanted == Some(attempt(job).to_string().as_str());
        return if is_this { Claim::Mine } else { Claim::Others };
    }
    let is_unmarked = [keys::OWNER_UID, keys::STEP]
        .iter()
        .all(|key| !job.labels().contains_key(*key));
    let is_first = job.name_any() == wanted_name(flow, &start.subject, 1)
        && annotations[keys::RUN_ATTEMPT] == "1";
    let has_other_controller = job.owner_references().iter().any(|owner| {
        owner.controller == Some(true) && Some(&owner.uid) != flow.metadata.uid.as_ref()
    });
    if !is_unmarked || !is_first || has_other_controller {
        return Claim::Others;
    }
    let others = job.owner_references().iter();
    let others = others.filter(|owner| Some(&owner.uid) != flow.metadata.uid.as_ref());
    let owners: Vec<_> = others.cloned().chain(owner(flow)).collect();
    Claim::Adopt(json!({"metadata": {
        "labels": {(keys::OWNER_UID): labels[keys::OWNER_UID], (keys::STEP): labels[keys::STEP]},
        "ownerReferences": owners,
    }}))
}
