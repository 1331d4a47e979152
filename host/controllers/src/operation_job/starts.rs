//! Which targets of a job with `spec.maxUnavailable` start: what the decision needs besides the caches, and what other
//! jobs start meanwhile. The decision itself is in `operon_core::operation_job::availability`.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use k8s_openapi::api::{core::v1::Pod, policy::v1::PodDisruptionBudget};
use kube::{
    Api, ResourceExt,
    api::{ApiResource, ListParams, Object},
};
use operon_api::OperationJob;
use operon_core::{
    action::Failure,
    operation_job::{
        Observed,
        availability::{
            self, Availability, Size, Sizes, Surroundings, Workload, operated, workload,
        },
        plan::{Plan, plan},
    },
};
use serde::{Deserialize, Serialize};

use super::OperationJobs;
use crate::{apply::within_limit, error::Error, recent::Recent};

/// How long the sizes of workloads and the PodDisruptionBudgets of a namespace are not read again.
const LASTS: Duration = Duration::from_secs(5);

/// What is known about targets that start, besides the caches.
#[derive(Default)]
pub struct Starts {
    /// By namespace and kind.
    sizes: Recent<(String, &'static str), Arc<Sizes>>,
    /// By namespace.
    budgets: Recent<String, Arc<Vec<PodDisruptionBudget>>>,
    /// By the uid of a job: the uids of the pods of targets that it starts, until the cache of jobs has them. If a
    /// status was written without an answer, that is not before the next reconcile.
    starting: Mutex<HashMap<String, HashSet<String>>>,
}

impl Starts {
    /// The cache of jobs has all targets that the job started.
    pub(super) fn forget(&self, job: &str) {
        self.starting().remove(job);
    }

