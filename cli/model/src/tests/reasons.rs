//! The reasons of the documents.

use std::{fs, path::Path};

/// The pages with tables of reasons.
const PAGES: [&str; 13] = [
    "operation-job",
    "restart",
    "recreate",
    "evict",
    "resize",
    "label",
    "annotate",
    "check",
    "debug",
    "job-flow",
    "daemon-job",
    "reactive-job",
    "collaset",
];
/// The first columns of tables that list something else than why an object or a part of it waits or failed.
const OTHERS: [&str; 3] = [
    "| reason | type |",
    "| reason | when |",
    "| reason | because |",
];

/// The reasons of the tables of a page.
fn reasons(page: &str) -> Vec<String> {
    let path = format!("../../docs/{page}.md");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let text = fs::read_to_string(&path).expect("the page");
    let mut reasons = Vec::new();
    let mut is_table = false;
    for line in text.lines() {
        if line.starts_with("| reason |") {
            is_table = !OTHERS.iter().any(|other| line.starts_with(other));
        } else if !line.starts_with('|') {
            is_table = false;
        } else if is_table {
            let column = line.split('|').nth(1).unwrap_or_default();
            let words = column.split('`').skip(1).step_by(2);
            reasons.extend(words.map(str::to_owned));
        }
    }
    reasons
}

#[test]
fn each_reason_of_the_documents_has_a_next_command() {
    let mut all = 0;
    for page in PAGES {
        let reasons = reasons(page);
        assert!(!reasons.is_empty(), "{page} has no table of reasons");
        for reason in &reasons {
            let is_known = crate::why::reasons().any(|known| known == reason);
            assert!(is_known, "{reason} of {page} has no next command");
        }
        all += reasons.len();
    }
    assert!(all > 100, "{all} reasons");
}
