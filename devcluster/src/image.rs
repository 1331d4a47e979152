//! Container images without a container engine: a root folder becomes an OCI layout with one layer.
//!
//! Same input, same bytes: entries are sorted, owned by root and dated 1970.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

use crate::cache::{make_dir, remove, write};

/// What runs when a container of the image starts, and what the image says of itself.
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
    /// What tools show of the image, by the keys of the OCI image specification.
    pub labels: Vec<(String, String)>,
    /// Whether the layer is compressed, as for a registry. It takes time that an image for this machine does not need.
    pub is_compressed: bool,
}

/// Writes the image of the folder `rootfs` to `tar`, for [`crate::Cluster::import_image`].
pub fn image_from_rootfs(rootfs: &Path, config: &ImageConfig, tar: &Path) -> Result<()> {
    let layout = tar.with_extension("layout");
    layout_from_rootfs(rootfs, config, &layout)?;
    archive(&layout, tar, false)?;
    remove(&layout)
}

/// Writes the image of the folder `rootfs` to the folder `layout`, as an OCI layout. What was at `layout` is removed.
pub fn layout_from_rootfs(rootfs: &Path, config: &ImageConfig, layout: &Path) -> Result<()> {
    remove(layout)?;
    let blobs = layout.join("blobs/sha256");
    make_dir(&blobs)?;
    let layer = write_layer(rootfs, config.is_compressed, &blobs)
        .with_context(|| format!("failed to write the layer of {}", config.name))?;
    let image = write_blob(&blobs, IMAGE, &image_json(config, &layer.content))?;
    let mut manifest = write_blob(
        &blobs,
        MANIFEST,
        &json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": image,
            "layers": [layer.descriptor],
        }),
    )?;
    manifest["platform"] = json!({ "architecture": architecture(), "os": "linux" });
    let tag = config
        .name
        .rsplit_once(':')
        .map_or("latest", |(_, tag)| tag);
    manifest["annotations"] = json!({
        "io.containerd.image.name": config.name,
        "org.opencontainers.image.ref.name": tag,
    });
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [manifest] });
    write(&layout.join("index.json"), index.to_string())?;
    write(
        &layout.join("oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    )
}

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const IMAGE: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// A layer that was written.
struct Layer {
    /// How a manifest refers to it.
    descriptor: Value,
    /// The digest of its content, which is that of the blob unless the blob is compressed.
    content: String,
}

/// Writes the layer into the folder of blobs.
fn write_layer(rootfs: &Path, is_compressed: bool, blobs: &Path) -> Result<Layer> {
    // The layer can be large: it is written before its digest, and so its name, is known.
    let file = blobs.join("layer");
    let unfinished = std::io::BufWriter::new(fs::File::create(&file)?);
    let (content, media_type) = if is_compressed {
        let compressed = GzEncoder::new(unfinished, Compression::default());
        let mut hashed = Hashed::new(compressed);
        write_tree(rootfs, &mut hashed)?;
        hashed.to.finish()?.flush()?;
        (hex(hashed.hash), format!("{LAYER}+gzip"))
    } else {
        let mut hashed = Hashed::new(unfinished);
        write_tree(rootfs, &mut hashed)?;
        (hex(hashed.hash), LAYER.to_owned())
    };
    let (digest, size) = digest_of_file(&file)?;
    fs::rename(&file, blobs.join(&digest))?;
    Ok(Layer {
        descriptor: descriptor(&media_type, &digest, size),
        content,
    })
}

/// Writes a blob in JSON and returns its descriptor.
fn write_blob(blobs: &Path, media_type: &str, content: &Value) -> Result<Value> {
    let bytes = content.to_string().into_bytes();
    let digest = hex(Sha256::new().chain_update(&bytes));
    write(&blobs.join(&digest), &bytes)?;
    Ok(descriptor(media_type, &digest, bytes.len() as u64))
}

fn descriptor(media_type: &str, digest: &str, size: u64) -> Value {
    json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": size })
}

/// Passes bytes on and hashes them.
struct Hashed<W> {
    to: W,
    hash: Sha256,
}

impl<W> Hashed<W> {
    fn new(to: W) -> Self {
        let hash = Sha256::new();
        Self { to, hash }
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.to.flush()
    }
}

/// Writes a folder to a file, as a tar archive that may be compressed.
pub fn archive(folder: &Path, file: &Path, is_compressed: bool) -> Result<()> {
    let write = || -> Result<()> {
        let to = std::io::BufWriter::new(fs::File::create(file)?);
        if is_compressed {
            let mut compressed = GzEncoder::new(to, Compression::default());
            write_tree(folder, &mut compressed)?;
            Ok(compressed.finish()?.flush()?)
        } else {
            write_tree(folder, to)
        }
    };
    write().with_context(|| format!("failed to write {}", file.display()))
}

/// Writes a folder as a tar archive.
fn write_tree(folder: &Path, to: impl Write) -> Result<()> {
    let mut builder = Builder::new(to);
    for relative in sorted_tree(folder, Path::new(""))? {
        let path = folder.join(&relative);
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

fn image_json(config: &ImageConfig, content: &str) -> Value {
    let ImageConfig {
        name: _,
        entrypoint,
        command,
        user,
        labels,
        is_compressed: _,
    } = config;
    let labels: serde_json::Map<_, _> = labels
        .iter()
        .map(|(key, value)| (key.clone(), Value::from(value.as_str())))
        .collect();
    json!({
        "architecture": architecture(),
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {
            "Entrypoint": entrypoint,
            "Cmd": command,
            "User": user,
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Labels": labels,
        },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{content}")] },
    })
}

/// The name that the image formats have for the machine's architecture.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
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

    fn rootfs(folder: &Path) -> Result<PathBuf> {
        let rootfs = folder.join("rootfs");
        make_dir(&rootfs.join("bin"))?;
        fs::write(rootfs.join("bin/tool"), "content")?;
        std::os::unix::fs::symlink("tool", rootfs.join("bin/alias"))?;
        Ok(rootfs)
    }

    fn config(is_compressed: bool) -> ImageConfig {
        ImageConfig {
            name: String::from("localhost/tool:1"),
            labels: vec![("org.opencontainers.image.version".into(), "1".into())],
            is_compressed,
            ..ImageConfig::default()
        }
    }

    #[test]
    fn same_root_folder_gives_the_same_bytes() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let rootfs = rootfs(folder.path())?;
        let tars = ["first.tar", "second.tar"].map(|name| folder.path().join(name));
        for is_compressed in [false, true] {
            image_from_rootfs(&rootfs, &config(is_compressed), &tars[0])?;
            fs::write(rootfs.join("bin/tool"), "content")?; // another time of change
            image_from_rootfs(&rootfs, &config(is_compressed), &tars[1])?;
            assert_eq!(fs::read(&tars[0])?, fs::read(&tars[1])?);
        }
        Ok(())
    }

    #[test]
    fn the_blobs_of_a_layout_are_named_by_their_digests_and_the_image_by_its_content() -> Result<()>
    {
        let folder = tempfile::tempdir()?;
        let rootfs = rootfs(folder.path())?;
        let mut contents = Vec::new();
        for is_compressed in [false, true] {
            let layout = folder.path().join("layout");
            layout_from_rootfs(&rootfs, &config(is_compressed), &layout)?;
            let blobs = layout.join("blobs/sha256");
            let blob = |descriptor: &Value| -> Result<Vec<u8>> {
                let digest = descriptor["digest"].as_str().context("a digest")?;
                let (_, name) = digest.split_once(':').context("an algorithm")?;
                let file = blobs.join(name);
                let (found, size) = digest_of_file(&file)?;
                assert_eq!(
                    (found.as_str(), Some(size)),
                    (name, descriptor["size"].as_u64())
                );
                Ok(fs::read(file)?)
            };
            let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json"))?)?;
            let manifest: Value = serde_json::from_slice(&blob(&index["manifests"][0])?)?;
            let image: Value = serde_json::from_slice(&blob(&manifest["config"])?)?;
            blob(&manifest["layers"][0])?;
            assert_eq!(fs::read_dir(&blobs)?.count(), 3);
            assert_eq!(
                image["config"]["Labels"]["org.opencontainers.image.version"],
                "1"
            );
            contents.push(image["rootfs"]["diff_ids"].clone());
        }
        assert_eq!(
            contents[0], contents[1],
            "compression does not change the content"
        );
        Ok(())
    }
}
