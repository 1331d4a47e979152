//! Which JobFlow, JobTemplate or DaemonJob a change in the cluster concerns, and the Jobs of each.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use futures::channel::mpsc::UnboundedSender;
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Node, Pod},
};
use kube::{Resource, ResourceExt, runtime::reflector::ObjectRef};
use operon_api::{DaemonJob, JobFlow, JobTemplate, keys};
use operon_core::job_flow::template::made_from;
use serde_json::json;

use crate::{index::Index, jobs::job_of_pod, store::Store};

/// Wakes the objects that a change concerns.
pub struct OwnerTriggers {
    flow_queue: UnboundedSender<ObjectRef<JobFlow>>,
    template_queue: UnboundedSender<ObjectRef<JobTemplate>>,
    daemon_job_queue: UnboundedSender<ObjectRef<DaemonJob>>,
    /// Jobs by their namespace and the uid of the object that they were created for.
    jobs: Index<Job>,
    /// Jobs by the JobTemplate that they were created from.
    jobs_of_templates: Index<Job>,
    /// Jobs by the JobFlows and DaemonJobs that own them.
    owners: Index<Job>,
    /// JobFlows by the JobTemplates that they refer to.
    flows: Index<JobFlow>,
    /// What counts of each node, by name: its kubelet reports every few minutes that nothing changed.
    nodes: Mutex<HashMap<String, String>>,
}

impl OwnerTriggers {
    /// Wakes objects by these queues.
    pub fn new(
        flow_queue: UnboundedSender<ObjectRef<JobFlow>>,
        template_queue: UnboundedSender<ObjectRef<JobTemplate>>,
        daemon_job_queue: UnboundedSender<ObjectRef<DaemonJob>>,
    ) -> Self {
        Self {
            flow_queue,
            template_queue,
            daemon_job_queue,
            jobs: Index::new(|job| {
                let namespace = job.namespace().unwrap_or_default();
                let uid = job.labels().get(keys::OWNER_UID);
                uid.map(|uid| path(&namespace, uid)).into_iter().collect()
            }),
            jobs_of_templates: Index::new(|job| template_key(job).into_iter().collect()),
            owners: Index::new(|job| owner_keys(job).collect()),
            flows: Index::new(|flow| {
                let namespace = flow.namespace().unwrap_or_default();
                let names = flow
                    .spec
                    .flows
                    .iter()
                    .filter_map(|s| s.job_template_ref.as_ref());
                names.map(|name| path(&namespace, name)).collect()
            }),
            nodes: Mutex::default(),
        }
    }

    /// The Jobs of an object's namespace that are labelled as created for it.
    pub fn jobs_of<K: Resource>(&self, object: &K, jobs: &Store<Job>) -> Vec<Arc<Job>> {
        let namespace = object.namespace().unwrap_or_default();
        let uid = object.uid().unwrap_or_default();
        self.jobs.get(&path(&namespace, &uid), jobs)
    }

    /// The Jobs that were created from a JobTemplate.
    pub fn jobs_of_template(&self, template: &JobTemplate, jobs: &Store<Job>) -> Vec<Arc<Job>> {
        let namespace = template.namespace().unwrap_or_default();
        self.jobs_of_templates
            .get(&path(&namespace, &template.name_any()), jobs)
    }

    /// A JobFlow changed.
    pub fn flow_changed(&self, flow: &JobFlow, flows: &Store<JobFlow>) {
        self.flows.changed(flow, flows);
        wake(&self.flow_queue, ObjectRef::from_obj(flow));
    }

    /// A JobTemplate changed.
    pub fn template_changed(&self, template: &JobTemplate, flows: &Store<JobFlow>) {
        let namespace = template.namespace().unwrap_or_default();
        for flow in self
            .flows
            .get(&path(&namespace, &template.name_any()), flows)
        {
            wake(&self.flow_queue, ObjectRef::from_obj(&*flow));
        }
        wake(&self.template_queue, ObjectRef::from_obj(template));
    }

    /// A DaemonJob changed.
    pub fn daemon_job_changed(&self, object: &DaemonJob) {
        wake(&self.daemon_job_queue, ObjectRef::from_obj(object));
    }

    /// A Job changed. Whom it belonged to before is woken too.
    pub fn job_changed(&self, job: &Job, jobs: &Store<Job>) {
        self.jobs.changed(job, jobs);
        let former = self.jobs_of_templates.changed(job, jobs);
        for key in former.into_iter().chain(template_key(job)) {
            let (namespace, name) = key.split_once('/').unwrap_or_default();
            wake(&self.template_queue, ObjectRef::new(name).within(namespace));
        }
        let former = self.owners.changed(job, jobs);
        for key in former.into_iter().chain(owner_keys(job)) {
            self.wake_owner(&key);
        }
    }

    /// A pod changed.
    pub fn pod_changed(&self, pod: &Pod, jobs: &Store<Job>) {
        if let Some(job) = job_of_pod(pod, jobs) {
            for key in owner_keys(&job) {
                self.wake_owner(&key);
            }
        }
    }

