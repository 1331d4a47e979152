//! The one file of a layer: as it is, gzipped, or in a tar.

use std::{
    io::{Cursor, Read},
    path::Path,
};

use super::fault::Fault;
use crate::gzip;

/// What every file of WebAssembly begins with.
const WASM_MAGIC: &[u8] = b"\0asm";
/// How much larger than its component a tar may be.
const TAR_SLACK: usize = 1 << 20;
/// The most entries of a tar that are looked at.
const MAX_ENTRIES: usize = 1000;

/// The largest layer that can have a component of `max` bytes.
pub(super) fn largest_layer(may_be_tar: bool, max: usize) -> usize {
    max.saturating_add(if may_be_tar { TAR_SLACK } else { 0 })
}

/// The component of a layer, at most `max` bytes. Errors: a predicate of the artifact.
pub(super) fn unpack(layer: Vec<u8>, may_be_tar: bool, max: usize) -> Result<Vec<u8>, Fault> {
    let layer = if gzip::is_gzip(&layer) {
        let most = largest_layer(may_be_tar, max);
        let content = gzip::decompress(&layer, most).map_err(|error| {
            Fault::lasting(
                "BadGzip",
                format!("has a layer that looks like gzip but can't be decompressed: {error}"),
            )
        })?;
        if content.len() > most {
            return Err(too_large(max));
        }
        content
    } else {
        layer
    };
    let component = if may_be_tar && !layer.starts_with(WASM_MAGIC) {
        only_file(&layer, max)?
    } else {
        layer
    };
    if component.len() > max {
        return Err(too_large(max));
    }
    Ok(component)
}

/// The only file of a tar whose name ends in `.wasm`, or one byte more than `max` of it.
fn only_file(tar: &[u8], max: usize) -> Result<Vec<u8>, Fault> {
    let bad = |error: std::io::Error| {
        Fault::lasting(
            "BadTar",
            format!("has a layer that can't be read as a tar: {error}"),
        )
    };
    let mut archive = tar::Archive::new(Cursor::new(tar));
    let mut found = None;
    for entry in archive.entries().map_err(bad)?.take(MAX_ENTRIES) {
        let entry = entry.map_err(bad)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let file = entry.header().entry_type().is_file();
        if !file || Path::new(&name).extension() != Some("wasm".as_ref()) {
            continue;
        }
        if let Some((first, _)) = &found {
            return Err(Fault::lasting(
                "AmbiguousArtifact",
                format!("has several .wasm files in its layer: {first:?} and {name:?}; push one"),
            ));
        }
        let mut bytes = Vec::new();
        entry
            .take(max as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(bad)?;
        found = Some((name, bytes));
    }
    found.map(|(_, bytes)| bytes).ok_or_else(|| {
        Fault::lasting(
            "NoComponentInLayer",
            "has no .wasm file in its layer".to_owned(),
        )
    })
}

/// The error for what is larger than `max`.
fn too_large(max: usize) -> Fault {
    Fault::lasting(
        "TooLarge",
        format!(
            "is larger than {} MiB, the largest component that components.maxSizeMiB of the chart allows",
            max >> 20
        ),
    )
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    const MAX: usize = 1 << 20;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(bytes).expect("in memory");
        gzip.finish().expect("in memory")
    }

    fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            tar.append_data(&mut header, name, *bytes)
                .expect("in memory");
        }
        tar.into_inner().expect("in memory")
    }

    #[test]
    fn a_component_is_the_same_plain_gzipped_and_in_a_tar() {
        let component = b"\0asm rest".to_vec();
        let one = tar(&[("etc/readme", b"text"), ("a/plugin.wasm", &component)]);
        for (layer, may_be_tar) in [
            (component.clone(), false),
            (component.clone(), true),
            (gzip(&component), false),
            (gzip(&component), true),
            (one.clone(), true),
            (gzip(&one), true),
        ] {
            assert_eq!(unpack(layer, may_be_tar, MAX), Ok(component.clone()));
        }
    }

    #[test]
    fn what_is_not_one_file_of_the_allowed_size_is_refused() {
        let large = vec![0; MAX + 1];
        let huge = vec![0; MAX + TAR_SLACK + 1];
        let mut lying = tar(&[("a.wasm", b"text")]);
        lying.truncate(600);
        for (layer, may_be_tar, reason) in [
            (large.clone(), false, "TooLarge"),
            (gzip(&large), false, "TooLarge"),
            (gzip(&huge), true, "TooLarge"),
            (tar(&[("a.wasm", &large)]), true, "TooLarge"),
            (vec![0x1f, 0x8b, 1, 2], false, "BadGzip"),
            (b"no tar".repeat(200), true, "BadTar"),
            (lying, true, "BadTar"),
            (tar(&[("a.txt", b"text")]), true, "NoComponentInLayer"),
            (
                tar(&[("a.wasm", b"1"), ("b.wasm", b"2")]),
                true,
                "AmbiguousArtifact",
            ),
        ] {
            assert_eq!(
                unpack(layer, may_be_tar, MAX).map_err(|fault| fault.reason),
                Err(reason)
            );
        }
    }
}
