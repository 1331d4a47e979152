//! Label selectors as kubectl writes them: `a=b,c!=d,e in (f,g),h notin (i),j,!k`.

use std::collections::BTreeMap;

/// Bytes of a selector. It is matched against each object of a kind, and actions choose it.
pub const MAX_BYTES: usize = 1 << 10;

/// How much of a part that can't be read is quoted.
const QUOTED_CHARACTERS: usize = 100;

/// Why a selector can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// It has more than [`MAX_BYTES`].
    #[error("it has {0} bytes; at most {MAX_BYTES} are allowed")]
    TooLong(usize),
    /// This part of it can't be read.
    #[error("{0:?} can't be read")]
    Part(String),
}

/// A label selector, read once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
}

impl Selector {
    /// Reads a selector; the empty one selects everything.
    ///
    /// # Errors
    /// It is too long, or a part of it can't be parsed.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        if text.len() > MAX_BYTES {
            return Err(SelectorError::TooLong(text.len()));
        }
        let unreadable =
            |part: &str| SelectorError::Part(part.chars().take(QUOTED_CHARACTERS).collect());
        split(text)
            .map(|part| requirement(part).ok_or_else(|| unreadable(part)))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// A label and the one value of it that every selected object has, if the selector names one.
    pub fn exact(&self) -> Option<(&str, &str)> {
        self.0.iter().find_map(|requirement| match requirement {
            Requirement::In(key, values) => match values.as_slice() {
                [value] => Some((key.as_str(), value.as_str())),
                _ => None,
            },
            Requirement::NotIn(..) | Requirement::Exists(_) | Requirement::Absent(_) => None,
        })
    }

    /// How many comparisons decide at most whether an object is selected.
    pub fn comparisons(&self) -> usize {
        let comparisons = self.0.iter().map(|requirement| match requirement {
            Requirement::In(_, values) | Requirement::NotIn(_, values) => values.len(),
            Requirement::Exists(_) | Requirement::Absent(_) => 1,
        });
        comparisons.sum::<usize>().max(1)
    }

    /// Whether an object with these labels is selected.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.matches_by(|key| labels.get(key).map(String::as_str))
    }

    /// As [`Selector::matches`], for labels that are found by a function.
    pub fn matches_by<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        let is_in = |key: &str, values: &[String]| {
            label(key).map(|found| values.iter().any(|value| value == found))
        };
        self.0.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => is_in(key, values).unwrap_or(false),
            Requirement::NotIn(key, values) => !is_in(key, values).unwrap_or(false),
            Requirement::Exists(key) => label(key).is_some(),
            Requirement::Absent(key) => label(key).is_none(),
        })
    }
}

/// The parts between commas, those inside of parentheses excepted.
fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_i32;
    text.split(move |c| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == ',' && depth == 0
    })
    .map(str::trim)
    .filter(|part| !part.is_empty())
}

fn requirement(part: &str) -> Option<Requirement> {
    if let Some((key, rest)) = part.split_once(char::is_whitespace) {
        let (operator, values) = rest.trim().split_once('(')?;
        let values = values
            .strip_suffix(')')?
            .split(',')
            .map(|v| v.trim().to_owned())
            .collect();
        return match operator.trim() {
            "in" => Some(Requirement::In(word(key)?, values)),
            "notin" => Some(Requirement::NotIn(word(key)?, values)),
            _ => None,
        };
    }
    if let Some((key, value)) = part.split_once("!=") {
        return Some(Requirement::NotIn(word(key)?, vec![value.to_owned()]));
    }
    if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return Some(Requirement::In(word(key)?, vec![value.to_owned()]));
    }
    match part.strip_prefix('!') {
        Some(key) => word(key).map(Requirement::Absent),
        None => word(part).map(Requirement::Exists),
    }
}

/// A label key, or none if this can't be one.
fn word(text: &str) -> Option<String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    (!text.is_empty() && text.chars().all(fits)).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_requirement_selects_as_kubectl_does() {
        let labels: BTreeMap<_, _> = [("app", "foo"), ("tier", "a")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into();
        for (selector, expected) in [
            ("", true),
            ("app=foo", true),
            ("app==foo,tier=a", true),
            ("app=bar", false),
            ("app!=foo", false),
            ("other!=foo", true),
            ("tier in (a, b)", true),
            ("tier in (b,c),app=foo", false),
            ("tier notin (b,c),app=foo", true),
            ("other notin (x)", true),
            ("app", true),
            ("!app", false),
            ("!other,app", true),
        ] {
            let parsed = Selector::parse(selector).expect(selector);
            assert_eq!(parsed.matches(&labels), expected, "{selector}");
        }
    }

    #[test]
    fn the_exact_label_is_one_that_every_selected_object_has() {
        for (selector, expected) in [
            ("", None),
            ("a=1", Some(("a", "1"))),
            ("!x,b!=2,c in (3,4),d in (5),e=6", Some(("d", "5"))),
            ("a in (1,2)", None),
            ("a", None),
        ] {
            let parsed = Selector::parse(selector).expect(selector);
            assert_eq!(parsed.exact(), expected, "{selector}");
        }
    }

    #[test]
    fn each_requirement_and_each_of_its_values_is_a_comparison() {
        for (selector, expected) in [
            ("", 1),
            ("a=1", 1),
            ("a,!b,c!=1", 3),
            ("a in (1,2,3),b notin (4,5)", 5),
        ] {
            let parsed = Selector::parse(selector).expect(selector);
            assert_eq!(parsed.comparisons(), expected, "{selector}");
        }
    }

    #[test]
    fn a_selector_that_can_not_be_read_names_its_part() {
        for (selector, part) in [
            ("app=foo,tier of (a)", "tier of (a)"),
            ("a b", "a b"),
            ("!", "!"),
        ] {
            let unreadable = SelectorError::Part(part.to_owned());
            assert_eq!(Selector::parse(selector), Err(unreadable), "{selector}");
        }
        let quoted = SelectorError::Part("é".repeat(QUOTED_CHARACTERS));
        assert_eq!(Selector::parse(&"é".repeat(400)), Err(quoted));
    }

    #[test]
    fn a_selector_has_a_longest() {
        let names = |count: usize| format!("name in ({})", vec!["web-0"; count].join(","));
        assert!(Selector::parse(&names(150)).is_ok());
        let long = names(180);
        let refused = Selector::parse(&long);
        assert_eq!(refused, Err(SelectorError::TooLong(long.len())));
    }
}
