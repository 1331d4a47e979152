//! Which targets of a job with `spec.maxUnavailable` start: what the decision needs besides the caches, and what other
//! jobs start meanwhile. The decision itself is in `operon_core::operation_job::availability`.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fmt::Debug,
    future::Future,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use k8s_openapi::{
    api::{core::v1::Pod, policy::v1::PodDisruptionBudget},
    jiff::Timestamp,
};
use kube::{
    Api, ResourceExt,
    api::{ApiResource, GroupVersionKind, ListParams, Object},
    runtime::reflector::ObjectRef,
};
use operon_api::OperationJob;
use operon_core::operation_job::{
    Observed,
    availability::{
        Availability, Inventory, Operated, Size, Sizes, Workload, is_limited, operated, workload,
    },
    plan::{Plan, plan},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::OperationJobs;
use crate::{recent::Recent, status::whole_seconds};

/// How long the sizes of workloads and the PodDisruptionBudgets of a namespace are not read again.
const LASTS: Duration = Duration::from_secs(5);

/// How long a reconcile waits for them.
const PATIENCE: Duration = Duration::from_secs(4);

/// What is known about targets that start, besides the caches.
#[derive(Default)]
pub struct Starts {
    /// By namespace and kind.
    sizes: Recent<(String, &'static str), Found<Sizes>>,
    /// By namespace.
    budgets: Recent<String, Found<Vec<PodDisruptionBudget>>>,
    /// By the uid of a job.
    starting: Mutex<HashMap<String, Starting>>,
}

/// What was found, or why nothing was, and when.
type Found<T> = (Timestamp, Result<Arc<T>, String>);

/// The targets that a job starts, until the cache of jobs has them. If a status was written without an answer, that is
/// when the cache has another version of the job.
struct Starting {
    job: ObjectRef<OperationJob>,
    pods: HashSet<Operated>,
    /// The version of the job that the status is written on.
    version: Option<String>,
}

impl Starts {
    /// The cache of jobs has all targets that the job started.
    pub(super) fn forget(&self, job: &str) {
        self.starting().remove(job);
    }

    /// The status of the job will be written on this version of it.
    pub(super) fn write_on(&self, job: &str, version: Option<&String>) {
        if let Some(starting) = self.starting().get_mut(job) {
            starting.version = version.cloned();
        }
    }

    fn starting(&self) -> MutexGuard<'_, HashMap<String, Starting>> {
        let starting = self.starting.lock();
        starting.unwrap_or_else(PoisonError::into_inner)
    }
}

/// A kind of workload of which the size is known.
struct Kind {
    group: &'static str,
    version: &'static str,
    name: &'static str,
    plural: &'static str,
    /// How many pods one without `spec.replicas` wants; none: that is in its status.
    default: Option<i32>,
}

/// The kinds of workloads that are known.
const KINDS: [Kind; 6] = [
    Kind {
        group: "apps",
        version: "v1",
        name: "Deployment",
        plural: "deployments",
        default: Some(1),
    },
    Kind {
        group: "apps",
        version: "v1",
        name: "ReplicaSet",
        plural: "replicasets",
        default: Some(1),
    },
    Kind {
        group: "apps",
        version: "v1",
        name: "StatefulSet",
        plural: "statefulsets",
        default: Some(1),
    },
    Kind {
        group: "apps",
        version: "v1",
        name: "DaemonSet",
        plural: "daemonsets",
        default: None,
    },
    Kind {
        group: "",
        version: "v1",
        name: "ReplicationController",
        plural: "replicationcontrollers",
        default: Some(1),
    },
    Kind {
        group: "apps.kusionstack.io",
        version: "v1alpha1",
        name: "CollaSet",
        plural: "collasets",
        default: Some(0),
    },
];

/// The part of a workload that says how many pods it wants.
type Sized = Object<SizedSpec, SizedStatus>;

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct SizedSpec {
    replicas: Option<i32>,
    min_ready_seconds: Option<i32>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct SizedStatus {
    /// Of a DaemonSet.
    desired_number_scheduled: Option<i32>,
}

impl OperationJobs {
    /// Plans, and remembers which targets start until [`Starts::forget`]. Two reconciles at the same time do not start
    /// targets of one workload without knowing of each other.
    pub(super) async fn plan(&self, observed: &Observed<'_>) -> Plan {
        let mut availability = Availability::Unlimited;
        if is_limited(observed.job)
            && let Plan::Run(run) = plan(observed, &availability)
        {
            let pods = run.starting();
            let pods: Vec<_> = pods
                .filter_map(|pod| observed.pods.get(&pod.name))
                .collect();
            if !pods.is_empty() {
                availability = self.availability(observed, &pods).await;
            }
        }
        self.decide(observed, availability)
    }

    /// The plan, with what other jobs have started and start.
    pub(super) fn decide(&self, observed: &Observed<'_>, availability: Availability) -> Plan {
        let job = observed.job;
        let uid = job.uid().unwrap_or_default();
        let mut starting = self.starts.starting();
        let known = starting.remove(&uid);
        starting.retain(|uid, starting| {
            let job = self.jobs.store.get(&starting.job);
            job.is_some_and(|job| job.metadata.uid.as_ref() == Some(uid))
        });
        let plan = if availability == Availability::Unlimited {
            plan(observed, &availability)
        } else {
            let near = self.jobs.store.within(job.metadata.namespace.as_deref());
            let others = near
                .iter()
                .filter(|other| other.metadata.uid.as_ref() != Some(&uid));
            let others = others.flat_map(|other| operated(other));
            let about_to = starting.values().flat_map(|starting| &starting.pods);
            let all = operated(job).chain(others).chain(about_to.cloned());
            plan(observed, &availability.without(all))
        };
        let mut next = Starting {
            job: ObjectRef::from_obj(job),
            pods: HashSet::new(),
            version: job.resource_version(),
        };
        if let Plan::Run(run) = &plan
            && !job.spec.dry_run
        {
            next.pods = run.starting().collect();
        }
        if let Some(known) = known.filter(|known| known.version == next.version) {
            next.pods.extend(known.pods);
        }
        if !next.pods.is_empty() {
            starting.insert(uid, next);
        }
        plan
    }

    /// Whether the pods of targets that would start can be spared.
    async fn availability(&self, observed: &Observed<'_>, starting: &[Arc<Pod>]) -> Availability {
        let namespace = observed.job.metadata.namespace.as_deref();
        if let Some(stale) = self.pods.stale(namespace.unwrap_or_default()) {
            return Availability::Unknown(format!(
                "how many pods are available is not known: {stale}"
            ));
        }
        match self.inventory(observed.job, starting).await {
            Ok(inventory) => Availability::of(observed.job, starting, &inventory, observed.now),
            Err(why) => Availability::Unknown(why),
        }
    }

    async fn inventory(
        &self,
        job: &OperationJob,
        starting: &[Arc<Pod>],
    ) -> Result<Inventory, String> {
        let namespace = job.namespace().unwrap_or_default();
        let workloads = starting.iter().filter_map(|pod| workload(pod));
        let workloads: BTreeSet<_> = workloads.map(|found| (found.group, found.kind)).collect();
        let has = |kind: &&Kind| workloads.contains(&(kind.group.to_owned(), kind.name.to_owned()));
        // An answer from before the job does not have what was applied together with the job.
        let since = job.status.as_ref().and_then(|s| s.start_time.as_ref());
        let since = since.map_or(Timestamp::MAX, |since| since.0);
        let sizes = KINDS.iter().filter(has);
        let sizes = sizes.map(|kind| self.sizes(&namespace, kind, since));
        let (sizes, budgets) = futures::join!(
            futures::future::try_join_all(sizes),
            self.budgets(&namespace, since)
        );
        let (sizes, budgets) = (sizes?, budgets?);
        Ok(Inventory {
            pods: self.pods.store.within(Some(&namespace)),
            sizes,
            budgets,
        })
    }

    /// How many pods the workloads of a kind want.
    async fn sizes(
        &self,
        namespace: &str,
        kind: &'static Kind,
        since: Timestamp,
    ) -> Result<Arc<Sizes>, String> {
        let named = GroupVersionKind::gvk(kind.group, kind.version, kind.name);
        let resource = ApiResource::from_gvk_with_plural(&named, kind.plural);
        let api: Api<Sized> = Api::namespaced_with(self.client.clone(), namespace, &resource);
        let read = async {
            let found = list(kind.name, namespace, api).await?;
            let sizes = found.iter().filter_map(|found| size(kind, found));
            Ok(sizes.collect())
        };
        let key = (namespace.to_owned(), kind.plural);
        self.recent(&self.starts.sizes, key, since, read).await
    }

    async fn budgets(
        &self,
        namespace: &str,
        since: Timestamp,
    ) -> Result<Arc<Vec<PodDisruptionBudget>>, String> {
        let api: Api<PodDisruptionBudget> = Api::namespaced(self.client.clone(), namespace);
        let read = list("PodDisruptionBudget", namespace, api);
        let key = namespace.to_owned();
        self.recent(&self.starts.budgets, key, since, read).await
    }

    /// What was found lately, if not before this time; otherwise what is read now, which is remembered.
    async fn recent<K: Eq + Hash, T>(
        &self,
        found: &Recent<K, Found<T>>,
        key: K,
        since: Timestamp,
        read: impl Future<Output = Result<T, String>>,
    ) -> Result<Arc<T>, String> {
        if let Some(((at, known), _)) = found.get(&key)
            && at >= since
        {
            return known;
        }
        let at = whole_seconds((self.clock)());
        let now = read.await.map(Arc::new);
        found.keep(key, (at, now.clone()), LASTS);
        now
    }
}

/// All objects of a kind in a namespace, or a sentence that says why they are not known.
async fn list<K>(kind: &str, namespace: &str, api: Api<K>) -> Result<Vec<K>, String>
where
    K: Clone + Debug + DeserializeOwned,
{
    let params = ListParams::default();
    let found = match tokio::time::timeout(PATIENCE, api.list(&params)).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    };
    let failed = |why| format!("the {kind}s of namespace {namespace:?} are not known: {why}");
    found.map(|found| found.items).map_err(failed)
}

fn size(kind: &Kind, found: &Sized) -> Option<(Workload, Size)> {
    let status = found.status.as_ref();
    let pods = match kind.default {
        Some(default) => found.spec.replicas.unwrap_or(default),
        None => status.and_then(|status| status.desired_number_scheduled)?,
    };
    let workload = Workload {
        group: kind.group.to_owned(),
        kind: kind.name.to_owned(),
        name: found.name_any(),
    };
    let size = Size {
        pods: usize::try_from(pods).ok()?,
        min_ready_seconds: i64::from(found.spec.min_ready_seconds.unwrap_or(0)),
    };
    Some((workload, size))
}
