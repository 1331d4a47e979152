//! The labels of the protocol, and what those of one operation say.
//!
//! An operation is named by an id: `collaset`, `pod-delete`, or one of an OperationJob. Most labels are
//! `<name>.podopslifecycle.kusionstack.io/<id>`. Values that are times are nanoseconds since 1970.

use std::collections::{BTreeMap, BTreeSet};

/// The labels of a pod.
pub type Labels = BTreeMap<String, String>;

/// A change of labels: they are set, or removed where there is no value.
pub type Edit = BTreeMap<String, Option<String>>;

/// The change from some labels to others.
pub(super) fn difference(before: &Labels, after: &Labels) -> Edit {
    let removed = before.keys().filter(|key| !after.contains_key(*key));
    let removed = removed.map(|key| (key.clone(), None));
    let is_new = |(key, value): &(&String, &String)| before.get(*key) != Some(*value);
    let set = after.iter().filter(is_new);
    let set = set.map(|(key, value)| (key.clone(), Some(value.clone())));
    removed.chain(set).collect()
}

/// Changes labels.
pub(super) fn apply(edit: Edit, labels: &mut Labels) {
    for (key, value) in edit {
        match value {
            Some(value) => labels.insert(key, value),
            None => labels.remove(&key),
        };
    }
}

/// The readiness gate that the lifecycle sets.
pub const GATE: &str = "pod.kusionstack.io/service-ready";

/// On a pod that serves; its presence counts.
pub const SERVICE_AVAILABLE: &str = "podopslifecycle.kusionstack.io/service-available";
/// On a pod that must stay out of service.
pub const STAY_OFFLINE: &str = "podopslifecycle.kusionstack.io/stay-offline";
/// On a pod that an operation will delete.
pub const PREPARING_TO_DELETE: &str = "podopslifecycle.kusionstack.io/preparing-to-delete";
/// On a pod that was created and has not served yet.
pub const CREATING: &str = "podopslifecycle.kusionstack.io/creating";
/// On a pod that was created again and has not served yet.
pub const COMPLETING_AGAIN: &str = "podopslifecycle.kusionstack.io/completing";

/// The prefix of the finalizers of cooperating controllers.
pub const PROTECTION: &str = "prot.podopslifecycle.kusionstack.io";
/// Which finalizers a pod must have before it serves: an annotation, as JSON.
pub const AVAILABLE_CONDITIONS: &str = "pod.kusionstack.io/available-conditions";

/// The finalizers of cooperating controllers, among those of a pod.
pub fn protecting(finalizers: &[String]) -> impl Iterator<Item = &str> {
    let all = finalizers.iter().map(String::as_str);
    all.filter(|finalizer| finalizer.starts_with(PROTECTION))
}

const DOMAIN: &str = ".podopslifecycle.kusionstack.io/";

/// A label of one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    /// The operation has begun, and is not finished.
    Operating,
    /// Its type, for example `update`.
    OperationType,
    /// Rules decide whether it may begin.
    PreCheck,
    /// They allow it.
    PreChecked,
    /// Of a type, not of an id: operations of this type are allowed.
    Permission,
    /// The pod is being taken out of service.
    Preparing,
    /// The pod is out of service: the operation may act.
    Operate,
    /// The operation has acted.
    Operated,
    /// The type of the finished operation.
    DoneType,
    /// Rules decide whether the pod may serve again.
    PostCheck,
    /// They allow it.
    PostChecked,
    /// The pod is being brought back into service.
    Completing,
    /// The operation is taken back. The value is a type.
    UndoType,
}

