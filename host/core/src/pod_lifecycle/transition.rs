//! The next transition of a pod: its label changes, and the value of its readiness gate. Pure.
//!
//! A transition goes as far as the pod allows in one step. It ends where something must be observed on the
//! pod first: the False gate, removed finalizers, or readiness.

use std::collections::BTreeSet;

use super::labels::{
    COMPLETING_AGAIN, CREATING, Edit, Labels, Mark, Operation, SERVICE_AVAILABLE, STAY_OFFLINE,
    Stage, difference, permitted, protecting,
};

/// The readiness gate of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// The pod's spec does not have it.
    Absent,
    /// It has no condition yet.
    Unset,
    /// The condition is True.
    Open,
    /// The condition is False.
    Closed,
}

/// A pod, as far as it counts.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// Its labels.
    pub labels: &'a Labels,
    /// Its finalizers.
    pub finalizers: &'a [String],
    /// The finalizers that it must have before it serves; none if that cannot be read, and the pod cannot serve.
    pub expected: Option<&'a BTreeSet<String>>,
    /// Its readiness gate.
    pub gate: Gate,
    /// Whether it is Ready.
    pub is_ready: bool,
    /// Whether it has a node.
    pub is_scheduled: bool,
    /// Whether it is being deleted.
    pub is_deleting: bool,
    /// What rules say of operations that begin.
    pub before: Verdict,
    /// What rules say of operations that end.
    pub after: Verdict,
    /// The time, in nanoseconds since 1970.
    pub now: i128,
}

/// The decision of the rules that select a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All of them allow it, or there is none.
    Allowed,
    /// A rule does not allow it, or has not decided yet.
    Waits,
}

/// What changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transition {
    /// The change of the labels.
    pub labels: Edit,
    /// The new status of the gate's condition. It is written together with the labels.
    pub gate: Option<bool>,
}

/// The next transition; nothing changes in one of a pod that is at rest, or waits.
pub fn transition(observed: &Observed<'_>) -> Transition {
    if observed.is_deleting {
        return Transition::default();
    }
    let mut next = Next::new(observed);
    next.drop_what_nobody_goes_on_with();
    next.prepare();
    next.finish();
    next.complete();
    next.serve();
    next.into_transition()
}

/// The pod's labels while they change.
struct Next<'a> {
    observed: &'a Observed<'a>,
    labels: Labels,
    gate: Option<bool>,
}

impl<'a> Next<'a> {
    fn new(observed: &'a Observed<'a>) -> Self {
        Self {
            observed,
            labels: observed.labels.clone(),
            gate: None,
        }
    }

    /// The ids that are at this stage.
    fn at(&self, stage: Stage) -> Vec<String> {
        let all = Operation::all(&self.labels).into_iter();
        let at = all.filter(|operation| operation.stage() == stage);
        at.map(|operation| operation.id.to_owned()).collect()
    }

    fn are_all_at(&self, stages: &[Stage]) -> bool {
        let all = Operation::all(&self.labels);
        all.iter().all(|one| stages.contains(&one.stage()))
    }

    fn set(&mut self, mark: Mark, id: &str, value: &str) {
        self.labels.insert(mark.of(id), value.to_owned());
    }

    /// Sets a label whose value is the time, if it is not set.
    fn stamp(&mut self, key: String) {
        let now = self.observed.now;
        self.labels.entry(key).or_insert_with(|| now.to_string());
    }

    fn remove(&mut self, mark: Mark, id: &str) {
        self.labels.remove(&mark.of(id));
    }

    /// An operation that was withdrawn, or has inconsistent labels, leaves nothing; nor does a permission
    /// for a type that no operation requests any more.
    fn drop_what_nobody_goes_on_with(&mut self) {
        for stage in [Stage::Undone, Stage::Orphaned] {
            for id in self.at(stage) {
                let keys: Vec<_> = Operation::of(&self.labels, &id).keys().collect();
                for key in keys {
                    self.labels.remove(&key);
                }
            }
        }
        self.drop_permissions();
    }

    fn drop_permissions(&mut self) {
        let all = Operation::all(&self.labels);
        let asked: BTreeSet<_> = all
            .iter()
            .filter_map(|one| one.get(Mark::OperationType))
            .map(str::to_owned)
            .collect();
        let unasked = permitted(&self.labels).filter(|kind| !asked.contains(*kind));
        let unasked: Vec<_> = unasked.map(|kind| Mark::Permission.of(kind)).collect();
        for key in unasked {
            self.labels.remove(&key);
        }
    }

