//! Whether pods can be spared: which targets of a job with `spec.maxUnavailable` may start. Pure.
//!
//! A target that starts may make its pod unavailable, so from then on it does not count as available. What a workload
//! lacks for other reasons counts as well, and so do the PodDisruptionBudgets of the pods. A pod that is not available
//! has nothing to lose: such a target may always start.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
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
    amount::Amount,
    pod_lifecycle::pod::{condition, is_finished, is_ready},
};

/// Whether pods may become unavailable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Availability {
    /// The job has no limit.
    Unlimited,
    /// It is not known, for this reason.
    Unknown(String),
    /// So many.
    Limited(Allowance),
}

/// What a namespace has, as far as it matters to the targets that start.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    /// The pods.
    pub pods: Vec<Arc<Pod>>,
    /// What workloads want.
    pub sizes: Vec<Arc<Sizes>>,
    /// The PodDisruptionBudgets.
    pub budgets: Arc<Vec<PodDisruptionBudget>>,
}

/// What workloads want.
pub type Sizes = BTreeMap<Workload, Size>;

/// How many pods a workload wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Their number.
    pub pods: usize,
    /// For how many seconds a pod must have been Ready to be available.
    pub min_ready_seconds: i64,
}

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

/// The label by which a Deployment names its ReplicaSets: `NAME-HASH`.
const POD_TEMPLATE_HASH: &str = "pod-template-hash";

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

/// A pod that a job operates.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Operated {
    /// Its name.
    pub name: String,
    /// Its uid; none if the target was started by the Go operator, which knew pods by their names.
    pub uid: Option<String>,
}

/// The pods that a job operates, and may change still.
pub fn operated(job: &OperationJob) -> impl Iterator<Item = Operated> {
    let status = job.status.as_ref();
    let status = status.filter(|status| !status.progress.is_some_and(Progress::is_finished));
    let details = status.filter(|_| !job.spec.dry_run);
    let details = details
        .into_iter()
        .flat_map(|status| &status.target_details);
    let under_way = details.filter(|detail| size::is_under_way(detail));
    under_way.map(|detail| Operated {
        name: detail.name.clone(),
        uid: detail.pod_uid.clone(),
    })
}

/// Whether a job limits how many pods may become unavailable. A dry run changes nothing.
pub fn is_limited(job: &OperationJob) -> bool {
    job.spec.max_unavailable.is_some() && !job.spec.dry_run
}

/// How many pods may become unavailable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowance {
    limits: Vec<Limit>,
    /// The available pods, by name.
    available: HashMap<String, Available>,
}

/// An available pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Available {
    uid: String,
    /// The places of the limits that it counts for.
    limits: Vec<usize>,
}

/// A number of pods that must stay available.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Limit {
    rule: Rule,
    /// How many pods are available and in no operation.
    available: usize,
    /// How many of them may become unavailable.
    free: usize,
}

/// Why pods must stay available.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    Workload {
        name: String,
        wanted: usize,
        allowed: usize,
    },
    UnknownWorkload {
        name: String,
    },
    Budget {
        name: String,
        least: usize,
    },
    UnknownBudget {
        name: String,
        why: String,
    },
}

impl Availability {
    /// What an inventory allows a job whose targets with these pods start otherwise.
    pub fn of(
        job: &OperationJob,
        starting: &[Arc<Pod>],
        inventory: &Inventory,
        now: Timestamp,
    ) -> Self {
        match limits::unavailable(job) {
            Err(invalid) => Self::Unknown(invalid.message),
            Ok(None) => Self::Unlimited,
            Ok(Some(allowed)) => Self::Limited(Allowance::of(starting, inventory, allowed, now)),
        }
    }

    /// The same without pods that are operated.
    #[must_use]
    pub fn without(mut self, operated: impl IntoIterator<Item = Operated>) -> Self {
        if let Self::Limited(allowance) = &mut self {
            for pod in operated {
                allowance.remove(&pod);
            }
        }
        self
    }
}

impl Allowance {
    fn of(starting: &[Arc<Pod>], inventory: &Inventory, allowed: Amount, now: Timestamp) -> Self {
        let mut allowance = Self::default();
        let workloads: BTreeSet<_> = starting.iter().filter_map(|pod| workload(pod)).collect();
        let mut pods: BTreeMap<_, Vec<&Pod>> = BTreeMap::new();
        for pod in inventory.pods.iter().filter(|pod| !is_finished(pod)) {
            if let Some(workload) = workload(pod).filter(|found| workloads.contains(found)) {
                pods.entry(workload).or_default().push(pod);
            }
        }
        for workload in &workloads {
            let pods = pods.remove(workload).unwrap_or_default();
            let size = inventory.sizes.iter().find_map(|sizes| sizes.get(workload));
            allowance.add_workload(workload, size, allowed, pods, now);
        }
        for budget in inventory.budgets.iter() {
            allowance.add_budget(budget, starting, &inventory.pods, now);
        }
        allowance
    }