impl Mark {
    /// All of one id. `Permission` belongs to a type.
    const OF_ID: [Self; 12] = [
        Self::Operating,
        Self::OperationType,
        Self::PreCheck,
        Self::PreChecked,
        Self::Preparing,
        Self::Operate,
        Self::Operated,
        Self::DoneType,
        Self::PostCheck,
        Self::PostChecked,
        Self::Completing,
        Self::UndoType,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Operating => "operating",
            Self::OperationType => "operation-type",
            Self::PreCheck => "pre-check",
            Self::PreChecked => "pre-checked",
            Self::Permission => "operation-permission",
            Self::Preparing => "preparing",
            Self::Operate => "operate",
            Self::Operated => "operated",
            Self::DoneType => "done-operation-type",
            Self::PostCheck => "post-check",
            Self::PostChecked => "post-checked",
            Self::Completing => "completing",
            Self::UndoType => "undo-operation-type",
        }
    }

    /// The key of this label for an id; of [`Mark::Permission`], for a type.
    pub fn of(self, id: &str) -> String {
        format!("{}{DOMAIN}{id}", self.name())
    }

    /// The mark and the id, or type, of a label's key.
    fn parse(key: &str) -> Option<(Self, &str)> {
        let (name, id) = key.split_once(DOMAIN)?;
        let all = Self::OF_ID.iter().chain([&Self::Permission]);
        let mark = all.copied().find(|mark| mark.name() == name)?;
        Some((mark, id))
    }
}

/// How far an operation is, by its labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It is taken back.
    Undone,
    /// It has begun; rules decide.
    PreCheck,
    /// It is allowed; the pod is being taken out of service.
    Preparing,
    /// It may act.
    Operate,
    /// It has acted, and waits for other operations on the pod.
    Finished,
    /// All have acted; rules decide.
    PostCheck,
    /// The pod is being brought back into service.
    Completing,
    /// Its labels are inconsistent: no controller continues it.
    Orphaned,
}

/// The labels of one operation on one pod.
#[derive(Clone, Copy, Debug)]
pub struct Operation<'a> {
    /// Its id.
    pub id: &'a str,
    labels: &'a Labels,
}

impl<'a> Operation<'a> {
    /// The operation of this id, which may have no label at all.
    pub fn of(labels: &'a Labels, id: &'a str) -> Self {
        Self { id, labels }
    }

    /// All operations with a label on the pod.
    pub fn all(labels: &'a Labels) -> Vec<Self> {
        let ids: BTreeSet<_> = labels
            .keys()
            .filter_map(|key| Mark::parse(key))
            .filter_map(|(mark, id)| (mark != Mark::Permission).then_some(id))
            .collect();
        ids.into_iter().map(|id| Self { id, labels }).collect()
    }

    /// The value of a label.
    pub fn get(&self, mark: Mark) -> Option<&'a str> {
        self.labels.get(&mark.of(self.id)).map(String::as_str)
    }

    /// Whether it has a label.
    pub fn has(&self, mark: Mark) -> bool {
        self.get(mark).is_some()
    }

    /// Its type.
    pub fn kind(&self) -> Option<&'a str> {
        self.get(Mark::OperationType)
            .or_else(|| self.get(Mark::DoneType))
    }

    /// Its labels.
    pub fn keys(&self) -> impl Iterator<Item = String> + use<'_> {
        let keys = Mark::OF_ID.iter().map(|mark| mark.of(self.id));
        keys.filter(|key| self.labels.contains_key(key))
    }

    /// How far it is.
    pub fn stage(&self) -> Stage {
        if self.has(Mark::UndoType) {
            return Stage::Undone;
        }
        match (self.has(Mark::Operating), self.has(Mark::Operate)) {
            (true, true) => Stage::Operate,
            (true, false) if self.has(Mark::PreChecked) => Stage::Preparing,
            (true, false) => Stage::PreCheck,
            (false, true) => Stage::Finished,
            (false, false) if !self.has(Mark::Operated) => Stage::Orphaned,
            (false, false) if self.has(Mark::PostChecked) => Stage::Completing,
            (false, false) => Stage::PostCheck,
        }
    }
}

/// The types for which a pod has a permission.
pub(super) fn permitted(labels: &Labels) -> impl Iterator<Item = &str> {
    let marks = labels.keys().filter_map(|key| Mark::parse(key));
    marks.filter_map(|(mark, kind)| (mark == Mark::Permission).then_some(kind))
}
