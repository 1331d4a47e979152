//! How many pods must stay available while a job with `spec.maxUnavailable` starts targets. Pure.
//!
//! A target that starts may make its pod unavailable, so it is counted as unavailable from then on. What a workload
//! lacks for other reasons counts as well, and so do the PodDisruptionBudgets of the pods. A pod that is not available
//! has nothing to lose: such a target may always start.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use k8s_openapi::{
    api::{core::v1::Pod, policy::v1::PodDisruptionBudget},
    apimachinery::pkg::apis::meta::v1::Condition,
    jiff::Timestamp,
};
use kube::{
    ResourceExt as _,
    core::{Selector, SelectorExt as _},
};
use operon_api::{OperationJob, operation_job::Progress};

use super::{limits, size};
use crate::{
    action::Failure,
    amount::Amount,
    pod_lifecycle::pod::{condition, is_finished, is_ready},
};

/// The label by which a Deployment names its ReplicaSets: `NAME-HASH`.
const POD_TEMPLATE_HASH: &str = "pod-template-hash";

/// A workload with pods, within one namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Workload {
    /// Its API group.
    pub group: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// The workload that a pod belongs to: its controller, or the Deployment of this ReplicaSet.
pub fn workload(pod: &Pod) -> Option<Workload> {
    let mut owners = pod.owner_references().iter();
    let controller = owners.find(|owner| owner.controller == Some(true))?;
    let group = controller.api_version.rsplit_once('/');
    let group = group.map_or("", |(group, _)| group);
    let hash = pod.labels().get(POD_TEMPLATE_HASH);
    let deployment = hash
        .filter(|_| group == "apps" && controller.kind == "ReplicaSet")
        .and_then(|hash| {
            controller
                .name
                .strip_suffix(hash.as_str())?
                .strip_suffix('-')
        });
    let (kind, name) = match deployment {
        Some(name) => ("Deployment", name),
        None => (controller.kind.as_str(), controller.name.as_str()),
    };
    Some(Workload {
        group: group.to_owned(),
        kind: kind.to_owned(),
        name: name.to_owned(),
    })
}

/// How many pods a workload wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Their number.
    pub pods: usize,
    /// For how many seconds a pod must have been Ready to be available.
    pub min_ready_seconds: i64,
}

/// What workloads want.
pub type Sizes = BTreeMap<Workload, Size>;

/// What targets that start may take away from.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// The pods of the job's namespace.
    pub pods: Vec<Arc<Pod>>,
    /// What their workloads want. Of a workload that is not listed, the pods that exist are wanted.
    pub sizes: Vec<Arc<Sizes>>,
    /// The PodDisruptionBudgets of the namespace.
    pub budgets: Arc<Vec<PodDisruptionBudget>>,
    /// The uids of the pods that other jobs operate.
    pub operated: HashSet<String>,
}

/// Whether pods may become unavailable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Availability {
    /// The job has no limit, or starts nothing.
    Unlimited,
    /// It is not known.
    Unknown(Failure),
    /// So many.
    Limited(Room),
}

/// How many pods may become unavailable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Room {
    floors: Vec<Floor>,
    /// By the uid of an available pod: what it counts for.
    counted: HashMap<String, Vec<usize>>,
}

/// A number of pods that must stay available.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Floor {
    /// How many more may become unavailable.
    free: usize,
    /// Why no more may.
    why: String,
}

/// Whether the job limits how many pods may become unavailable, and has targets that may start.
pub fn is_limited(job: &OperationJob) -> bool {
    let status = job.status.as_ref();
    let details = status.map(|status| status.target_details.as_slice());
    let details = details.unwrap_or_default();
    let started = details
        .iter()
        .filter(|detail| detail.progress != Progress::Pending);
    job.spec.max_unavailable.is_some()
        && job.spec.paused != Some(true)
        && !job.spec.dry_run
        && job.metadata.deletion_timestamp.is_none()
        && started.count() < job.targets().len()
}

/// The uids of the pods that a job operates, or has not released.
pub fn operated(job: &OperationJob) -> impl Iterator<Item = &String> {
    let details = job.status.iter().flat_map(|status| &status.target_details);
    let under_way = details.filter(|detail| size::is_under_way(detail));
    under_way.filter_map(|detail| detail.pod_uid.as_ref())
}

impl Availability {
    /// What the surroundings allow a job.
    pub fn of(job: &OperationJob, surroundings: &Surroundings, now: Timestamp) -> Self {
        match limits::unavailable(job) {
            Err(invalid) => Self::Unknown(invalid),
            Ok(None) => Self::Unlimited,
            Ok(Some(allowed)) => Self::Limited(Room::of(job, surroundings, allowed, now)),
        }
    }
}

