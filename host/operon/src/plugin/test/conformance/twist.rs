//! What goes wrong in a run: one mishap at one call, and the deletion of the job before one.

/// The functions of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Setup,
    Operate,
    Progress,
    Release,
}

impl Function {
    /// As the contract names it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Setup => "setup",
            Self::Operate => "operate-target",
            Self::Progress => "get-ops-progress",
            Self::Release => "release-target",
        }
    }
}

/// What becomes of a target's pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Missing,
    Terminating,
    Recreated,
}

/// What goes wrong at a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mishap {
    /// The host repeats it, with the extra-info of before.
    Twice,
    /// The host is killed when this number of effects has been performed.
    Killed(usize),
    /// The API server refuses the effect after this number as a conflict.
    Conflict(usize),
    /// The target's pod changes before it.
    Before(Fate),
    /// The target's pod changes between what it reads and its effects.
    Meanwhile(Fate),
    /// Other clients write every object between what it reads and its effects.
    Touched,
    /// Another client has deleted what the action created.
    MadeDeleted,
    /// The progress is read before it.
    AskedFirst,
}

/// What is different from a plain run. Calls are numbered from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Twist {
    /// The job is deleted before this call.
    pub(super) canceled: Option<usize>,
    /// What goes wrong, and at which call.
    pub(super) mishap: Option<(usize, Mishap)>,
}

impl Twist {
    pub(super) fn at(call: usize, mishap: Mishap) -> Self {
        Self {
            canceled: None,
            mishap: Some((call, mishap)),
        }
    }

    pub(super) fn canceled_before(call: usize) -> Self {
        Self {
            canceled: Some(call),
            mishap: None,
        }
    }

    pub(super) fn with(self, call: usize, mishap: Mishap) -> Self {
        Self {
            mishap: Some((call, mishap)),
            ..self
        }
    }
}
