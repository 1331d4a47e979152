//! One Job of a DaemonJob: what it was created for, how it is rendered, and who owns a Job that already has
//! its name.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{batch::v1::Job, core::v1::Pod},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
    jiff::Timestamp,
};
use kube::ResourceExt;
use operon_api::{
    DaemonJob, embedded::JobSpec, job_flow::GlobalParams, keys, reactive_job::Outcome,
};
use serde_json::{Value, json};

use crate::{
    action::Failure,
    driver::{Claim, Start},
    jobs::{
        self, held, name,
        owned::{is_owned, not_owned, owner},
        render::{Overlay, render},
        time::first_seen,
    },
};

/// On every pod of a Job, from Kubernetes itself: the Job's name.
const JOB_NAME: &str = "job-name";

/// What a Job is created for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Purpose<'a> {
    pub(super) marks: Marks<'a>,
    /// How many Jobs of the node failed before.
    pub(super) failures: u32,
    /// The value of the annotation `operon.dev/retry` that it runs for.
    pub(super) token: Option<&'a str>,
    /// The wave of the node, if there are waves.
    pub(super) wave: Option<&'a str>,
    pub(super) timeout: Option<i32>,
    pub(super) tolerates_all: bool,
}

/// The marks on a Job and its pods that name what they were created for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Marks<'a> {
    /// The node's name.
    pub(super) node: &'a str,
    pub(super) node_uid: &'a str,
    pub(super) revision: &'a str,
    /// Counted from 1.
    pub(super) attempt: u32,
}

impl<'a> Marks<'a> {
    /// Reads the marks of a Job or a pod. An object that lacks one of them is not ours.
    pub(super) fn of(metadata: &'a ObjectMeta) -> Option<Self> {
        let labels = metadata.labels.as_ref()?;
        let annotations = metadata.annotations.as_ref()?;
        let attempt = annotations.get(keys::RUN_ATTEMPT)?.parse().ok()?;
        Some(Self {
            node: annotations.get(keys::NODE_NAME)?,
            node_uid: labels.get(keys::NODE_UID)?,
            revision: annotations.get(keys::REVISION)?,
            attempt,
        })
    }

    /// The wanted name of the Job.
    fn wanted_name(&self, object: &DaemonJob) -> String {
        let (own, node, attempt) = (object.name_any(), self.node, self.attempt);
        match attempt {
            0 | 1 => format!("{own}-{node}"),
            _ => format!("{own}-{node}-{attempt}"),
        }
    }

    /// The key that distinguishes its name from others that would be shortened to the same name.
    fn key(&self, object: &DaemonJob) -> String {
        json!([object.uid(), self.node_uid, self.revision, self.attempt]).to_string()
    }
}

/// Which attempt a Job is.
pub(super) fn attempt(job: &Job) -> u32 {
    Marks::of(&job.metadata).map_or(1, |marks| marks.attempt.max(1))
}

/// Whether a Job succeeded.
pub(super) fn is_successful(job: &Job) -> bool {
    jobs::finish(job).is_some_and(|finish| finish.outcome == Outcome::Succeeded)
}

/// The names that a Job of these marks may have, the first being the name that it gets unless another
/// owner's Job has it. The same marks always give the same names.
pub(super) fn names(object: &DaemonJob, marks: &Marks<'_>) -> Vec<String> {
    name::names(
        &marks.wanted_name(object),
        &marks.key(object),
        &object.spec.job,
    )
}

/// Whether a Job belongs to an object. A Job of another namespace, a Job that the object does not own, and
/// a copy, whose name differs from the name that its marks give, do not.
pub(super) fn is_own(object: &DaemonJob, job: &Job) -> bool {
    is_owned(object, job) && is_of_own_job(object, &job.metadata, &job.name_any())
}

/// Whether a pod is of a Job that belongs, or belonged, to an object: the Job may be deleted.
pub(super) fn is_own_pod(object: &DaemonJob, pod: &Pod) -> bool {
    let job = pod.labels().get(JOB_NAME);
    job.is_some_and(|job| is_of_own_job(object, &pod.metadata, job))
}

/// Whether something of a Job of this name has the marks of this object, and they give that name.
fn is_of_own_job(object: &DaemonJob, metadata: &ObjectMeta, job: &str) -> bool {
    let uid = object.metadata.uid.as_ref();
    let labels = metadata.labels.as_ref();
    let is_labelled = uid.is_some() && labels.and_then(|labels| labels.get(keys::OWNER_UID)) == uid;
    let has_name = |marks: Marks<'_>| {
        let (wanted, key) = (marks.wanted_name(object), marks.key(object));
        name::is_name(job, &wanted, &key)
    };
    is_labelled
        && metadata.namespace == object.metadata.namespace
        && Marks::of(metadata).is_some_and(has_name)
}

/// Whether an object's `spec.suspend` is true.
pub(super) fn is_suspended(object: &DaemonJob) -> bool {
    object.spec.job.at(&["suspend"]) == Some(&json!(true))
}

