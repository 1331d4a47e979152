//! A pod with everybody who acts on it: the controller, the kubelet, a controller that sends requests to
//! it, and operations.

use std::collections::BTreeSet;

use crate::pod_lifecycle::{
    adapter::{Adapter, Edit, Standing},
    labels::{Labels, Operation, PROTECTION, SERVICE_AVAILABLE, STAY_OFFLINE, Stage},
    transition::{Gate, Observed, Transition, Verdict, transition},
};

/// The pod.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) labels: Labels,
    pub(super) finalizers: Vec<String>,
    pub(super) gate: Gate,
    pub(super) containers_are_ready: bool,
    pub(super) is_ready: bool,
    pub(super) is_scheduled: bool,
    pub(super) before: Verdict,
    pub(super) after: Verdict,
    expected: BTreeSet<String>,
    now: i128,
    /// Requests that change the pod.
    pub(super) writes: usize,
}

impl World {
    /// A pod that runs, with the gate in its spec or without.
    pub(super) fn new(has_gate: bool) -> Self {
        Self {
            labels: Labels::new(),
            finalizers: Vec::new(),
            gate: if has_gate { Gate::Unset } else { Gate::Absent },
            containers_are_ready: true,
            is_ready: false,
            is_scheduled: true,
            before: Verdict::Allowed,
            after: Verdict::Allowed,
            expected: BTreeSet::new(),
            now: 1_000,
            writes: 0,
        }
    }

    /// One to which a cooperating controller sends requests, which must be there before it serves.
    pub(super) fn with_traffic(has_gate: bool) -> Self {
        let mut world = Self::new(has_gate);
        world.expected.insert(traffic());
        world
    }

    pub(super) fn next(&self) -> Transition {
        transition(&Observed {
            labels: &self.labels,
            finalizers: &self.finalizers,
            expected: Some(&self.expected),
            gate: self.gate,
            is_ready: self.is_ready,
            is_scheduled: self.is_scheduled,
            is_deleting: false,
            before: self.before,
            after: self.after,
            now: self.now,
        })
    }

    /// The controller's write. Whether it did anything.
    pub(super) fn control(&mut self) -> bool {
        let Transition { labels, gate } = self.next();
        let changes = !labels.is_empty() || gate.is_some();
        let is_offline = self.labels.contains_key(STAY_OFFLINE);
        assert!(!is_offline || gate != Some(true), "{self:#?}");
        if changes {
            self.edit(labels);
        }
        if let Some(open) = gate {
            self.gate = if open { Gate::Open } else { Gate::Closed };
        }
        changes
    }

    /// Whether the kubelet did anything.
    pub(super) fn kubelet(&mut self) -> bool {
        let is_open = matches!(self.gate, Gate::Absent | Gate::Open);
        let is_ready = self.containers_are_ready && is_open;
        std::mem::replace(&mut self.is_ready, is_ready) != is_ready
    }

    /// Whether the controller that sends requests to the pod did anything.
    pub(super) fn traffic(&mut self) -> bool {
        if self.expected.is_empty() || self.is_ready == self.finalizers.contains(&traffic()) {
            return false;
        }
        self.finalizers.clear();
        if self.is_ready {
            self.finalizers.push(traffic());
        }
        true
    }

    pub(super) fn edit(&mut self, edit: Edit) {
        self.now += 1;
        self.writes += 1;
        for (key, value) in edit {
            match value {
                Some(value) => self.labels.insert(key, value),
                None => self.labels.remove(&key),
            };
        }
    }

    pub(super) fn standing(&self, operation: Adapter<'_>) -> Standing {
        operation.standing(&self.labels, self.now)
    }

    /// Whether the operation may act.
    pub(super) fn may_act(&self, operation: Adapter<'_>) -> bool {
        matches!(self.standing(operation), Standing::Allowed(_))
    }

    /// Begins the operation, if it can.
    pub(super) fn begin(&mut self, operation: Adapter<'_>) -> bool {
        match self.standing(operation) {
            Standing::Begin(edit) => {
                self.edit(edit);
                true
            }
            Standing::Blocked(_)
            | Standing::Waits(_)
            | Standing::Allowed(_)
            | Standing::Returning => false,
        }
    }

    /// Lets everybody but operations act until nothing happens any more.
    pub(super) fn settle(&mut self) {
        for _ in 0..50 {
            let happened = [self.control(), self.kubelet(), self.traffic()];
            if happened == [false; 3] {
                return;
            }
        }
        unreachable!("it never comes to rest: {self:#?}");
    }

    /// The labels without their domain, the times without value.
    pub(super) fn said(&self) -> Vec<String> {
        let short = |(key, value): (&String, &String)| {
            let (name, id) = key.split_once('/').unwrap_or((key, ""));
            let name = match name.split_once('.') {
                Some((name, "podopslifecycle.kusionstack.io")) => name,
                _ => id,
            };
            let is_time = value.parse::<i128>().is_ok();
            let end = if is_time { "" } else { value.as_str() };
            format!("{name}{}{end}", if is_time { "" } else { "=" })
        };
        let mut said: Vec<_> = self.labels.iter().map(short).collect();
        said.sort();
        said
    }

    /// What must hold whatever happened.
    pub(super) fn check(&self) {
        let all = Operation::all(&self.labels);
        let acts = all.iter().any(|one| one.stage() == Stage::Operate);
        if acts && self.gate != Gate::Absent {
            assert_eq!(
                self.gate,
                Gate::Closed,
                "it serves while one acts: {self:#?}"
            );
            assert!(
                !self.is_ready,
                "requests reach it while one acts: {self:#?}"
            );
        }
        let serves = self.labels.contains_key(SERVICE_AVAILABLE);
        assert!(!(acts && serves), "it says that it serves: {self:#?}");
    }

    /// What holds when everything has ended.
    pub(super) fn assert_at_rest(&self) {
        let rest: Vec<&str> = if self.is_ready {
            vec![SERVICE_AVAILABLE]
        } else {
            vec![]
        };
        let left: Vec<_> = self.labels.keys().collect();
        assert_eq!(left, rest, "{self:#?}");
        assert!(matches!(self.gate, Gate::Absent | Gate::Open), "{self:#?}");
        assert_eq!(self.is_ready, self.containers_are_ready);
    }
}

fn traffic() -> String {
    format!("{PROTECTION}/traffic")
}
