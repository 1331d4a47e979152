//! One Job of a DaemonJob: what it was made for, and how one is made.

use k8s_openapi::{api::batch::v1::Job, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::{Resource, ResourceExt};
use operon_api::{DaemonJob, keys, reactive_job::Outcome};
use serde_json::{Value, json};

use crate::{
    action::Failure,
    jobs::{
        self,
        name::{self, five},
        render::{Overlay, render},
    },
};

/// What a Job is made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Purpose<'a> {
    pub(super) node: &'a str,
    pub(super) node_uid: &'a str,
    pub(super) revision: &'a str,
    /// Counted from 1.
    pub(super) attempt: u32,
    /// The value of the annotation `operon.dev/retry` that it runs for.
    pub(super) token: Option<&'a str>,
    pub(super) timeout: Option<i32>,
    pub(super) tolerates_all: bool,
}

/// Which attempt a Job is.
pub(super) fn attempt(job: &Job) -> u32 {
    let number = jobs::number(job, keys::RUN_ATTEMPT);
    number
        .and_then(|n| u32::try_from(n).ok())
        .unwrap_or(1)
        .max(1)
}

/// The uid of the node that a Job is for, and what it was made from. One that does not say is not ours.
pub(super) fn marks(job: &Job) -> Option<(&str, &str)> {
    let node = job.labels().get(keys::NODE_UID)?;
    let revision = job.annotations().get(keys::REVISION)?;
    Some((node, revision))
}

/// Whether a Job succeeded.
pub(super) fn is_successful(job: &Job) -> bool {
    jobs::finish(job).is_some_and(|finish| finish.outcome == Outcome::Succeeded)
}

/// The names that a Job of this purpose may have, the first being the one it gets unless somebody
/// else's Job has it. Whoever makes a Job for the same purpose gets the same names.
pub(super) fn names(object: &DaemonJob, purpose: &Purpose<'_>) -> Vec<String> {
    let (own, node, attempt) = (object.name_any(), purpose.node, purpose.attempt);
    let wanted = match attempt {
        0 | 1 => format!("{own}-{node}"),
        _ => format!("{own}-{node}-{attempt}"),
    };
    let key = json!([object.uid(), purpose.node_uid, purpose.revision, attempt]).to_string();
    let is_indexed = object.spec.job.at(&["completionMode"]) == Some(&json!("Indexed"));
    if !is_indexed {
        return name::names(&wanted, &key);
    }
    indexed(&wanted, &key, object.spec.job.at(&["completions"]))
}

/// Pods of an Indexed Job have its name and their index as host names: no dots, and no more than 63
/// characters with the highest index.
fn indexed(wanted: &str, key: &str, completions: Option<&Value>) -> Vec<String> {
    let completions = completions.and_then(Value::as_i64).unwrap_or(1);
    let room = name::MAX.saturating_sub(1 + completions.to_string().len());
    let plain = wanted.replace('.', "-");
    let beginning: String = plain.chars().take(room.saturating_sub(6)).collect();
    let beginning = beginning.trim_end_matches('-');
    let salted = (0..3).map(|salt| format!("{beginning}-{}", five(&format!("{key}{salt}"))));
    let fits = (plain.len() <= room).then(|| plain.clone());
    fits.into_iter().chain(salted).collect()
}

/// The Job itself, without a name. The keys that say whose it is win over the user's.
///
/// # Errors
/// What no Job can be made of.
pub(super) fn body(object: &DaemonJob, purpose: &Purpose<'_>) -> Result<Value, Failure> {
    let mut rendered = render(
        &object.spec.job,
        &Overlay {
            global: object.spec.global_params.as_ref(),
            node: Some(purpose.node),
            tolerates_all: purpose.tolerates_all,
            timeout: purpose.timeout,
            ..Overlay::default()
        },
    )?;
    let labels = [
        (keys::OWNER_UID, object.uid()),
        (keys::NODE_UID, Some(purpose.node_uid.to_owned())),
    ];
    let annotations = [
        (keys::NODE_NAME, Some(purpose.node.to_owned())),
        (keys::REVISION, Some(purpose.revision.to_owned())),
        (keys::RUN_ATTEMPT, Some(purpose.attempt.to_string())),
        (keys::TTL, rendered.ttl.as_ref().map(Value::to_string)),
        (keys::RETRY, purpose.token.map(str::to_owned)),
    ];
    for (key, value) in labels {
        rendered.labels.extend(value.map(|v| (key.to_owned(), v)));
    }
    for (key, value) in annotations {
        rendered.annotations.remove(key);
        rendered
            .annotations
            .extend(value.map(|v| (key.to_owned(), v)));
    }
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

/// What names an object as the owner of its Jobs.
fn owner(object: &DaemonJob) -> Option<OwnerReference> {
    Some(OwnerReference {
        block_owner_deletion: Some(true),
        ..object.controller_owner_ref(&())?
    })
}

/// The merge patch that gives a finished Job the time to live that was held back.
pub(super) fn ttl_patch(job: &Job) -> Option<Value> {
    let spec = job.spec.as_ref();
    let has_one = spec.is_some_and(|spec| spec.ttl_seconds_after_finished.is_some());
    if has_one || jobs::is_deleted(job) || jobs::finish(job).is_none() {
        return None;
    }
    let ttl = jobs::number(job, keys::TTL).filter(|ttl| *ttl >= 0)?;
    Some(json!({"spec": {"ttlSecondsAfterFinished": ttl}}))
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

    fn purpose(node: &str) -> Purpose<'_> {
        Purpose {
            node,
            node_uid: "uid",
            revision: "revision",
            attempt: 1,
            token: None,
            timeout: None,
            tolerates_all: false,
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
    fn dj_10_a_name_is_only_shortened_when_it_is_too_long() {
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
            let names = names(&object, &purpose(node));
            if let Some(first) = first {
                assert_eq!(names[0], first);
            }
            for name in &names {
                assert!(is_label(name), "{name}");
            }
            let again = Purpose {
                attempt: 2,
                ..purpose(node)
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
            let names = names(&object, &purpose(node));
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
        let one = purpose(&node);
        let first = |purpose: &Purpose<'_>| names(&object, purpose)[0].clone();
        let others = [
            Purpose {
                node_uid: "other",
                ..one.clone()
            },
            Purpose {
                revision: "other",
                ..one.clone()
            },
            Purpose {
                attempt: 2,
                ..one.clone()
            },
        ];
        assert!(others.iter().all(|other| first(other) != first(&one)));
        let token = Purpose {
            token: Some("now"),
            ..one.clone()
        };
        assert_eq!(first(&token), first(&one));
    }
}
