//! What `kubectl operon` decides, as functions of the objects that it read: the tree of an object, its lines on a
//! terminal, whether it has finished, and the effect of a verb or why the verb is refused.
//!
//! Everything here is pure: no I/O, no client, no clock. The command reads objects, calls this crate, and prints or
//! writes the result.

mod events;
mod job;
mod kind;
mod label_selector;
mod object;
mod plugin;
mod pod;
mod related;
mod render;
mod run;
#[cfg(test)]
mod tests;
mod text;
mod tree;
mod verb;
mod why;

pub use events::{Happening, happenings};
pub use kind::{Kind, UnknownKind, is_name};
pub use object::{Object, Outcome, Unreadable};
pub use plugin::{facts, plugin_tree, plugin_why};
pub use related::{Related, Wanted};
pub use render::{Screen, changes, draw};
pub use run::{
    Request, Selectable, changes_nothing, check_action, operation_job, preview, selectable,
};
pub use text::{count, fitted, printable};
pub use tree::{Mark, Row, Tree, targets};
pub use verb::{Changed, Decision, Effect, Promotion, Refusal, Right, Verb, effect};
pub use why::{NoPart, why};
