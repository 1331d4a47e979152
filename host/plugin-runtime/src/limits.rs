//! Every limit on what a component passes to the host, with its reason; the one place for limits.
//!
//! Each is checked where the value enters, before anything recursive or expensive touches it. Texts for
//! people (messages, log lines) are shortened; values with a meaning to the cluster or to the action are
//! refused. What a call may use (memory, time, stack, instances) is in `engine` and `spec.limits`; what a
//! child process may use is in `operon-compiled-code`. `docs/action-plugin.md` lists the limits that
//! concern an author.

use std::time::Duration;

// The component.

/// Bytes of a component, unless [`LoaderConfig`](crate::LoaderConfig) says otherwise. A ConfigMap holds 1 MiB,
/// which may be gzipped.
pub(crate) const COMPONENT_BYTES: usize = 16 << 20;
/// Bytes that the compile child reads, whatever the host is configured to: components of interpreted languages
/// carry their interpreter.
pub const MOST_COMPONENT_BYTES: usize = 32 << 20;
/// Bytes of the name of a module or of a function. wasmtime copies the names of 64 frames for each trap,
/// so this times 64 is the memory that a trap takes.
pub(crate) const SYMBOL_BYTES: usize = 8 << 10;
/// Bytes of the message about a component that could not be loaded. It quotes names in the component; a
/// condition holds 32 KiB.
pub(crate) const REFUSAL_BYTES: usize = 1 << 10;

/// Producers of a component that are kept, of all its sections. A component has five.
pub(crate) const PRODUCERS: usize = 32;
/// Bytes of the name of an import, an export or a producer that are kept.
pub(crate) const PRODUCER_BYTES: usize = 256;

// Every answer.

/// Bytes that the guest may pass to the host in one call: an answer, or the arguments of a host call. An
/// object of Kubernetes has at most 1.5 MiB.
pub(crate) const HANDED_BYTES: usize = 2 << 20;
/// Levels of JSON inside each other. serde_json refuses 128 with a message about itself; the host adds a
/// few levels of its own.
pub(crate) const JSON_DEPTH: usize = 100;
/// Values of the JSON in one answer. A small object takes about 100 times its text in memory, so 2 MiB of
/// text would be 200 MiB; 10,000 values are 7 MiB at most. A large pod has 500.
pub(crate) const JSON_VALUES: usize = 10_000;

// The answer of `setup`.

/// Watches. Each is a cache and a connection to the API server.
pub(crate) const WATCHES: usize = 32;
/// Mappings of a watch. Each is evaluated for each event of the kind.
pub(crate) const MAPPINGS: usize = 16;
/// Bytes of a watch's label selector. The plugin's status lists it.
pub(crate) const WATCH_SELECTOR_BYTES: usize = 1 << 10;
/// Fields that a watch keeps. A kind has few at the top.
pub(crate) const FIELDS: usize = 32;
/// Bytes of an `apiVersion`: a DNS name of 253, a slash, and a label of 63.
pub(crate) const API_VERSION_BYTES: usize = 317;
/// Bytes of a kind, as Kubernetes allows for a CustomResourceDefinition.
pub(crate) const KIND_BYTES: usize = 63;
/// Bytes of the key of a label: a DNS name of 253, a slash, and a name of 63.
pub(crate) const LABEL_KEY_BYTES: usize = 317;
/// Bytes of the settings schema. It is walked, then compiled by a child process.
pub(crate) const SCHEMA_BYTES: usize = 64 << 10;
/// Values of the settings schema with its references followed: what a validator may have to apply.
pub(crate) const SCHEMA_VALUES: usize = 10_000;
/// Levels of the settings schema with its references followed: how deep a validator recurses.
pub(crate) const SCHEMA_DEPTH: usize = 64;
/// Bytes of the settings that are checked against it. An object of Kubernetes has at most 1.5 MiB.
pub(crate) const VALUE_BYTES: usize = 2 << 20;
/// Bytes of memory of one compiled pattern of the settings schema.
pub(crate) const PATTERN_BYTES: usize = 1 << 20;
/// Bytes of the message that names where settings violate their schema; it quotes the value.
pub(crate) const MISTAKE_BYTES: usize = 300;

// The answers about a target.

/// Effects of an answer. They are performed one after the other, each a request.
pub(crate) const EFFECTS: usize = 64;
/// Events of an answer. The host sends them as itself, and each is an object of the API server.
pub(crate) const EVENTS: usize = 2;
/// Requirements of an answer. Each is a read of the API server.
pub(crate) const REQUIREMENTS: usize = 8;
/// Bytes of a name, a uid, a resource version or a subresource. Names of Kubernetes have 253.
pub(crate) const NAME_BYTES: usize = 253;
/// Entries of extra-info. They are kept in the status of a job that may have 10,000 targets.
pub(crate) const EXTRA_INFO_ENTRIES: usize = 32;
/// Bytes of a key of extra-info, as of a label's name.
pub(crate) const EXTRA_INFO_KEY_BYTES: usize = 63;
/// Bytes of a value of extra-info.
pub(crate) const EXTRA_INFO_VALUE_BYTES: usize = 1 << 10;
/// Bytes of a reason: one CamelCase word. Others are replaced.
pub(crate) const REASON_BYTES: usize = 64;
/// Bytes of a message, as a status and an Event hold. Longer ones are shortened.
pub(crate) const MESSAGE_BYTES: usize = 1 << 10;
/// The shortest `recheck-after` and `retry` after: without it, an action that answers zero is called
/// without pause.
pub(crate) const SHORTEST_WAIT: Duration = Duration::from_millis(100);
/// The longest of them, so that a slip of the pen does not stop a target for weeks.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_hours(1);

// Requests of a call to the host. Names, uids, kinds and `apiVersion`s of reads have the limits of those in
// answers; selectors of reads: `operon_core::selector::MAX_BYTES`.

/// Calls of `cluster` and `log` that one call may make before it is ended.
pub(crate) const HOST_CALLS: u32 = 20_000;
/// Calls of `cluster` that are answered; those beyond get `too-much`.
pub(crate) const READS: u32 = 1_000;
/// Bytes that `cluster` answers with.
pub(crate) const READ_BYTES: usize = 8 << 20;
/// Lines of one call in the host's log. Those beyond are counted and dropped.
pub(crate) const LOG_LINES: u32 = 100;
/// Bytes of one call's lines in the host's log.
pub(crate) const LOG_BYTES: usize = 32 << 10;
/// Bytes of one line in the host's log.
pub(crate) const LOG_LINE_BYTES: usize = 2 << 10;
/// Bytes of standard output that are kept for the error of a call that trapped.
pub(crate) const OUTPUT_BYTES: usize = 4 << 10;
/// Bytes of a panic's text in the error of a call that trapped.
pub(crate) const PANIC_BYTES: usize = 512;
/// Handles of WASI that one call may hold.
pub(crate) const WASI_HANDLES: usize = 128;
/// Random bytes that the guest may request in one call.
pub(crate) const RANDOM_BYTES: u64 = 64 << 10;

#[cfg(test)]
mod tests;