impl Room {
    fn of(
        job: &OperationJob,
        surroundings: &Surroundings,
        allowed: Amount,
        now: Timestamp,
    ) -> Self {
        let targets: HashSet<_> = job.targets().iter().map(|t| t.name.as_str()).collect();
        let operated: HashSet<_> = operated(job).chain(&surroundings.operated).collect();
        let is_target = |pod: &Pod| targets.contains(pod.metadata.name.as_deref().unwrap_or(""));
        let is_free = |pod: &Pod| !operated.contains(&pod.uid().unwrap_or_default());
        let mut room = Self::default();
        for (workload, pods) in workloads(&surroundings.pods, is_target) {
            let mut sizes = surroundings.sizes.iter();
            let size = sizes.find_map(|sizes| sizes.get(&workload));
            let min_ready = size.map_or(0, |size| size.min_ready_seconds);
            let wanted = size.map_or(pods.len(), |size| size.pods);
            let is_counted = |pod: &&Pod| is_available(pod, min_ready, now) && is_free(pod);
            let counted = pods.into_iter().filter(is_counted).collect();
            room.add_workload(&workload, wanted, allowed, counted);
        }
        for budget in surroundings.budgets.iter() {
            let selected = selected(budget, &surroundings.pods);
            if !selected.iter().any(|pod| is_target(pod)) {
                continue;
            }
            let is_counted = |pod: &&Pod| is_available(pod, 0, now) && is_free(pod);
            room.add_budget(budget, selected.into_iter().filter(is_counted).collect());
        }
        room
    }

    fn add_workload(
        &mut self,
        workload: &Workload,
        wanted: usize,
        allowed: Amount,
        counted: Vec<&Pod>,
    ) {
        let Workload {
            group: _,
            kind,
            name,
        } = workload;
        let named = format!("{}/{name}", kind.to_lowercase());
        // A share that rounds to none would never let a target start.
        let allowed = allowed.rounded_down(wanted).max(1);
        let lacking = wanted.saturating_sub(counted.len());
        let why = format!(
            "{named} lacks {lacking} of {wanted} available pods, targets in progress included, and \
             spec.maxUnavailable allows {allowed}"
        );
        let free = (counted.len() + allowed).saturating_sub(wanted);
        self.add(free, why, counted);
    }

    fn add_budget(&mut self, budget: &PodDisruptionBudget, counted: Vec<&Pod>) {
        let name = budget.name_any();
        let Some(least) = least(budget) else {
            let why =
                format!("PodDisruptionBudget {name} does not say yet how many pods it requires");
            return self.add(0, why, counted);
        };
        let why = format!(
            "PodDisruptionBudget {name} requires {least} available pods, and {} are available, targets in progress not \
             included",
            counted.len()
        );
        self.add(counted.len().saturating_sub(least), why, counted);
    }

    fn add(&mut self, free: usize, why: String, counted: Vec<&Pod>) {
        let place = self.floors.len();
        self.floors.push(Floor { free, why });
        for pod in counted {
            let uid = pod.uid().unwrap_or_default();
            self.counted.entry(uid).or_default().push(place);
        }
    }

    /// Lets a pod become unavailable.
    ///
    /// # Errors
    /// Why it may not.
    pub(super) fn take(&mut self, uid: &str) -> Result<(), &str> {
        let places = self.counted.get(uid).map(Vec::as_slice);
        let places = places.unwrap_or_default();
        if let Some(full) = places.iter().find(|place| self.floors[**place].free == 0) {
            return Err(&self.floors[*full].why);
        }
        for place in places {
            self.floors[*place].free -= 1;
        }
        self.counted.remove(uid);
        Ok(())
    }
}

/// The unfinished pods of each workload that has a target.
fn workloads(pods: &[Arc<Pod>], is_target: impl Fn(&Pod) -> bool) -> BTreeMap<Workload, Vec<&Pod>> {
    let mut all: BTreeMap<Workload, Vec<&Pod>> = BTreeMap::new();
    let mut named = BTreeSet::new();
    for pod in pods {
        let Some(workload) = workload(pod) else {
            continue;
        };
        if is_target(pod) {
            named.insert(workload.clone());
        }
        let pods = all.entry(workload).or_default();
        pods.extend((!is_finished(pod)).then_some(&**pod));
    }
    all.retain(|workload, _| named.contains(workload));
    all
}

/// The pods that a PodDisruptionBudget selects. One without a selector selects none.
fn selected<'p>(budget: &PodDisruptionBudget, pods: &'p [Arc<Pod>]) -> Vec<&'p Pod> {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.clone());
    let Some(Ok(selector)) = selector.map(Selector::try_from) else {
        return Vec::new();
    };
    let all = pods.iter().map(|pod| &**pod);
    all.filter(|pod| selector.matches(pod.labels())).collect()
}

/// How many available pods a PodDisruptionBudget requires, as its controller computed it for the spec that it has.
fn least(budget: &PodDisruptionBudget) -> Option<usize> {
    let status = budget.status.as_ref()?;
    let has_failed = |condition: &Condition| {
        condition.type_ == "DisruptionAllowed" && condition.reason == "SyncFailed"
    };
    let mut conditions = status.conditions.iter().flatten();
    if status.observed_generation != budget.metadata.generation || conditions.any(has_failed) {
        return None;
    }
    usize::try_from(status.desired_healthy).ok()
}

/// Whether a pod has been Ready for long enough, and stays.
fn is_available(pod: &Pod, min_ready_seconds: i64, now: Timestamp) -> bool {
    let ready = condition(pod, "Ready").and_then(|ready| ready.last_transition_time.as_ref());
    let lasts = ready.map_or(i64::MAX, |since| now.as_second() - since.0.as_second());
    pod.metadata.deletion_timestamp.is_none() && is_ready(pod) && lasts >= min_ready_seconds
}
