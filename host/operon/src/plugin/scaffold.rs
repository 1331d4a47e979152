//! The files of a new crate. Source and manifests are those of `examples/annotate` under another name, so that
//! what an author gets is what the tests run; the SDK is that of this program. `example.rs` has those of other languages.

mod example;
mod python;
mod typescript;

pub(super) use self::{example::Example, python::PYTHON, typescript::TYPESCRIPT};

use std::path::{Path, PathBuf};

use anyhow::ensure;
use regex::Regex;

use super::name::Name;

/// One file: its path in the new folder, and its text.
#[derive(Debug)]
pub(super) struct File {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

/// Where the new crate finds the SDK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sdk {
    /// In a folder beside it, written from this program.
    Own,
    /// In another folder.
    Path(PathBuf),
    /// In a Git repository.
    Git(String),
    /// In Cargo's registry.
    Version(String),
}

impl Sdk {
    /// What an argument means: a URL, a version, or else a folder.
    ///
    /// # Errors
    /// The folder has no `operon-sdk`.
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        if text.contains("://") || text.starts_with("git@") {
            return Ok(Self::Git(text.to_owned()));
        }
        if is_version(text) {
            return Ok(Self::Version(text.to_owned()));
        }
        let manifest = std::fs::read_to_string(Path::new(text).join("Cargo.toml"));
        ensure!(
            manifest.is_ok_and(|manifest| manifest.contains("name = \"operon-sdk\"")),
            "--sdk {text}: there is no crate operon-sdk in this folder; give the folder plugin-sdk of a checkout, the URL of a Git repository, or a version such as 0.1.0"
        );
        Ok(Self::Path(std::path::absolute(text)?))
    }

    /// The dependency as `Cargo.toml` has it.
    fn dependency(&self) -> String {
        // A basic string of TOML escapes as Rust does.
        match self {
            Self::Own => "{ path = \"sdk\" }".to_owned(),
            Self::Path(path) => format!("{{ path = {:?} }}", path.to_string_lossy()),
            Self::Git(url) => format!("{{ git = {url:?} }}"),
            Self::Version(version) => format!("{version:?}"),
        }
    }
}

/// Whether it is a requirement as Cargo reads it: `0.1`, `=0.1.0`, `^0.1.0-alpha.1`.
fn is_version(text: &str) -> bool {
    let number = text.trim_start_matches(['=', '^', '~']);
    let fits = |c: char| c.is_ascii_alphanumeric() || ".-+".contains(c);
    number.starts_with(|c: char| c.is_ascii_digit())
        && number.chars().all(fits)
        && !Path::new(text).is_dir()
}

/// The files of the SDK, with the paths that they have in the folder `sdk`.
macro_rules! sdk {
    ($($path:literal)*) => {
        [$(($path, include_str!(concat!("../../../../plugin-sdk/", $path)))),*]
    };
}

const SDK: [(&str, &str); 22] = sdk![
    "README.md"
    "src/action.rs"
    "src/bindings.rs"
    "src/cluster.rs"
    "src/lib.rs"
    "src/log.rs"
    "src/operation.rs"
    "src/owner.rs"
    "src/patch.rs"
    "src/pod.rs"
    "src/registration.rs"
    "src/target.rs"
    "src/testing/cluster.rs"
    "src/testing/effects.rs"
    "src/testing/json_patch.rs"
    "src/testing/mod.rs"
    "src/testing/replica_set.rs"
    "src/testing/selector.rs"
    "src/testing/story.rs"
    "src/time.rs"
    "wit/action.wit"
    "../LICENSE"
];

/// The SDK's manifest outside of this workspace.
const SDK_MANIFEST: &str = include_str!("scaffold/sdk.toml");

/// The example that a new crate is made from: path, text.
const EXAMPLE: [(&str, &str); 3] = [
    (
        "src/lib.rs",
        include_str!("../../../../examples/annotate/src/lib.rs"),
    ),
    (
        "plugin.yaml",
        include_str!("../../../../examples/annotate/plugin.yaml"),
    ),
    (
        "job.yaml",
        include_str!("../../../../examples/annotate/job.yaml"),
    ),
];

/// What a crate outside of this workspace has besides.
const OWN: [(&str, &str); 4] = [
    ("Cargo.toml", include_str!("scaffold/crate.toml")),
    ("README.md", include_str!("scaffold/README.md")),
    ("pod.yaml", include_str!("scaffold/pod.yaml")),
    (".gitignore", include_str!("scaffold/gitignore")),
];

/// All files of a new crate.
pub(super) fn files(name: &Name, sdk: &Sdk) -> Vec<File> {
    let renaming = Renaming::to(name);
    let example = EXAMPLE.iter().map(|(path, text)| File {
        path: path.into(),
        text: renaming.of(text),
    });
    let own = OWN.iter().map(|(path, text)| File {
        path: path.into(),
        text: renaming
            .of(text)
            .replace("SDK_DEPENDENCY", &sdk.dependency()),
    });
    let mut files: Vec<_> = example.chain(own).collect();
    match sdk {
        Sdk::Own => files.extend(sdk_files()),
        Sdk::Path(_) | Sdk::Git(_) | Sdk::Version(_) => {}
    }
    files
}