    fn starting(&self) -> MutexGuard<'_, HashMap<String, HashSet<String>>> {
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
}

/// The kinds of workloads that are read. Of others, the pods that exist are wanted.
const KINDS: [Kind; 5] = [
    Kind {
        group: "apps",
        version: "v1",
        name: "Deployment",
        plural: "deployments",
    },
    Kind {
        group: "apps",
        version: "v1",
        name: "ReplicaSet",
        plural: "replicasets",
    },
    Kind {
        group: "apps",
        version: "v1",
        name: "StatefulSet",
        plural: "statefulsets",
    },
    Kind {
        group: "apps",
        version: "v1",
        name: "DaemonSet",
        plural: "daemonsets",
    },
    Kind {
        group: "apps.kusionstack.io",
        version: "v1alpha1",
        name: "CollaSet",
        plural: "collasets",
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
    /// What the targets of a job may take away from when they start, if the job limits that and may start some.
    pub(super) async fn surroundings(
        &self,
        job: &OperationJob,
        targets: &HashMap<String, Arc<Pod>>,
    ) -> Option<Result<Surroundings, Failure>> {
        if !availability::is_limited(job) {
            return None;
        }
        if let Some(stale) = self.pods.stale() {
            let message = format!(
                "how many pods are available for spec.maxUnavailable is not known: {stale}"
            );
            return Some(Err(Failure::new("CacheStale", message)));
        }
        let read = self.read_surroundings(job, targets).await;
        Some(read.map_err(|error| {
            let message = format!(
                "how many pods spec.maxUnavailable leaves is not known: {}",
                error.chain()
            );
            Failure::new(error.reason(), message)
        }))
    }

    async fn read_surroundings(
        &self,
        job: &OperationJob,
        targets: &HashMap<String, Arc<Pod>>,
    ) -> Result<Surroundings, Error> {
        let namespace = job.namespace().unwrap_or_default();
        let workloads = targets.values().filter_map(|pod| workload(pod));
        let workloads: BTreeSet<_> = workloads.map(|found| (found.group, found.kind)).collect();
        let mut sizes = Vec::new();
        for kind in &KINDS {
            if workloads.contains(&(kind.group.to_owned(), kind.name.to_owned())) {
                sizes.push(self.sizes(&namespace, kind).await?);
            }
        }
        let budgets = self.budgets(&namespace).await?;
        let is_near =
            |pod: &Arc<Pod>| ResourceExt::namespace(&**pod).as_deref() == Some(&*namespace);
        let pods = self.pods.store.state().into_iter().filter(is_near);
        Ok(Surroundings {
            pods: pods.collect(),
            sizes,
            budgets,
            operated: HashSet::new(),
        })
    }

    /// How many pods the workloads of a kind want.
    async fn sizes(&self, namespace: &str, kind: &'static Kind) -> Result<Arc<Sizes>, Error> {
        let key = (namespace.to_owned(), kind.plural);
        if let Some((sizes, _)) = self.starts.sizes.get(&key) {
            return Ok(sizes);
        }
        let resource = ApiResource {
            group: kind.group.to_owned(),
            version: kind.version.to_owned(),
            api_version: format!("{}/{}", kind.group, kind.version),
            kind: kind.name.to_owned(),
            plural: kind.plural.to_owned(),
        };
        let api: Api<Sized> = Api::namespaced_with(self.client.clone(), namespace, &resource);
        let named = || format!("{}s of namespace {namespace:?}", kind.name);
        let found = within_limit("list", named, api.list(&from_cache())).await?;
        let sizes = found.items.iter().map(|found| size(kind, found));
        let sizes = Arc::new(sizes.collect::<BTreeMap<_, _>>());
        self.starts.sizes.keep(key, Arc::clone(&sizes), LASTS);
        Ok(sizes)
    }

    async fn budgets(&self, namespace: &str) -> Result<Arc<Vec<PodDisruptionBudget>>, Error> {
        if let Some((budgets, _)) = self.starts.budgets.get(namespace) {
            return Ok(budgets);
        }
        let api: Api<PodDisruptionBudget> = Api::namespaced(self.client.clone(), namespace);
        let named = || format!("PodDisruptionBudgets of namespace {namespace:?}");
        let found = within_limit("list", named, api.list(&from_cache())).await?;
        let budgets = Arc::new(found.items);
        let (key, kept) = (namespace.to_owned(), Arc::clone(&budgets));
        self.starts.budgets.keep(key, kept, LASTS);
        Ok(budgets)
    }

    /// Plans, and remembers which targets start until [`Starts::forget`]. Two reconciles at the same time do not start
    /// targets of one workload without knowing of each other.
    pub(super) fn plan(
        &self,
        observed: &Observed<'_>,
        surroundings: Option<Result<Surroundings, Failure>>,
    ) -> Plan {
        let job = observed.job.uid().unwrap_or_default();
        let mut starting = self.starts.starting();
        starting.remove(&job);
        let availability = match surroundings {
            None => Availability::Unlimited,
            Some(Err(failure)) => Availability::Unknown(failure),
            Some(Ok(mut surroundings)) => {
                let all = self.jobs.store.state();
                let others = all.iter().filter(|other| {
                    other.namespace() == observed.job.namespace()
                        && other.uid().as_ref() != Some(&job)
                });
                let operated = others.flat_map(|other| operated(other)).cloned();
                let about_to = starting.values().flatten().cloned();
                surroundings.operated = operated.chain(about_to).collect();
                Availability::of(observed.job, &surroundings, observed.now)
            }
        };
        let plan = plan(observed, &availability);
        if let Plan::Run(run) = &plan {
            let starts: HashSet<_> = run.starting().cloned().collect();
            if !starts.is_empty() {
                starting.insert(job, starts);
            }
        }
        plan
    }
}

/// As the API server has it in its own cache.
fn from_cache() -> ListParams {
    ListParams::default().match_any()
}

fn size(kind: &Kind, found: &Sized) -> (Workload, Size) {
    let workload = Workload {
        group: kind.group.to_owned(),
        kind: kind.name.to_owned(),
        name: found.name_any(),
    };
    let status = found.status.as_ref();
    let of_nodes = status.and_then(|status| status.desired_number_scheduled);
    let pods = match kind.name {
        "DaemonSet" => of_nodes.unwrap_or(0),
        // The API server's default.
        _ => found.spec.replicas.unwrap_or(1),
    };
    let size = Size {
        pods: usize::try_from(pods).unwrap_or(0),
        min_ready_seconds: i64::from(found.spec.min_ready_seconds.unwrap_or(0)),
    };
    (workload, size)
}
