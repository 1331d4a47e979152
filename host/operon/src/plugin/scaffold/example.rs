//! The files of a new package in another language than Rust: those of its example under another name, so that what an
//! author gets is what the tests build and run.

use std::path::Path;

use super::{File, Name};

/// A complete package, under the name that the repository has it.
#[derive(Debug)]
pub(in super::super) struct Example {
    /// Its name as package and as action.
    pub(super) name: (&'static str, &'static str),
    /// Path, text.
    pub(super) files: &'static [(&'static str, &'static str)],
    /// What its author changes and reads, besides the manifests.
    pub(super) sources: &'static str,
    /// The commands that test and build it.
    pub(super) next: &'static str,
    /// The file with all that the SDK is in Rust.
    pub(in super::super) helper: &'static str,
}

impl Example {
    /// All files of a new package.
    pub(in super::super) fn files(&self, name: &Name) -> Vec<File> {
        let (package, action) = self.name;
        let files = self.files.iter().map(|(path, text)| File {
            path: path.into(),
            text: text
                .replace(package, &name.package)
                .replace(action, &name.action),
        });
        files.collect()
    }

    /// What was written, and what is next.
    pub(in super::super) fn report(&self, name: &Name, folder: &Path) -> String {
        let Name { package, action } = name;
        let (shown, sources, next) = (folder.display(), self.sources, self.next);
        format!(
            "\
Created {shown}: the action {action}
{sources}
  plugin.yaml      the ActionPlugin, and what its ServiceAccount may do
  job.yaml         an OperationJob that uses the action
  pod.yaml         a pod for that job
  README.md        every step to a job in a cluster

Next:
  cd {shown}
{next}
  operon plugin build    # writes the component {package}.wasm
"
        )
    }
}

/// The files of a folder of `examples`, with their paths in it.
macro_rules! example {
    ($folder:literal: $($path:literal)*) => {
        &[$(($path, include_str!(concat!("../../../../../examples/", $folder, "/", $path)))),*]
    };
}

pub(super) use example;

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::PathBuf};

    use super::{
        super::{PYTHON, TYPESCRIPT},
        *,
    };

    const EXAMPLES: [(&str, &Example); 2] = [("typescript", &TYPESCRIPT), ("python", &PYTHON)];

    /// What the examples' `.gitignore` name, and no author gets.
    const BUILT: [&str; 4] = ["node_modules", "build", ".venv", "__pycache__"];

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
        for (folder, example) in EXAMPLES {
            let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
            let folder = repository.join("examples").join(folder);
            let mut expected = BTreeSet::new();
            files_in(&folder, &mut expected);
            let name = Name::parse(example.name.0).expect("a name");
            assert_eq!(name.action, example.name.1);
            let mut written = BTreeSet::new();
            for file in example.files(&name) {
                let path = folder.join(&file.path);
                let found = fs::read_to_string(&path).expect("a file of the example");
                assert_eq!(found, file.text, "{}", path.display());
                written.insert(path);
            }
            assert_eq!(written, expected);
        }
    }

    #[test]
    fn nothing_of_the_example_is_left_under_another_name() {
        let name = Name::parse("mark-pod").expect("a name");
        for (_, example) in EXAMPLES {
            let (package, action) = example.name;
            for file in example.files(&name) {
                let text = file.text.to_lowercase();
                let left = text.contains(package) || text.contains(&action.to_lowercase());
                assert!(!left, "{}", file.path.display());
            }
        }
    }

    #[test]
    fn the_helper_has_every_field_and_function_of_the_contract() {
        type Spelling = fn(&str) -> String;
        for (example, spelled) in [(&TYPESCRIPT, camel_case as Spelling), (&PYTHON, snake_case)] {
            let text = |path: &str| {
                let found = example.files.iter().find(|(known, _)| *known == path);
                found.expect(path).1
            };
            let helper = text(example.helper);
            let names = text("wit/action.wit").lines().filter_map(|line| {
                let (name, rest) = line.trim().split_once(": ")?;
                let is_name = name.chars().all(|c| c.is_ascii_lowercase() || c == '-');
                let is_field = rest.ends_with(',') || rest.starts_with("func(");
                (is_name && is_field).then(|| spelled(name))
            });
            let names: BTreeSet<_> = names.collect();
            assert!(names.len() > 60, "{names:?}");
            for name in names {
                assert!(helper.contains(&name), "{}: {name}", example.helper);
            }
        }
    }

    fn snake_case(name: &str) -> String {
        name.replace('-', "_")
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