fn sdk_files() -> impl Iterator<Item = File> {
    let folder = Path::new("sdk");
    let files = SDK.iter().map(move |(path, text)| File {
        path: folder.join(path.trim_start_matches("../")),
        text: text.replace("](../", "](https://github.com/operon-dev/operon/blob/main/"),
    });
    let manifest = SDK_MANIFEST.replace("SDK_VERSION", env!("CARGO_PKG_VERSION"));
    files.chain([File {
        path: folder.join("Cargo.toml"),
        text: manifest,
    }])
}

/// Gives the example another name.
struct Renaming {
    words: Vec<(Regex, String)>,
}

impl Renaming {
    fn to(name: &Name) -> Self {
        let Name { package, action } = name;
        let words = [
            (r"operon\.dev/annotated", format!("example.com/{package}")),
            (r"\bannotate-example\b", package.clone()),
            (r"\bAnnotate(Example)?\b", action.clone()),
            (r"\bannotate\b", package.clone()),
        ];
        let words = words.into_iter().filter_map(|(word, new)| {
            let word = Regex::new(word).ok()?;
            Some((word, new))
        });
        Self {
            words: words.collect(),
        }
    }

    fn of(&self, text: &str) -> String {
        self.words
            .iter()
            .fold(text.to_owned(), |text, (word, new)| {
                word.replace_all(&text, regex::NoExpand(new)).into_owned()
            })
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs};

    use super::*;

    const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

    fn name() -> Name {
        Name::parse("mark-pod").expect("a name")
    }

    fn rust_files(folder: &Path, found: &mut BTreeSet<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a folder of the SDK").flatten() {
            let path = entry.path();
            if path.is_dir() {
                rust_files(&path, found);
            } else {
                found.insert(path);
            }
        }
    }

    #[test]
    fn a_new_crate_has_every_file_of_the_sdk() {
        let sdk = Path::new(REPOSITORY).join("plugin-sdk");
        let mut files = BTreeSet::new();
        rust_files(&sdk.join("src"), &mut files);
        for file in files {
            let path = file.strip_prefix(&sdk).expect("a file of the SDK");
            let has = SDK.iter().any(|(known, _)| Path::new(known) == path);
            assert!(has, "{} is missing in SDK", path.display());
        }
    }

    #[test]
    fn the_sdk_has_the_dependencies_of_this_workspace() {
        let read = |path| fs::read_to_string(Path::new(REPOSITORY).join(path)).expect("a manifest");
        let (workspace, sdk) = (read("Cargo.toml"), read("plugin-sdk/Cargo.toml"));
        for key in ["edition", "rust-version", "license", "repository"] {
            let start = format!("{key} = ");
            let line = workspace.lines().find(|line| line.starts_with(&start));
            assert!(SDK_MANIFEST.contains(line.expect("a field")), "{key}");
        }
        let (_, dependencies) = sdk.split_once("[dependencies]\n").expect("dependencies");
        for line in dependencies.lines() {
            let dependency = line
                .strip_suffix(".workspace = true")
                .expect("a dependency");
            let start = format!("{dependency} = ");
            let line = workspace.lines().find(|line| line.starts_with(&start));
            assert!(
                SDK_MANIFEST.contains(line.expect("a version")),
                "{dependency}"
            );
        }
    }

    #[test]
    fn nothing_of_the_example_is_left_in_a_new_crate() {
        for file in files(&name(), &Sdk::Own) {
            let text = file.text.to_lowercase();
            let is_sdk = file.path.starts_with("sdk");
            for word in [
                "annotate-",
                "-annotate",
                "annotateexample",
                "operon.dev/annotated",
                "sdk_",
            ] {
                assert!(
                    is_sdk || !text.contains(word),
                    "{}: {word}",
                    file.path.display()
                );
            }
        }
    }

    #[test]
    fn an_sdk_is_a_folder_a_repository_or_a_version() {
        let folder = format!("{REPOSITORY}/plugin-sdk");
        assert!(matches!(Sdk::parse(&folder), Ok(Sdk::Path(path)) if path.is_absolute()));
        for (text, dependency) in [
            (
                "https://example.com/x.git",
                "{ git = \"https://example.com/x.git\" }",
            ),
            ("git@example.com:x/y", "{ git = \"git@example.com:x/y\" }"),
            ("0.1", "\"0.1\""),
            ("=0.1.0", "\"=0.1.0\""),
        ] {
            assert_eq!(Sdk::parse(text).expect(text).dependency(), dependency);
        }
        for wrong in ["nowhere", REPOSITORY] {
            let error = Sdk::parse(wrong).expect_err(wrong).to_string();
            assert!(error.contains("there is no crate operon-sdk"), "{error}");
        }
    }
}
