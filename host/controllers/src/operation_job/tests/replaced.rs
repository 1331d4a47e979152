//! What is promised of jobs whose action is Replace, checked at the write that could break it.

use operon_action_replace::keys as marks;
use operon_api::operation_job::{Progress, TargetDetail};

use super::{
    promises::{self, Writes},
    workload::{is_live, is_ready, is_serving},
    *,
};
use crate::simulation::{
    Promises, Write, name_of,
    plurals::{OPERATION_JOBS as JOBS, PODS},
};

/// How long a request may take: a new pod that is read just before may be lost meanwhile.
const REQUEST: i64 = 2;

/// When others took the new pod of an origin, by the origin's uid.
pub(super) type Lost = Arc<Mutex<BTreeMap<String, Timestamp>>>;

pub(super) fn text<'a>(pod: &'a Value, part: &str, key: &str) -> Option<&'a str> {
    pod["metadata"][part][key].as_str()
}

pub(super) fn label<'a>(pod: &'a Value, key: &str) -> Option<&'a str> {
    text(pod, "labels", key)
}

pub(super) fn uid(object: &Value) -> &str {
    object["metadata"]["uid"].as_str().unwrap_or_default()
}

/// What is promised of jobs whose action is Replace.
pub(super) struct ReplacePromises {
    jobs: Writes,
    lost: Lost,
}

impl ReplacePromises {
    pub(super) fn new(lost: Lost) -> Self {
        // A pod that is being deleted needs nothing any more.
        let is_marked = |pod: &Value, job: &OperationJob| {
            pod["metadata"]["deletionTimestamp"].is_null()
                && label(pod, marks::JOB) == job.metadata.uid.as_deref()
        };
        Self {
            jobs: Writes::new(is_marked),
            lost,
        }
    }

    /// A pod is removed. One that serves is an old pod whose new pod serves, or a new pod whose old pod is
    /// there.
    fn removal(&mut self, write: &Write<'_>) {
        let pod = write.old;
        if !is_serving(pod) {
            return;
        }
        let pods = write.objects.all(PODS);
        let mut others = pods.iter().filter(|other| uid(other) != uid(pod));
        let holds = if label(pod, marks::RELEASED_FROM).is_some() {
            let lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
            let is_lost = lost.get(uid(pod));
            others.any(|other| is_serving(other) && label(other, marks::REPLACES) == Some(uid(pod)))
                || is_lost.is_some_and(|at| write.now.as_second() - at.as_second() <= REQUEST)
        } else {
            let is_origin = |other: &Value| {
                let is_released = || label(other, marks::RELEASED_FROM).is_some();
                let replaces = label(pod, marks::REPLACES);
                is_live(other)
                    && replaces.map_or_else(is_released, |replaced| replaced == uid(other))
            };
            others.any(is_origin)
        };
        self.jobs.promise(
            holds,
            "no serving pod is removed but for another one",
            &(pod, write.body, pods.iter().map(told).collect::<Vec<_>>()),
        );
    }

    /// A target that succeeds names a new pod of its own, and its old pod is gone.
    fn successes(&mut self, write: &Write<'_>, new: &Value) {
        let before = promises::details(&promises::job(write.old));
        let pods = write.objects.all(PODS);
        let named = |name: &str| pods.iter().find(|pod| name_of(pod) == name);
        let is_new = |detail: &&TargetDetail| {
            let was = before.iter().find(|was| was.name == detail.name);
            detail.progress == Progress::Succeeded
                && was.is_none_or(|was| was.progress != Progress::Succeeded)
        };
        for detail in promises::details(&promises::job(new)).iter().filter(is_new) {
            let origin = detail.pod_uid.as_deref();
            let old = pods.iter().find(|pod| Some(uid(pod)) == origin);
            let new_pod = detail
                .extra_info
                .get(marks::NEW_POD)
                .map(|name| named(name));
            let is_own = new_pod.is_some_and(|new_pod| {
                new_pod.is_none_or(|new_pod| label(new_pod, marks::REPLACES) == origin)
            });
            self.jobs.promise(
                is_own && old.is_none_or(|old| !is_live(old)),
                "a target succeeds by a new pod of its own, and its old pod is gone",
                &(detail, pods.iter().map(told).collect::<Vec<_>>()),
            );
        }
    }
}

impl Promises for ReplacePromises {
    fn process_begins(&mut self) {
        self.jobs.process_begins();
    }

    fn write(&mut self, write: &Write<'_>) {
        if write.plural == JOBS {
            self.jobs.write(write);
            if let Some(new) = write.new.filter(|_| write.subresource == Some("status")) {
                self.successes(write, new);
            }
        } else if write.new.is_none() {
            self.removal(write);
        } else {
            let owners = write.new.map(|pod| &pod["metadata"]["ownerReferences"]);
            let owners = owners.and_then(Value::as_array);
            let controllers = owners
                .into_iter()
                .flatten()
                .filter(|owner| owner["controller"] == true);
            self.jobs.promise(
                write.plural == PODS
                    && controllers.count() <= 1
                    && owners.is_some_and(|all| !all.is_empty()),
                "a pod always has an owner, and at most one controller",
                &(write.body, write.new),
            );
        }
    }

    fn event(&mut self, event: &Value) {
        self.jobs.event(event);
    }

    fn broken(&self) -> &[String] {
        &self.jobs.broken
    }
}

/// A pod in one line.
pub(super) fn told(pod: &Value) -> String {
    let metadata = &pod["metadata"];
    let owners = metadata["ownerReferences"].as_array().into_iter().flatten();
    let owners: Vec<_> = owners
        .map(|owner| (&owner["kind"], &owner["controller"]))
        .collect();
    format!(
        "{} {} live={} ready={} {owners:?} {} {}",
        name_of(pod),
        uid(pod),
        is_live(pod),
        is_ready(pod),
        metadata["labels"],
        metadata["annotations"],
    )
}
