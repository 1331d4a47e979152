//! What another process left behind.

use super::*;

#[test]
fn what_a_killed_process_left_behind_keeps_no_write_away() {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = Cache::open(folder.path().join("compiled")).expect("a cache");
    let key = Key {
        component: [1; 32],
        compatibility: [2; 32],
    };
    // In a container, every process of the host has the same number.
    let pid = std::process::id();
    for number in 0..8 {
        let left = format!(".{pid}-{number}-{}", name(&key));
        File::create(folder.path().join("compiled").join(left)).expect("a file");
    }
    let code = vec![7; 100];
    let written = cache.write(&key, &CompiledComponent { code: code.clone() });
    assert!(written.is_ok(), "{written:?}");
    let read = cache.read(&key).expect("a file").expect("code");
    assert_eq!(read.code, code);
}