    /// A node changed. DaemonJobs look at it if that may matter to them.
    pub fn node_changed(&self, node: &Node, nodes: &Store<Node>, objects: &Store<DaemonJob>) {
        let now = nodes
            .get(&ObjectRef::from_obj(node))
            .map(|node| traits(&node));
        let before = {
            let mut known = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
            match now.clone() {
                Some(now) => known.insert(node.name_any(), now),
                None => known.remove(&node.name_any()),
            }
        };
        if before != now {
            for object in objects.state() {
                wake(&self.daemon_job_queue, ObjectRef::from_obj(&*object));
            }
        }
    }

    fn wake_owner(&self, key: &str) {
        let (kind, owner) = key.split_once('/').unwrap_or_default();
        let (namespace, name) = owner.split_once('/').unwrap_or_default();
        if kind == JobFlow::kind(&()) {
            wake(&self.flow_queue, ObjectRef::new(name).within(namespace));
        } else if kind == DaemonJob::kind(&()) {
            wake(
                &self.daemon_job_queue,
                ObjectRef::new(name).within(namespace),
            );
        }
    }
}

fn wake<K: Resource<DynamicType = ()>>(
    queue: &UnboundedSender<ObjectRef<K>>,
    object: ObjectRef<K>,
) {
    // A closed queue means that the process is going down.
    let _ = queue.unbounded_send(object);
}

fn path(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

fn template_key(job: &Job) -> Option<String> {
    made_from(job).map(|(namespace, name)| path(namespace, name))
}

/// Kind, namespace and name of each object that owns a Job.
fn owner_keys(job: &Job) -> impl Iterator<Item = String> {
    let namespace = job.namespace().unwrap_or_default();
    let owners = job.owner_references().iter();
    owners.map(move |owner| format!("{}/{}", owner.kind, path(&namespace, &owner.name)))
}

/// What may make a DaemonJob treat a node otherwise.
fn traits(node: &Node) -> String {
    let spec = node.spec.as_ref();
    let conditions = node.status.iter().flat_map(|status| &status.conditions);
    let ready = conditions
        .flatten()
        .find(|condition| condition.type_ == "Ready")
        .map(|condition| &condition.status);
    json!([
        node.metadata.uid,
        node.metadata.labels,
        node.metadata.deletion_timestamp,
        spec.and_then(|spec| spec.unschedulable),
        spec.and_then(|spec| spec.taints.as_ref()),
        ready,
    ])
    .to_string()
}

#[cfg(test)]
mod tests {
    use crate::store::Writer;
    use futures::channel::mpsc::{UnboundedReceiver, unbounded};
    use kube::runtime::watcher::Event;
    use serde_json::Value;

    use super::*;

    /// The names of the objects that were woken.
    fn woken<K: Resource<DynamicType = ()>>(
        queue: &mut UnboundedReceiver<ObjectRef<K>>,
    ) -> Vec<String> {
        std::iter::from_fn(|| queue.try_recv().ok())
            .map(|object| object.name)
            .collect()
    }

    /// A Job becomes each of these in turn; which JobFlows, JobTemplates and DaemonJobs the last one wakes.
    fn woken_by(jobs: &[Value]) -> [Vec<String>; 3] {
        let (flow_queue, mut flows) = unbounded();
        let (template_queue, mut templates) = unbounded();
        let (daemon_job_queue, mut daemon_jobs) = unbounded();
        let triggers = OwnerTriggers::new(flow_queue, template_queue, daemon_job_queue);
        let mut writer = Writer::<Job>::default();
        let store = writer.as_reader();
        let mut last = Default::default();
        for metadata in jobs {
            let mut job = json!({"metadata": metadata});
            job["metadata"]["namespace"] = json!("ns");
            job["metadata"]["name"] = json!("job");
            let job: Job = serde_json::from_value(job).expect("a Job");
            writer.apply_watcher_event(&Event::Apply(job.clone()));
            triggers.job_changed(&job, &store);
            last = [
                woken(&mut flows),
                woken(&mut templates),
                woken(&mut daemon_jobs),
            ];
        }
        last
    }

    #[test]
    fn a_job_that_changes_its_template_wakes_the_former_one_too() {
        let from = |name: &str| json!({"annotations": {keys::JOB_TEMPLATE: format!("ns.{name}")}});
        let woken = |last: Value| woken_by(&[from("build"), last])[1].clone();
        assert_eq!(woken(from("build")), ["build"]);
        assert_eq!(woken(from("test")), ["build", "test"]);
        assert_eq!(woken(json!({})), ["build"]);
    }

    #[test]
    fn a_job_that_loses_its_owner_reference_wakes_that_owner() {
        for (kind, place) in [("JobFlow", 0), ("DaemonJob", 2)] {
            let owned = json!({"ownerReferences": [
                {"apiVersion": "api.practice.com/v1alpha1", "kind": kind, "name": "owner", "uid": "u"}
            ]});
            assert_eq!(woken_by(std::slice::from_ref(&owned))[place], ["owner"]);
            assert_eq!(woken_by(&[owned, json!({})])[place], ["owner"]);
        }
    }
}
