//! The action Annotate: annotations of a target's pod are set and removed, by the parameters of the job. All it does is
//! in `operon_attributes`, which it shares with Label.

use operon_attributes::{Annotations, Change};

/// The action.
pub type Annotate = Change<Annotations>;

operon_sdk::register!(Annotate);
