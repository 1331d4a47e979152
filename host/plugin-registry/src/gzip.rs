//! Gzip, recognised by its first bytes, and decompressed up to a size.

use std::io::{self, Read};

use flate2::read::MultiGzDecoder;

const MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Whether these bytes look like gzip.
pub(crate) fn is_gzip(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

/// What gzip holds: all of it, or one byte more than `max`.
pub(crate) fn decompress(bytes: &[u8], max: usize) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    MultiGzDecoder::new(bytes)
        .take(max as u64 + 1)
        .read_to_end(&mut content)?;
    Ok(content)
}