    fn add_workload(
        &mut self,
        workload: &Workload,
        size: Option<&Size>,
        allowed: Amount,
        pods: Vec<&Pod>,
        now: Timestamp,
    ) {
        let name = format!("{}/{}", workload.kind.to_lowercase(), workload.name);
        let Some(size) = size else {
            let is_counted = |pod: &&Pod| is_available(pod, 0, now);
            let available = pods.into_iter().filter(is_counted).collect();
            return self.add(Rule::UnknownWorkload { name }, usize::MAX, available);
        };
        let is_counted = |pod: &&Pod| is_available(pod, size.min_ready_seconds, now);
        let available: Vec<_> = pods.into_iter().filter(is_counted).collect();
        let wanted = size.pods;
        // A share that rounds to none would never let a target start.
        let allowed = allowed.rounded_down(wanted).max(1);
        let rule = Rule::Workload {
            name,
            wanted,
            allowed,
        };
        let least = wanted.saturating_sub(allowed);
        self.add(rule, least, available);
    }

    fn add_budget(
        &mut self,
        budget: &PodDisruptionBudget,
        starting: &[Arc<Pod>],
        pods: &[Arc<Pod>],
        now: Timestamp,
    ) {
        // One without a selector selects no pods.
        let selector = budget.spec.as_ref().and_then(|spec| spec.selector.clone());
        let Some(Ok(selector)) = selector.map(Selector::try_from) else {
            return;
        };
        let is_selected = |pod: &&Arc<Pod>| selector.matches(pod.labels());
        if !starting.iter().any(|pod| is_selected(&pod)) {
            return;
        }
        let selected = pods.iter().filter(is_selected).map(|pod| &**pod);
        let available = selected.filter(|pod| is_available(pod, 0, now)).collect();
        let name = budget.name_any();
        match least(budget) {
            Ok(least) => self.add(Rule::Budget { name, least }, least, available),
            Err(why) => {
                self.add(Rule::UnknownBudget { name, why }, usize::MAX, available);
            }
        }
    }

    /// Adds a limit on these available pods, of which so many must stay.
    fn add(&mut self, rule: Rule, least: usize, pods: Vec<&Pod>) {
        let place = self.limits.len();
        let free = match rule {
            // Pods beyond those that are wanted are about to go.
            Rule::Workload { allowed, .. } => pods.len().saturating_sub(least).min(allowed),
            _ => pods.len().saturating_sub(least),
        };
        self.limits.push(Limit {
            rule,
            available: pods.len(),
            free,
        });
        for pod in pods {
            let counted = self.available.entry(pod.name_any()).or_default();
            counted.uid = pod.uid().unwrap_or_default();
            counted.limits.push(place);
        }
    }

    /// A pod is operated: it does not count as available, whether it may become unavailable or not.
    fn remove(&mut self, pod: &Operated) {
        let Some(found) = self.available.get(&pod.name) else {
            return;
        };
        if pod.uid.as_ref().is_some_and(|uid| *uid != found.uid) {
            return;
        }
        for place in &found.limits {
            let limit = &mut self.limits[*place];
            limit.available -= 1;
            limit.free = limit.free.saturating_sub(1);
        }
        self.available.remove(&pod.name);
    }

    /// Starts the target with the pod of this name.
    ///
    /// # Errors
    /// Why the pod must stay available.
    pub(super) fn start(&mut self, name: &str) -> Result<(), String> {
        let Some(found) = self.available.get(name) else {
            return Ok(());
        };
        let mut limits = found.limits.iter().map(|place| &self.limits[*place]);
        if let Some(full) = limits.find(|limit| limit.free == 0) {
            return Err(full.sentence());
        }
        self.remove(&Operated {
            name: name.to_owned(),
            uid: None,
        });
        Ok(())
    }
}

impl Limit {
    /// Why no more pods may become unavailable.
    fn sentence(&self) -> String {
        let available = self.available;
        match &self.rule {
            Rule::Workload {
                name,
                wanted,
                allowed,
            } => format!(
                "{name}: {available} of {wanted} pods are available and not in operation, and spec.maxUnavailable allows \
                 {allowed} to be missing"
            ),
            Rule::UnknownWorkload { name } => format!(
                "how many pods {name} wants is not known, because it does not exist or spec.maxUnavailable does not know \
                 its kind; remove spec.maxUnavailable to start without"
            ),
            Rule::Budget { name, least } => format!(
                "PodDisruptionBudget {name}: {available} pods are available and not in operation, and {least} are required"
            ),
            Rule::UnknownBudget { name, why } => {
                format!("PodDisruptionBudget {name} does not say how many pods it requires: {why}")
            }
        }
    }
}

/// How many available pods a PodDisruptionBudget requires, as its controller computed it for the present spec.
fn least(budget: &PodDisruptionBudget) -> Result<usize, String> {
    let status = budget.status.as_ref();
    let has_failed = |condition: &&Condition| {
        condition.type_ == "DisruptionAllowed" && condition.reason == "SyncFailed"
    };
    let conditions = status.iter().flat_map(|status| &status.conditions);
    if let Some(failed) = conditions.flatten().find(has_failed) {
        return Err(failed.message.clone());
    }
    let current = status.filter(|status| status.observed_generation == budget.metadata.generation);
    let required = current.map(|status| status.desired_healthy);
    required
        .and_then(|required| usize::try_from(required).ok())
        .ok_or_else(|| "its status is not up to date".to_owned())
}

/// Whether a pod has been Ready for long enough, and stays.
fn is_available(pod: &Pod, min_ready_seconds: i64, now: Timestamp) -> bool {
    let ready = condition(pod, "Ready").and_then(|ready| ready.last_transition_time.as_ref());
    let lasts = ready.map_or(i64::MAX, |since| now.as_second() - since.0.as_second());
    pod.metadata.deletion_timestamp.is_none() && is_ready(pod) && lasts >= min_ready_seconds
}
