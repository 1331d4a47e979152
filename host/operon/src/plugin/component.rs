//! The file of a component: its bytes, its digest, and whether a ConfigMap holds it.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    path::Path,
};

use anyhow::{Context as _, bail};
use flate2::{Compression, write::GzEncoder};
use operon_plugin_registry::{MAX_COMPONENT, digest};
use operon_plugin_runtime::MOST_COMPONENT_BYTES;

/// Bytes of all keys of a ConfigMap together, as the API server counts them.
const CONFIG_MAP: usize = 1 << 20;

/// A component that was read from a file.
pub(super) struct Component {
    pub(super) bytes: Vec<u8>,
    gzipped: usize,
}

/// How a ConfigMap holds a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    Plain,
    Gzipped,
    Not,
}

impl Component {
    /// Reads a file, up to the size that a host can be set to take.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        let failed = || format!("failed to read {shown}");
        let file = File::open(path).with_context(failed)?;
        let mut bytes = Vec::new();
        file.take(MOST_COMPONENT_BYTES as u64 + 1)
            .read_to_end(&mut bytes)
            .with_context(failed)?;
        if bytes.len() > MOST_COMPONENT_BYTES {
            bail!(
                "{shown}: TooLarge: a component may have {} MiB at most",
                MOST_COMPONENT_BYTES >> 20
            );
        }
        let gzipped = compress(&bytes).with_context(failed)?.len();
        Ok(Self { bytes, gzipped })
    }

    pub(super) fn digest(&self) -> String {
        digest(&self.bytes)
    }

    /// The component as `gzip -9` writes it.
    pub(super) fn gzip(&self) -> std::io::Result<Vec<u8>> {
        compress(&self.bytes)
    }

    pub(super) fn fit(&self) -> Fit {
        if self.bytes.len() <= CONFIG_MAP {
            Fit::Plain
        } else if self.gzipped <= CONFIG_MAP {
            Fit::Gzipped
        } else {
            Fit::Not
        }
    }

    /// `178 KiB, 61 KiB gzipped; a ConfigMap holds it as it is`
    pub(super) fn size(&self) -> String {
        let fit = match self.fit() {
            Fit::Plain => "a ConfigMap holds it as it is",
            Fit::Gzipped => "a ConfigMap holds it only gzipped",
            Fit::Not => "too large for a ConfigMap, even gzipped: only by OCI",
        };
        let (plain, gzipped) = (kibibytes(self.bytes.len()), kibibytes(self.gzipped));
        format!("{plain}, {gzipped} gzipped; {fit}")
    }

    /// What the host must be set to, if its default is less.
    pub(super) fn needs(&self) -> Option<String> {
        let size = self.bytes.len();
        (size > MAX_COMPONENT).then(|| {
            let (size, default) = (size.div_ceil(1 << 20), MAX_COMPONENT >> 20);
            format!("components.maxSizeMiB={size} or more in the host's chart, where {default} is the default")
        })
    }
}

fn compress(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(bytes)?;
    gzip.finish()
}

/// Rounded up, so that what is said to fit does.
fn kibibytes(bytes: usize) -> String {
    format!("{} KiB", bytes.div_ceil(1 << 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_map_holds_a_mebibyte() {
        let of = |bytes: usize, gzipped| Component {
            bytes: vec![0; bytes],
            gzipped,
        };
        let mebibyte = 1 << 20;
        assert_eq!(of(mebibyte, 9).fit(), Fit::Plain);
        assert_eq!(of(mebibyte + 1, mebibyte).fit(), Fit::Gzipped);
        assert_eq!(of(mebibyte + 2, mebibyte + 1).fit(), Fit::Not);
        assert_eq!(
            of(1025, 1024).size(),
            "2 KiB, 1 KiB gzipped; a ConfigMap holds it as it is"
        );
    }

    #[test]
    fn a_component_beyond_the_default_says_what_the_host_must_allow() {
        let of = |bytes: usize| Component {
            bytes: vec![0; bytes],
            gzipped: bytes,
        };
        assert_eq!(of(MAX_COMPONENT).needs(), None);
        let needs = of(MAX_COMPONENT + 1).needs().expect("a limit");
        assert!(needs.starts_with("components.maxSizeMiB=17 "), "{needs}");
    }
}
