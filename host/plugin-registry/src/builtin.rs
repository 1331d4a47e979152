//! Built-in components: files of a folder of the host's image, `NAME.wasm`.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read as _},
    path::Path,
};

use operon_api::action_plugin::BuiltinSource;
use operon_core::action::LoadError;

use crate::{found::Found, refused};

/// The ending of the files.
const ENDING: &str = ".wasm";

/// The bytes of a built-in component.
///
/// A file that is larger than `most` bytes is cut to one byte more: the check of the component then says that it is
/// too large.
pub(crate) fn find(folder: &Path, source: &BuiltinSource, most: usize) -> Result<Found, LoadError> {
    let name = &source.name;
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || !name.chars().all(fits) {
        return Err(not_found(folder, name));
    }
    let file = match File::open(folder.join(format!("{name}{ENDING}"))) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(not_found(folder, name)),
        Err(error) => return Err(unreadable(name, &error)),
    };
    let mut bytes = Vec::new();
    file.take(most as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(name, &error))?;
    Ok(Found::with_host(bytes))
}

/// The error that names what exists instead.
fn not_found(folder: &Path, name: &str) -> LoadError {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            name.strip_suffix(ENDING).map(str::to_owned)
        })
        .collect();
    names.sort();
    let there = if names.is_empty() {
        format!("its folder {} has none", folder.display())
    } else {
        format!("it has {}", names.join(", "))
    };
    refused(
        "BuiltinNotFound",
        format!("this host has no built-in component {name:?}; {there}"),
    )
}

fn unreadable(name: &str, error: &std::io::Error) -> LoadError {
    LoadError {
        reason: "BuiltinUnreadable",
        message: format!("the built-in component {name:?} can't be read: {error}"),
        transient: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(name: &str) -> BuiltinSource {
        BuiltinSource {
            name: name.to_owned(),
        }
    }

    #[test]
    fn a_component_is_found_by_its_name_and_no_other_file_is() {
        let folder = std::env::temp_dir().join(format!("operon-builtin-{}", std::process::id()));
        let plugins = folder.join("plugins");
        fs::create_dir_all(&plugins).expect("a folder of our own");
        for (file, text) in [
            ("plugins/a.wasm", "a"),
            ("plugins/b.wasm", "b"),
            ("c.wasm", "c"),
        ] {
            fs::write(folder.join(file), text).expect("a folder of our own");
        }
        assert_eq!(
            find(&plugins, &source("a"), 1),
            Ok(Found::with_host(b"a".to_vec()))
        );
        for name in ["", "c", "../c", "a.wasm", "A", "/etc/passwd"] {
            let error = find(&plugins, &source(name), 1).expect_err(name);
            assert_eq!(error.reason, "BuiltinNotFound", "{name}");
            assert!(error.message.ends_with("it has a, b"), "{}", error.message);
        }
        fs::remove_dir_all(folder).expect("a folder of our own");
    }

    #[test]
    fn a_host_without_components_says_so() {
        let error = find(Path::new("/nowhere"), &source("a"), 1).expect_err("nothing is there");
        assert!(
            error.message.ends_with("/nowhere has none"),
            "{}",
            error.message
        );
    }
}