/// Whether another controller runs an object: then nothing of it is written.
pub(super) fn is_foreign(object: &DaemonJob) -> bool {
    let managed_by = object.spec.job.at(&["managedBy"]);
    held::is_foreign(managed_by.and_then(Value::as_str))
}

/// The parameters that an object sets for its Jobs. `suspend` and `managedBy` are about the object itself.
pub(super) fn spec(object: &DaemonJob) -> JobSpec {
    let mut spec = object.spec.job.clone();
    spec.0
        .retain(|key, _| !matches!(key.as_str(), "suspend" | "managedBy"));
    spec
}

/// When a Job is deleted after it finished, by the present spec of its object.
fn ttl(object: &DaemonJob) -> Option<&Value> {
    let ttl = object.spec.job.at(&["ttlSecondsAfterFinished"]);
    ttl.filter(|ttl| !ttl.is_null())
}

/// The merge patch of a Job whose object got another `ttlSecondsAfterFinished`; no other field is written.
pub(super) fn ttl_edit(object: &DaemonJob, job: &Job) -> Option<Value> {
    let (known, wanted) = (job.annotations().get(keys::TTL), ttl(object));
    let wanted_text = wanted.map(Value::to_string);
    if known == wanted_text.as_ref() {
        return None;
    }
    let mut patch = json!({"metadata": {"annotations": {keys::TTL: wanted_text}}});
    let spec = job.spec.as_ref();
    let has_one = spec.is_some_and(|spec| spec.ttl_seconds_after_finished.is_some());
    if has_one {
        patch["spec"] = json!({"ttlSecondsAfterFinished": wanted});
    }
    Some(patch)
}

/// The Job itself, without a name. The keys that identify its owner override the user's, and are on its
/// pods too, which may outlive the Job.
///
/// # Errors
/// A spec that no Job can be rendered from.
pub(super) fn body(object: &DaemonJob, purpose: &Purpose<'_>) -> Result<Value, Failure> {
    let mut rendered = render(
        &spec(object),
        &Overlay {
            global: Some(&marked(object, &purpose.marks)),
            node: Some(purpose.marks.node),
            tolerates_all: purpose.tolerates_all,
            timeout: purpose.timeout,
            queue: held::queue(object),
            ..Overlay::default()
        },
    )?;
    let ttl = rendered.ttl.as_ref().map(Value::to_string);
    set(&mut rendered.annotations, keys::TTL, ttl);
    let failures = purpose.failures.to_string();
    set(&mut rendered.annotations, keys::FAILURES, Some(failures));
    let token = purpose.token.map(str::to_owned);
    set(&mut rendered.annotations, keys::RETRY, token);
    let wave = purpose.wave.map(str::to_owned);
    set(&mut rendered.annotations, keys::WAVE, wave);
    // By this one a JobTemplate finds its Jobs.
    set(&mut rendered.annotations, keys::JOB_TEMPLATE, None);
    Ok(json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "namespace": object.namespace(),
            "labels": rendered.labels,
            "annotations": rendered.annotations,
            "ownerReferences": [owner(object)],
        },
        "spec": rendered.spec,
    }))
}

/// The metadata of a Job and its pods: the user's, and the marks.
fn marked(object: &DaemonJob, marks: &Marks<'_>) -> GlobalParams {
    let Marks {
        node,
        node_uid,
        revision,
        attempt,
    } = marks;
    let mut global = object.spec.global_params.clone().unwrap_or_default();
    let (labels, annotations) = (&mut global.labels, &mut global.annotations);
    set(labels, keys::OWNER_UID, object.uid());
    set(labels, keys::NODE_UID, Some((*node_uid).to_owned()));
    set(annotations, keys::NODE_NAME, Some((*node).to_owned()));
    set(annotations, keys::REVISION, Some((*revision).to_owned()));
    set(annotations, keys::RUN_ATTEMPT, Some(attempt.to_string()));
    global
}

/// Sets one of our keys, or removes the user's value.
fn set(map: &mut BTreeMap<String, String>, key: &str, value: Option<String>) {
    match value {
        Some(value) => map.insert(key.to_owned(), value),
        None => map.remove(key),
    };
}

/// Returns who owns a Job that already has a name of `start`; `adopts` decides whether a Job that another
/// operator created for the same object is taken over.
///
/// Guarantees that a Job is never taken for one of another node, revision or attempt: the second attempt of
/// `a` has the same name as the first attempt of a node `a-2`. If some marks of a Job were removed, and it
/// can be no other Job, the marks are restored.
pub(super) fn claim(
    object: &DaemonJob,
    start: &Start,
    adopts: bool,
    job: &Job,
    now: Timestamp,
) -> Claim {
    let owners = job.owner_references().iter();
    let mut others = owners.filter(|owner| Some(&owner.uid) != object.metadata.uid.as_ref());
    let has_other_controller = others.any(|owner| owner.controller == Some(true));
    if !is_owned(object, job) {
        let status = object.status.as_ref();
        let conditions = status.map_or(&[][..], |status| &status.conditions);
        return not_owned(object, job, first_seen(conditions, now), now);
    }
    if has_other_controller {
        return Claim::Others;
    }
    if is_this(start, job) {
        if is_own(object, job) {
            return Claim::Mine;
        }
        return Claim::Adopt(adoption(object, start, job));
    }
    let is_unmarked = [keys::OWNER_UID, keys::NODE_UID]
        .iter()
        .all(|key| !job.labels().contains_key(*key));
    let is_first = start.body["metadata"]["annotations"][keys::RUN_ATTEMPT] == "1"
        && start.names.first() == Some(&job.name_any());
    if adopts && is_unmarked && is_first {
        return Claim::Adopt(adoption(object, start, job));
    }
    Claim::Others
}

