//! The action Label: labels of a target's pod are set and removed, by the parameters of the job. All it does is in
//! `operon_attributes`, which it shares with Annotate.

use operon_attributes::{Change, Labels};

/// The action.
pub type Label = Change<Labels>;

operon_sdk::register!(Label);
