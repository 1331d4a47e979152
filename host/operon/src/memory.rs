//! How much memory the running calls of actions may take together: what the limit of the container leaves.

use std::fs;

use operon_plugin_runtime::ChildLimits;

/// The least that calls get: one call of an action with default limits.
const LEAST: u64 = 32 << 20;

/// The files with the memory limit of this container: of the second version of cgroups, and of the first.
const FILES: [&str; 2] = [
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
];

/// What all running calls may take together, in bytes, if the host itself takes `host` bytes; `None` if nothing limits the
/// memory of this process.
pub(crate) fn for_calls(host: u64) -> Option<u64> {
    let found = FILES.iter().find_map(|file| fs::read_to_string(file).ok());
    limit(&found?).map(|limit| left_by(limit, host))
}

/// The limit in such a file. Without a limit there is the word `max`, or a number near the largest one.
fn limit(text: &str) -> Option<u64> {
    let bytes = text.trim().parse().ok()?;
    (bytes < 1 << 60).then_some(bytes)
}

/// What a limit leaves beside the host and a compilation.
fn left_by(limit: u64, host: u64) -> u64 {
    limit
        .saturating_sub(host)
        .saturating_sub(ChildLimits::COMPILE.memory)
        .max(LEAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_get_what_the_limit_leaves_beside_the_host_and_a_compilation() {
        let mib = |text: &str| limit(text).map(|bytes| left_by(bytes, 128 << 20) >> 20);
        assert_eq!(mib("1073741824\n"), Some(384));
        assert_eq!(mib("268435456\n"), Some(32));
        assert_eq!(mib("max\n"), None);
        assert_eq!(mib("9223372036854771712\n"), None);
        assert_eq!(mib(""), None);
        assert_eq!(left_by(1 << 30, 256 << 20), 256 << 20);
        assert_eq!(left_by(1 << 30, u64::MAX), LEAST);
    }
}
