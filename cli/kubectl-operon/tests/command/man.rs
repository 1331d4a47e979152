//! The manual pages.

use std::{fs, path::Path, process::Command};

use crate::server::texts;

#[test]
fn each_command_has_a_manual_page_that_names_its_flags() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("man");
    let output = Command::new(env!("CARGO_BIN_EXE_kubectl-operon"))
        .arg("__man")
        .arg(&folder)
        .output();
    let (code, out, err) = texts(&output.expect("it runs"));
    assert_eq!((code, out.as_str(), err.as_str()), (Some(0), "", ""));
    let page = |name: &str| fs::read_to_string(folder.join(name)).expect("a page");
    assert!(page("kubectl-operon.1").contains("kubectl\\-operon\\-get(1)"));
    let get = page("kubectl-operon-get.1");
    assert!(get.contains("kubectl\\-operon\\-get \\- "), "{get}");
    assert!(get.contains("\\fBkubectl operon get\\fR"), "{get}");
    for flag in ["\\-\\-watch", "\\-\\-output", "\\-\\-namespace"] {
        assert!(get.contains(flag), "{flag}: {get}");
    }
    let count = fs::read_dir(&folder).expect("a folder").count();
    assert!(count > 10, "{count} pages");
}
