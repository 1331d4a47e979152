//! What the status of a target remembers. `Asked` and `Previous` are there before the first write, because a release
//! needs them and the parameters may be changed meanwhile.

use operon_sdk::{Failure, Operation, Target};

use crate::amounts::{self, ByContainer};

/// The resources that the job asks for, by container.
pub const ASKED: &str = "Asked";
/// What the spec had of them before.
pub const PREVIOUS: &str = "Previous";
/// The pod's generation from which the write started.
pub const WRITTEN: &str = "Written";
/// When the kubelet was first seen to have finished while the reported resources were still others.
pub const UNREPORTED: &str = "Unreported";

/// How many bytes a value of extra-info may have.
const VALUE_BYTES: usize = 1024;

/// What was asked for, and what there was before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What the job asks for.
    pub asked: ByContainer,
    /// What the spec had of it; fields that the spec did not have are absent.
    pub previous: ByContainer,
}

impl Record {
    /// What the status remembers, if it does.
    pub fn of(target: &Target) -> Option<Self> {
        let asked = target.extra(ASKED)?;
        Some(Self {
            asked: amounts::from_text(Some(asked)),
            previous: amounts::from_text(target.extra(PREVIOUS)),
        })
    }

    /// Remembers it.
    pub fn remembered(&self, operation: Operation) -> Operation {
        operation
            .remember(ASKED, amounts::to_text(&self.asked))
            .remember(PREVIOUS, amounts::to_text(&self.previous))
    }

    /// Checks that a status has room for it.
    pub fn check_size(&self) -> Result<(), Failure> {
        let texts = [&self.asked, &self.previous].map(amounts::to_text);
        if texts.iter().all(|text| text.len() <= VALUE_BYTES) {
            return Ok(());
        }
        let message = format!(
            "the resources of {} containers do not fit into the status of a target: name fewer containers, and create further jobs for the others",
            self.asked.len()
        );
        Err(Failure::new("TooManyContainers", message))
    }
}

/// A number that the status remembers.
pub fn number(target: &Target, key: &str) -> Option<i64> {
    target.extra(key)?.parse().ok()
}
