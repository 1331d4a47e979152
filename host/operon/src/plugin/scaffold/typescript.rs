//! The files of a new package in TypeScript: those of `examples/typescript` under another name, so that what an author
//! gets is what the tests build and run.

use std::path::Path;

use super::{File, Name};

/// The name of the example, as package and as action.
const EXAMPLE: (&str, &str) = ("annotate-ts", "AnnotateTs");

macro_rules! example {
    ($($path:literal)*) => {
        [$(($path, include_str!(concat!("../../../../../examples/typescript/", $path)))),*]
    };
}

const FILES: [(&str, &str); 14] = example![
    ".gitignore"
    "README.md"
    "job.yaml"
    "package-lock.json"
    "package.json"
    "plugin.yaml"
    "pod.yaml"
    "src/action.ts"
    "src/component.ts"
    "src/operon.ts"
    "test/action.test.ts"
    "test/world.ts"
    "tsconfig.json"
    "wit/action.wit"
];

/// All files of a new package.
pub(in super::super) fn files(name: &Name) -> Vec<File> {
    let (package, action) = EXAMPLE;
    let files = FILES.iter().map(|(path, text)| File {
        path: path.into(),
        text: text
            .replace(package, &name.package)
            .replace(action, &name.action),
    });
    files.collect()
}

/// What was written, and what is next.
pub(in super::super) fn report(name: &Name, folder: &Path) -> String {
    let Name { package, action } = name;
    let shown = folder.display();
    format!(
        "\
Created {shown}: the action {action}
  src/action.ts    the action
  src/operon.ts    the contract in TypeScript, and the glue to the host
  test/            tests of the action
  plugin.yaml      the ActionPlugin, and what its ServiceAccount may do
  job.yaml         an OperationJob that uses the action
  pod.yaml         a pod for that job
  README.md        every step to a job in a cluster

Next:
  cd {shown}
  npm ci                 # the compiler and QuickJS
  npm test               # without a cluster
  operon plugin build    # writes the component {package}.wasm
"
    )
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::PathBuf};

    use super::*;

    const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

    /// What the example's `.gitignore` names, and no author gets.
    const BUILT: [&str; 2] = ["node_modules", "build"];

    fn files_in(folder: &Path, found: &mut BTreeSet<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            let name = entry.file_name();
            if BUILT.iter().any(|built| name == *built) || is_component(&path) {
                continue;
            }
            if path.is_dir() {
                files_in(&path, found);
            } else {
                found.insert(path);
            }
        }
    }

    fn is_component(path: &Path) -> bool {
        path.extension()
            .is_some_and(|ending| ending == "wasm" || ending == "gz")
    }

    #[test]
    fn the_example_is_what_an_author_gets_under_its_name() {
        let example = Path::new(REPOSITORY).join("examples/typescript");
        let mut expected = BTreeSet::new();
        files_in(&example, &mut expected);
        let name = Name::parse(EXAMPLE.0).expect("a name");
        assert_eq!(name.action, EXAMPLE.1);
        let mut written = BTreeSet::new();
        for file in files(&name) {
            let path = example.join(&file.path);
            let found = fs::read_to_string(&path).expect("a file of the example");
            assert_eq!(found, file.text, "{}", path.display());
            written.insert(path);
        }
        assert_eq!(written, expected);
    }

    #[test]
    fn nothing_of_the_example_is_left_under_another_name() {
        let name = Name::parse("drain-node").expect("a name");
        for file in files(&name) {
            let text = file.text.to_lowercase();
            let left = text.contains("annotate-ts") || text.contains("annotatets");
            assert!(!left, "{}", file.path.display());
        }
    }

    #[test]
    fn the_helper_has_every_field_and_function_of_the_contract() {
        let text = |path: &str| {
            FILES
                .iter()
                .find(|(known, _)| *known == path)
                .map(|found| found.1)
        };
        let contract = text("wit/action.wit").expect("the contract");
        let helper = text("src/operon.ts").expect("the helper");
        let names = contract.lines().filter_map(|line| {
            let (name, rest) = line.trim().split_once(": ")?;
            let is_name = name.chars().all(|c| c.is_ascii_lowercase() || c == '-');
            let is_field = rest.ends_with(',') || rest.starts_with("func(");
            (is_name && is_field).then(|| camel_case(name))
        });
        let names: BTreeSet<_> = names.collect();
        assert!(names.len() > 60, "{names:?}");
        for name in names {
            assert!(helper.contains(&name), "{name}");
        }
    }

    fn camel_case(name: &str) -> String {
        let mut words = name.split('-').map(str::to_owned);
        let mut camel = words.next().unwrap_or_default();
        for word in words {
            let mut letters = word.chars();
            camel.extend(letters.next().map(|first| first.to_ascii_uppercase()));
            camel.push_str(letters.as_str());
        }
        camel
    }
}