/// Whether a Job was created for the same as `start`, whoever owns it: each of these marks names node,
/// revision or attempt, and none of them may be missing or different.
fn is_this(start: &Start, job: &Job) -> bool {
    let metadata = &start.body["metadata"];
    let label = |key: &str| job.labels().get(key).map(String::as_str);
    let annotation = |key: &str| job.annotations().get(key).map(String::as_str);
    let is_of_object = label(keys::OWNER_UID)
        .is_none_or(|uid| Some(uid) == metadata["labels"][keys::OWNER_UID].as_str());
    is_of_object
        && label(keys::NODE_UID) == metadata["labels"][keys::NODE_UID].as_str()
        && [keys::REVISION, keys::RUN_ATTEMPT]
            .iter()
            .all(|key| annotation(key) == metadata["annotations"][*key].as_str())
}

/// The merge patch with which a Job is this object's.
fn adoption(object: &DaemonJob, start: &Start, job: &Job) -> Value {
    let others = job.owner_references().iter();
    let others = others.filter(|owner| Some(&owner.uid) != object.metadata.uid.as_ref());
    let owners: Vec<_> = others.cloned().chain(owner(object)).collect();
    let metadata = &start.body["metadata"];
    json!({"metadata": {
        "labels": metadata["labels"],
        "annotations": metadata["annotations"],
        "ownerReferences": owners,
    }})
}

#[cfg(test)]
mod tests {
    use operon_api::daemon_job::DaemonJobSpec;

    use super::*;

    fn object(name: &str, spec: Value) -> DaemonJob {
        let spec: DaemonJobSpec = serde_json::from_value(spec).expect("a spec");
        let mut object = DaemonJob::new(name, spec);
        object.metadata.uid = Some("object".to_owned());
        object
    }

    fn marks(node: &str) -> Marks<'_> {
        Marks {
            node,
            node_uid: "uid",
            revision: "revision",
            attempt: 1,
        }
    }

    /// Whether it can be the value of a label, as the name of a Job must be.
    fn is_label(name: &str) -> bool {
        let is_end = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        name.len() <= 63
            && name.starts_with(is_end)
            && name.ends_with(is_end)
            && name.chars().all(|c| is_end(c) || c == '-' || c == '.')
    }

    #[test]
    fn a_name_is_only_shortened_when_it_is_too_long() {
        let object = object("daemonjob-example", json!({}));
        for (node, first) in [
            ("vm-0-12-centos", Some("daemonjob-example-vm-0-12-centos")),
            (
                "ip-10-0-0-1.ec2.internal",
                Some("daemonjob-example-ip-10-0-0-1.ec2.internal"),
            ),
            (&"n".repeat(253), None),
            (&format!("{}.example", "n.".repeat(60)), None),
        ] {
            let names = names(&object, &marks(node));
            if let Some(first) = first {
                assert_eq!(names[0], first);
            }
            for name in &names {
                assert!(is_label(name), "{name}");
            }
            let again = Marks {
                attempt: 2,
                ..marks(node)
            };
            let again = super::names(&object, &again);
            assert!(
                again
                    .iter()
                    .all(|name| is_label(name) && !names.contains(name))
            );
            if let Some(first) = first {
                assert_eq!(again[0], format!("{first}-2"));
            }
        }
    }

    #[test]
    fn pods_of_an_indexed_job_can_have_its_name_as_host_name() {
        let spec = json!({"completionMode": "Indexed", "completions": 1000});
        let object = object("dj", spec);
        let long = "n".repeat(100);
        for (node, first) in [("a.b", Some("dj-a-b")), (long.as_str(), None)] {
            let names = names(&object, &marks(node));
            assert!(first.is_none_or(|first| names[0] == first));
            for name in names {
                assert!(
                    is_label(&format!("{name}-9999")) && !name.contains('.'),
                    "{name}"
                );
            }
        }
    }

    #[test]
    fn names_differ_by_node_revision_and_attempt() {
        let object = object("dj", json!({}));
        let node = "n".repeat(253);
        let one = marks(&node);
        let first = |marks: &Marks<'_>| names(&object, marks)[0].clone();
        let others = [
            Marks {
                node_uid: "other",
                ..one.clone()
            },
            Marks {
                revision: "other",
                ..one.clone()
            },
            Marks {
                attempt: 2,
                ..one.clone()
            },
        ];
        assert!(others.iter().all(|other| first(other) != first(&one)));
    }
}
