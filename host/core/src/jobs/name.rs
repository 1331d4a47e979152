//! Names of Jobs: derived from what a Job is made for, so whoever makes it again makes the same.

use sha2::{Digest, Sha256};

/// What Kubernetes itself makes random names of: no vowels, so no words.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// Five characters that stand for a text.
pub(crate) fn five(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let mut rest = digest
        .iter()
        .take(8)
        .fold(0_u64, |number, byte| (number << 8) | u64::from(*byte));
    let mut name = String::with_capacity(5);
    for _ in 0..5 {
        let place = usize::try_from(rest % 27).unwrap_or(0);
        name.push(ALPHABET.get(place).copied().map_or('b', char::from));
        rest /= 27;
    }
    name
}

/// Whether a text is such five characters.
pub(crate) fn is_five(text: &str) -> bool {
    text.len() == 5 && text.bytes().all(|byte| ALPHABET.contains(&byte))
}
