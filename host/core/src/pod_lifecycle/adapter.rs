//! The steps of an operation that takes part: begin, find out whether it may act, finish, withdraw. Each is
//! one change of labels, with the resource version of the pod that it was decided from.

pub use super::labels::Edit;
use super::labels::{Labels, Mark, Operation, Stage};

/// An operation, as its performer names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adapter<'a> {
    /// Its id, at most 63 characters.
    pub id: &'a str,
    /// Its type: at most 63 characters.
    pub kind: &'a str,
}

/// The state of an operation on a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has not begun: this edit begins it.
    Begin(Edit),
    /// It cannot begin before these operations on the pod are over.
    Blocked(Vec<String>),
    /// It has begun, and may not act yet.
    Waits(Stage),
    /// It may act since this time, in nanoseconds since 1970.
    Allowed(i128),
    /// It has acted; the pod is being brought back into service.
    Returning,
}

impl Adapter<'_> {
    /// Whether the operation has begun on a pod with these labels, and has left some.
    pub fn has_begun(&self, labels: &Labels) -> bool {
        Operation::of(labels, self.id).kind() == Some(self.kind)
    }

    /// The state of the operation. It begins only on a pod that has no label of any operation: an operation
    /// that begins while another ends would be ended with it.
    pub fn standing(&self, labels: &Labels, now: i128) -> Standing {
        let own = Operation::of(labels, self.id);
        let others: Vec<_> = Operation::all(labels)
            .iter()
            .map(|operation| operation.id.to_owned())
            .collect();
        if own.keys().next().is_none() {
            if !others.is_empty() {
                return Standing::Blocked(others);
            }
            let begin = [
                (Mark::Operating.of(self.id), Some(now.to_string())),
                (Mark::OperationType.of(self.id), Some(self.kind.to_owned())),
            ];
            return Standing::Begin(begin.into());
        }
        if own.kind().is_some_and(|kind| kind != self.kind) {
            // Whoever has this id is doing something else.
            return Standing::Blocked(vec![self.id.to_owned()]);
        }
        match own.stage() {
            Stage::Operate => {
                let since = own.get(Mark::Operate).and_then(|time| time.parse().ok());
                Standing::Allowed(since.unwrap_or(now))
            }
            stage @ (Stage::PreCheck | Stage::Preparing) => Standing::Waits(stage),
            // The labels of the operation before go first.
            Stage::Undone | Stage::Orphaned => Standing::Blocked(vec![self.id.to_owned()]),
            Stage::Finished | Stage::PostCheck | Stage::Completing => Standing::Returning,
        }
    }

    /// The operation has acted. Nothing if it may not have: it is taken back then.
    pub fn finish(&self, labels: &Labels) -> Option<Edit> {
        let own = Operation::of(labels, self.id);
        let removed = (Mark::Operating.of(self.id), None);
        (own.stage() == Stage::Operate).then(|| [removed].into())
    }

    /// Takes the operation back. Nothing if it has not begun, or has acted.
    pub fn undo(&self, labels: &Labels) -> Option<Edit> {
        match Operation::of(labels, self.id).stage() {
            Stage::PreCheck | Stage::Preparing | Stage::Operate => {
                let undo = (Mark::UndoType.of(self.id), Some(self.kind.to_owned()));
                Some([undo].into())
            }
            Stage::Undone
            | Stage::Orphaned
            | Stage::Finished
            | Stage::PostCheck
            | Stage::Completing => None,
        }
    }
}