    /// Takes the pod out of service for operations that are allowed, and lets them act once it is.
    fn prepare(&mut self) {
        for id in self.at(Stage::PreCheck) {
            if self.observed.before == Verdict::Waits {
                self.stamp(Mark::PreCheck.of(&id));
                continue;
            }
            self.remove(Mark::PreCheck, &id);
            self.stamp(Mark::PreChecked.of(&id));
            let kind = Operation::of(&self.labels, &id).kind().map(str::to_owned);
            if let Some(kind) = kind {
                self.stamp(Mark::Permission.of(&kind));
            }
        }
        for id in self.at(Stage::Preparing) {
            self.labels.remove(SERVICE_AVAILABLE);
            if self.is_out_of_service() {
                self.remove(Mark::Preparing, &id);
                self.stamp(Mark::Operate.of(&id));
            } else {
                self.stamp(Mark::Preparing.of(&id));
            }
        }
    }

    /// Whether the pod gets no requests any more. Without the gate that can't be known.
    fn is_out_of_service(&self) -> bool {
        match self.observed.gate {
            Gate::Absent => true,
            Gate::Unset | Gate::Open => false,
            Gate::Closed => {
                // The kubelet has seen the gate: endpoints follow the condition Ready.
                !self.observed.is_ready && protecting(self.observed.finalizers).next().is_none()
            }
        }
    }

    /// When every operation on the pod has acted, rules decide whether the pod may serve.
    fn finish(&mut self) {
        let acted = [Stage::Finished, Stage::PostCheck, Stage::Completing];
        if self.are_all_at(&acted) {
            for id in self.at(Stage::Finished) {
                let operation = Operation::of(&self.labels, &id);
                let kind = operation.kind().unwrap_or_default().to_owned();
                for mark in [Mark::PreChecked, Mark::Operate, Mark::OperationType] {
                    self.remove(mark, &id);
                }
                self.stamp(Mark::Operated.of(&id));
                self.set(Mark::DoneType, &id, &kind);
            }
            self.drop_permissions();
        }
        for id in self.at(Stage::PostCheck) {
            if self.observed.after == Verdict::Waits {
                self.stamp(Mark::PostCheck.of(&id));
            } else {
                self.remove(Mark::PostCheck, &id);
                self.stamp(Mark::PostChecked.of(&id));
            }
        }
        for id in self.at(Stage::Completing) {
            self.stamp(Mark::Completing.of(&id));
        }
    }

    /// When rules allow it for every operation, the gate opens. The operations have finished then, unless a
    /// controller that sends requests to the pod must register it first. A pod that stays offline does not wait.
    fn complete(&mut self) {
        let is_back = self.is_offline() || self.is_expected();
        if !self.are_all_at(&[Stage::Completing]) || !is_back {
            return;
        }
        for id in self.at(Stage::Completing) {
            let keys: Vec<_> = Operation::of(&self.labels, &id).keys().collect();
            for key in keys {
                self.labels.remove(&key);
            }
        }
    }

    /// Whether the gate must not be opened, whatever operations begin and end meanwhile.
    fn is_offline(&self) -> bool {
        self.labels.contains_key(STAY_OFFLINE)
    }

    fn is_expected(&self) -> bool {
        let finalizers = self.observed.finalizers;
        let expected = self.observed.expected;
        expected.is_some_and(|expected| expected.iter().all(|one| finalizers.contains(one)))
    }

    /// Opens or closes the gate, and returns whether the pod serves.
    fn serve(&mut self) {
        let all = Operation::all(&self.labels);
        let holds = |stage: Stage| match stage {
            Stage::Preparing | Stage::Operate | Stage::Finished | Stage::PostCheck => true,
            Stage::PreCheck | Stage::Completing | Stage::Undone | Stage::Orphaned => false,
        };
        let is_held = all.iter().any(|one| holds(one.stage()));
        let is_offline = self.is_offline();
        let is_at_rest = all.is_empty() && !is_offline;
        self.gate = match self.observed.gate {
            Gate::Unset | Gate::Open if is_held => Some(false),
            // The scheduler's write would be a conflict, and without a node the pod is not Ready anyway.
            Gate::Unset if !self.observed.is_scheduled => None,
            Gate::Unset | Gate::Closed if !is_held && !is_offline => Some(true),
            Gate::Absent | Gate::Unset | Gate::Open | Gate::Closed => None,
        };
        if !self.observed.is_ready {
            self.labels.remove(SERVICE_AVAILABLE);
        } else if is_at_rest && self.gate.is_none() && self.is_expected() {
            self.stamp(SERVICE_AVAILABLE.to_owned());
            self.labels.remove(CREATING);
            self.labels.remove(COMPLETING_AGAIN);
        }
    }

    fn into_transition(self) -> Transition {
        Transition {
            labels: difference(self.observed.labels, &self.labels),
            gate: self.gate,
        }
    }
}
