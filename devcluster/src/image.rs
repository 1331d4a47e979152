//! Container images without a container engine: a root folder becomes a one-layer OCI layout in a tar.
//!
//! Same input, same bytes: entries are sorted, owned by root and dated 1970. The layer is not
//! compressed, for it only travels within this machine.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

use crate::cache::make_dir;

/// What runs when a container of the image starts.
#[derive(Debug, Clone, Default)]
pub struct ImageConfig {
    /// The full name, for example `localhost/operon:dev`.
    pub name: String,
    /// The program and its fixed arguments.
    pub entrypoint: Vec<String>,
    /// Arguments that a pod may replace.
    pub command: Vec<String>,
    /// The user by number, for example `65532:65532`. Root if empty.
    pub user: String,
}

/// Writes the image of the folder `rootfs` to `tar`, for [`crate::Cluster::import_image`].
pub fn image_from_rootfs(rootfs: &Path, config: &ImageConfig, tar: &Path) -> Result<()> {
    if let Some(parent) = tar.parent() {
        make_dir(parent)?;
    }
    // The layer can be large: it goes through a file beside the result.
    let layer = tar.with_extension("layer");
    write_layer(rootfs, &layer).with_context(|| format!("failed to write {}", layer.display()))?;
    let result = write_layout(config, &layer, tar)
        .with_context(|| format!("failed to write {}", tar.display()));
    fs::remove_file(&layer).with_context(|| format!("failed to remove {}", layer.display()))?;
    result
}

fn write_layer(rootfs: &Path, file: &Path) -> Result<()> {
    let mut builder = Builder::new(std::io::BufWriter::new(fs::File::create(file)?));
    for relative in sorted_tree(rootfs, Path::new(""))? {
        let path = rootfs.join(&relative);
        let found = fs::symlink_metadata(&path)
            .with_context(|| format!("failed to read {}", path.display()))?;
        let mut header = header(found.permissions().mode() & 0o7777);
        if found.is_symlink() {
            header.set_entry_type(EntryType::Symlink);
            header.set_size(0);
            builder.append_link(&mut header, &relative, fs::read_link(&path)?)?;
        } else if found.is_dir() {
            header.set_entry_type(EntryType::Directory);
            header.set_size(0);
            builder.append_data(&mut header, &relative, std::io::empty())?;
        } else {
            header.set_size(found.len());
            let content = fs::File::open(&path)
                .with_context(|| format!("failed to read {}", path.display()))?;
            builder.append_data(&mut header, &relative, content)?;
        }
    }
    builder.into_inner()?.flush()?;
    Ok(())
}

fn write_layout(config: &ImageConfig, layer: &Path, tar: &Path) -> Result<()> {
    let (layer_digest, layer_size) = digest_of_file(layer)?;
    let image = image_json(config, &layer_digest);
    let image_digest = digest(&image);
    let manifest_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = to_bytes(&json!({
        "schemaVersion": 2,
        "mediaType": manifest_type,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": format!("sha256:{image_digest}"),
            "size": image.len(),
        },
        "layers": [{
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": format!("sha256:{layer_digest}"),
            "size": layer_size,
        }],
    }));
    let manifest_digest = digest(&manifest);
    let tag = config
        .name
        .rsplit_once(':')
        .map_or("latest", |(_, tag)| tag);
    let index = to_bytes(&json!({
        "schemaVersion": 2,
        "manifests": [{
            "mediaType": manifest_type,
            "digest": format!("sha256:{manifest_digest}"),
            "size": manifest.len(),
            "platform": { "architecture": architecture(), "os": "linux" },
            "annotations": {
                "io.containerd.image.name": config.name,
                "org.opencontainers.image.ref.name": tag,
            },
        }],
    }));
    let mut builder = Builder::new(std::io::BufWriter::new(fs::File::create(tar)?));
    append(
        &mut builder,
        "oci-layout",
        br#"{"imageLayoutVersion":"1.0.0"}"#,
    )?;
    append(&mut builder, "index.json", &index)?;
    append(&mut builder, &blob(&manifest_digest), &manifest)?;
    append(&mut builder, &blob(&image_digest), &image)?;
    let mut header = header(0o644);
    header.set_size(layer_size);
    builder.append_data(&mut header, blob(&layer_digest), fs::File::open(layer)?)?;
    builder.into_inner()?.flush()?;
    Ok(())
}

fn image_json(config: &ImageConfig, layer_digest: &str) -> Vec<u8> {
    let ImageConfig {
        name: _,
        entrypoint,
        command,
        user,
    } = config;
    to_bytes(&json!({
        "architecture": architecture(),
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {
            "Entrypoint": entrypoint,
            "Cmd": command,
            "User": user,
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer_digest}")] },
    }))
}

/// The name that the image formats have for the machine's architecture.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn to_bytes(value: &serde_json::Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

fn blob(digest: &str) -> String {
    format!("blobs/sha256/{digest}")
}

fn append(builder: &mut Builder<impl Write>, name: &str, content: &[u8]) -> Result<()> {
    let mut header = header(0o644);
    header.set_size(content.len() as u64);
    Ok(builder.append_data(&mut header, name, content)?)
}

fn header(mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// Every path below `root`, relative to it, a folder before what is in it.
fn sorted_tree(root: &Path, relative: &Path) -> Result<Vec<PathBuf>> {
    let folder = root.join(relative);
    let context = || format!("failed to read {}", folder.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(context)? {
        names.push(entry.with_context(context)?.file_name());
    }
    names.sort();
    let mut paths = Vec::new();
    for name in names {
        let path = relative.join(name);
        let is_folder = fs::symlink_metadata(root.join(&path))
            .with_context(context)?
            .is_dir();
        paths.push(path.clone());
        if is_folder {
            paths.extend(sorted_tree(root, &path)?);
        }
    }
    Ok(paths)
}

/// The finished hash in hexadecimal.
pub(crate) fn hex(hash: Sha256) -> String {
    format!("{:x}", hash.finalize())
}

fn digest(bytes: &[u8]) -> String {
    hex(Sha256::new().chain_update(bytes))
}

fn digest_of_file(file: &Path) -> Result<(String, u64)> {
    let mut content = fs::File::open(file)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    let mut size = 0;
    loop {
        let count = content.read(&mut buffer)?;
        if count == 0 {
            return Ok((hex(hash), size));
        }
        hash.update(&buffer[..count]);
        size += count as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_root_folder_gives_the_same_bytes() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let rootfs = folder.path().join("rootfs");
        make_dir(&rootfs.join("bin"))?;
        fs::write(rootfs.join("bin/tool"), "content")?;
        std::os::unix::fs::symlink("tool", rootfs.join("bin/alias"))?;
        let config = ImageConfig {
            name: String::from("localhost/tool:1"),
            ..ImageConfig::default()
        };
        let (first, second) = (
            folder.path().join("first.tar"),
            folder.path().join("second.tar"),
        );
        image_from_rootfs(&rootfs, &config, &first)?;
        fs::write(rootfs.join("bin/tool"), "content")?; // another time of change
        image_from_rootfs(&rootfs, &config, &second)?;
        assert_eq!(fs::read(first)?, fs::read(second)?);
        Ok(())
    }
}
