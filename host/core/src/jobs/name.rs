//! Names of Jobs: derived from what a Job is created for, so creating it again gives the same name.

use operon_api::embedded::JobSpec;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The characters of Kubernetes' own random names: no vowels, so no words.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// The longest name of a Job: it is the value of a label of its pods.
const MAX: usize = 63;

/// How many names are tried if other owners' Jobs have them.
const NAMES: u32 = 3;

/// The names that a Job with the wanted name `wanted` may have, the first being the name that it gets
/// unless another owner's Job has it. A name that is too long is shortened, and distinguished by `key`,
/// which identifies what the Job is created for.
pub(crate) fn names(wanted: &str, key: &str, spec: &JobSpec) -> Vec<String> {
    if spec.at(&["completionMode"]) == Some(&json!("Indexed")) {
        let completions = spec.at(&["completions"]).and_then(Value::as_i64);
        let digits = completions.unwrap_or(1).to_string().len();
        fitting(&plain(wanted), key, MAX.saturating_sub(1 + digits))
    } else {
        fitting(wanted, key, MAX)
    }
}

/// Whether [`names`] may give a Job this name, whatever its spec was at the time.
pub(crate) fn is_name(name: &str, wanted: &str, key: &str) -> bool {
    let plain = plain(wanted);
    let is_cut = |(beginning, end): (&str, &str)| {
        (wanted.starts_with(beginning) || plain.starts_with(beginning))
            && (0..NAMES).any(|salt| end == salted(key, salt))
    };
    name == wanted || name == plain || name.rsplit_once('-').is_some_and(is_cut)
}

/// The pods of an Indexed Job have its name and their index as host names: no dots, and not more
/// characters than a Job with the highest index.
fn plain(wanted: &str) -> String {
    wanted.replace('.', "-")
}

/// The names of at most `room` characters.
fn fitting(wanted: &str, key: &str, room: usize) -> Vec<String> {
    let beginning = cut(wanted, room.saturating_sub(6));
    let substitutes = (0..NAMES).map(|salt| format!("{beginning}-{}", salted(key, salt)));
    let fits = (wanted.len() <= room).then(|| wanted.to_owned());
    fits.into_iter().chain(substitutes).collect()
}

fn salted(key: &str, salt: u32) -> String {
    five(&format!("{key}{salt}"))
}

/// The beginning of a name, such that something may follow it.
pub(crate) fn cut(name: &str, length: usize) -> &str {
    let end = (0..=length.min(name.len()))
        .rev()
        .find(|end| name.is_char_boundary(*end))
        .unwrap_or(0);
    name.get(..end)
        .unwrap_or_default()
        .trim_end_matches(['-', '.'])
}

/// Five characters that represent a text.
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

    fn plain_job() -> JobSpec {
        JobSpec::default()
    }

    fn indexed_job(completions: i64) -> JobSpec {
        let spec = json!({"completionMode": "Indexed", "completions": completions});
        serde_json::from_value(spec).expect("a spec")
    }

    #[test]
    fn a_name_that_fits_is_taken_as_it_is_and_has_substitutes() {
        let names = names("flow-step", "key", &plain_job());
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
        let (one, other) = (
            names(&long, "one", &plain_job()),
            names(&long, "other", &plain_job()),
        );
        assert_eq!(one.len(), 3);
        assert_ne!(one[0], other[0]);
        for name in one.iter().chain(&other) {
            assert!(name.len() <= MAX, "{name}");
            assert!(name.starts_with(&format!("{}-", "a".repeat(56))), "{name}");
        }
    }
    #[test]
    fn pods_of_an_indexed_job_can_have_its_name_as_host_name() {
        let long = format!("{}.{}", "a".repeat(40), "b".repeat(23));
        for (wanted, completions, first) in [
            ("flow-a.b", 1, "flow-a-b"),
            (&"a".repeat(61), 9, &"a".repeat(61)),
            (&"a".repeat(61), 10, &"a".repeat(54)),
            (&long, 1000, &format!("{}-", "a".repeat(40))),
        ] {
            let names = names(wanted, "key", &indexed_job(completions));
            assert!(names[0].starts_with(first), "{names:?}");
            for name in names {
                let host = format!("{name}-{}", completions - 1);
                assert!(host.len() <= MAX && !host.contains('.'), "{host}");
            }
        }
    }

    #[test]
    fn a_name_is_known_whatever_the_spec_was() {
        let long = format!("{}.-{}", "a".repeat(30), "b".repeat(40));
        for wanted in ["flow-step", "flow-a.b", &long] {
            for spec in [plain_job(), indexed_job(1), indexed_job(100_000)] {
                for name in names(wanted, "key", &spec) {
                    assert!(is_name(&name, wanted, "key"), "{name}");
                    let is_cut = name != wanted && name != plain(wanted);
                    assert!(!is_cut || !is_name(&name, wanted, "other"), "{name}");
                }
            }
            let copy = format!("{wanted}-2");
            assert!(!is_name(&copy, wanted, "key"), "{copy}");
        }
    }
}
