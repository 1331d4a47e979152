//! Names of Jobs: derived from what a Job is made for, so whoever makes it again makes the same.

use sha2::{Digest, Sha256};

/// What Kubernetes itself makes random names of: no vowels, so no words.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// The longest name of a Job: it is the value of a label of its pods.
pub(crate) const MAX: usize = 63;

/// How many names are tried if somebody else's Job has one.
const NAMES: u32 = 3;

/// The names that a Job may have that is to be called `wanted`, the first being the one it gets unless
/// somebody else's Job has it. What is too long is cut, and told apart by `key`, which stands for what
/// the Job is made for.
pub(crate) fn names(wanted: &str, key: &str) -> Vec<String> {
    let salted = (0..NAMES)
        .map(|salt| format!("{}-{}", cut(wanted, MAX - 6), five(&format!("{key}{salt}"))));
    let fits = (wanted.len() <= MAX).then(|| wanted.to_owned());
    fits.into_iter().chain(salted).collect()
}

/// The beginning of a name, such that something may follow it.
fn cut(name: &str, length: usize) -> &str {
    let end = (0..=length.min(name.len()))
        .rev()
        .find(|end| name.is_char_boundary(*end))
        .unwrap_or(0);
    name.get(..end)
        .unwrap_or_default()
        .trim_end_matches(['-', '.'])
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_fits_is_taken_as_it_is_and_has_substitutes() {
        let names = names("flow-step", "key");
        assert_eq!(names[0], "flow-step");
        assert_eq!(names.len(), 4);
        for name in &names[1..] {
            let rest = name.strip_prefix("flow-step-").expect("a prefix");
            assert!(is_five(rest), "{name}");
        }
    }

    #[test]
    fn a_name_that_is_too_long_is_cut_and_told_apart_by_its_key() {
        let long = format!("{}.-{}", "a".repeat(56), "b".repeat(20));
        let (one, other) = (names(&long, "one"), names(&long, "other"));
        assert_eq!(one.len(), 3);
        assert_ne!(one[0], other[0]);
        for name in one.iter().chain(&other) {
            assert!(name.len() <= MAX, "{name}");
            assert!(name.starts_with(&format!("{}-", "a".repeat(56))), "{name}");
        }
    }
}
