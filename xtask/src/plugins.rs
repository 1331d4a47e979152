//! The components of the built-in actions, in the folder from which the host loads them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use operon_devcluster::Progress;

use crate::tools;

/// The built-in actions: the name in `source.builtin`, and the package.
const ACTIONS: [(&str, &str); 9] = [
    ("replace", "operon-action-replace"),
    ("restart", "operon-action-restart"),
    ("recreate", "operon-action-recreate"),
    ("evict", "operon-action-evict"),
    ("debug", "operon-action-debug"),
    ("resize", "operon-action-resize"),
    ("label", "operon-action-label"),
    ("annotate", "operon-action-annotate"),
    ("check", "operon-action-check"),
];

/// Where the host looks for them in its image.
const IN_IMAGE: &str = "usr/share/operon/plugins";

/// Builds the components and returns their folder.
pub(crate) fn build(progress: &Progress) -> Result<PathBuf> {
    let folder = tools::target_dir().join("plugins");
    if folder.exists() {
        fs::remove_dir_all(&folder)
            .with_context(|| format!("failed to remove {}", folder.display()))?;
    }
    fs::create_dir_all(&folder)
        .with_context(|| format!("failed to create {}", folder.display()))?;
    for (name, package) in ACTIONS {
        copy(
            &tools::build_wasm(progress, package)?,
            &folder.join(format!("{name}.wasm")),
        )?;
    }
    Ok(folder)
}

/// Puts the components into the root folder of an image.
pub(crate) fn put_into(rootfs: &Path, plugins: &Path) -> Result<()> {
    let folder = rootfs.join(IN_IMAGE);
    fs::create_dir_all(&folder)
        .with_context(|| format!("failed to create {}", folder.display()))?;
    let unreadable = || format!("failed to read {}", plugins.display());
    for entry in fs::read_dir(plugins).with_context(unreadable)? {
        let entry = entry.with_context(unreadable)?;
        copy(&entry.path(), &folder.join(entry.file_name()))?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("failed to copy {}", from.display()))?;
    Ok(())
}
