//! `docs/security.md` lists every limit with the test that stands for it: none is missing there, and each test exists.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

/// The repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The rows of the table whose heading begins with "| value |", without their borders.
fn rows() -> io::Result<Vec<Vec<String>>> {
    let text = fs::read_to_string(root().join("docs/security.md"))?;
    let table = text
        .lines()
        .skip_while(|line| !line.starts_with("| value |"));
    let rows = table.skip(2).take_while(|line| line.starts_with('|'));
    let cells = |row: &str| {
        let cells = row.trim_matches('|').split('|');
        cells.map(|cell| cell.trim().to_owned()).collect()
    };
    Ok(rows.map(cells).collect())
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The names of the functions of all Rust files below these folders.
fn functions(folders: &[&str]) -> io::Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let mut folders: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = fs::read_to_string(path)?;
                let names = text
                    .split("fn ")
                    .skip(1)
                    .filter_map(|rest| rest.split('(').next());
                found.extend(names.map(str::to_owned));
            }
        }
    }
    Ok(found)
}

#[test]
fn every_limit_is_in_the_table_of_the_documents() -> io::Result<()> {
    let rows = rows()?;
    let listed: BTreeSet<&str> = rows
        .iter()
        .flat_map(|row| row.iter().flat_map(|c| quoted(c)))
        .collect();
    let limits = include_str!("../limits.rs").lines().filter_map(|line| {
        let line = line.strip_prefix("pub").unwrap_or_default();
        let line = line.trim_start_matches("(crate)").trim_start();
        line.strip_prefix("const ")?.split(':').next()
    });
    let missing: Vec<&str> = limits.filter(|limit| !listed.contains(limit)).collect();
    assert!(
        missing.is_empty(),
        "{missing:?} have no row in docs/security.md"
    );
    assert!(rows.len() > 20, "{} rows", rows.len());
    Ok(())
}

#[test]
fn every_row_of_the_table_names_tests_that_exist() -> io::Result<()> {
    let known = functions(&[
        "host/plugin-runtime/src",
        "host/operon/tests",
        "host/core/src",
        "host/controllers/src",
    ])?;
    for row in rows()? {
        let tests = row.last().map(String::as_str).unwrap_or_default();
        let named: Vec<&str> = quoted(tests).collect();
        assert!(!named.is_empty(), "{row:?} names no test");
        for test in named {
            assert!(known.contains(test), "{test} of {row:?} does not exist");
        }
    }
    Ok(())
}
