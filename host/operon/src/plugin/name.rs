//! The name of a new action: one that Kubernetes accepts, and the language that the action is written in.

use anyhow::ensure;

/// The characters of a name: the ServiceAccount `action-NAME` is a label of Kubernetes.
const LONGEST: usize = 50;

/// The built-in actions. The chart owns the ActionPlugin, the ServiceAccount and the RBAC of each of these names, and
/// `kubectl apply` would give that ServiceAccount the rights of a new action too.
const BUILT_IN: [&str; 9] = [
    "annotate", "check", "debug", "evict", "label", "recreate", "replace", "resize", "restart",
];

/// Names that Cargo refuses for a package, or that the crate depends on.
const TAKEN: [&str; 9] = [
    "alloc",
    "core",
    "operon-sdk",
    "proc-macro",
    "proc_macro",
    "sdk",
    "serde",
    "std",
    "test",
];

/// Keywords of Rust: no crate can have such a name.
const KEYWORDS: [&str; 51] = [
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate",
    "do", "dyn", "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl",
    "in", "let", "loop", "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref",
    "return", "self", "static", "struct", "super", "trait", "true", "try", "type", "typeof",
    "union", "unsafe", "unsized", "use", "virtual", "where", "while",
];

/// Types that the crate's source uses, so that the action can't be called the same.
const TYPES: [&str; 31] = [
    "Action",
    "ActionError",
    "ActionSettings",
    "Box",
    "Cluster",
    "Default",
    "Duration",
    "Effect",
    "Err",
    "Failure",
    "Job",
    "Mapping",
    "NoSettings",
    "None",
    "Ok",
    "Operation",
    "Option",
    "Parameters",
    "Pod",
    "Progress",
    "ProgressReport",
    "Registration",
    "Result",
    "Self",
    "Settings",
    "Some",
    "String",
    "Target",
    "Value",
    "Vec",
    "Watch",
];

/// A name in its spellings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    /// `mark-pod`: of the crate or package, the ActionPlugin and, with `action-` before it, the ServiceAccount.
    pub(super) package: String,
    /// `MarkPod`: what `spec.action` of a job selects, and in Rust the type.
    pub(super) action: String,
}

impl Name {
    /// The name, if it is one in every language.
    ///
    /// # Errors
    /// The rule that it breaks, and a name that follows it.
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        let is_part = |part: &str| {
            let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
            !part.is_empty() && part.chars().all(fits)
        };
        let starts = text.starts_with(|c: char| c.is_ascii_lowercase());
        if !starts || !text.split('-').all(is_part) || text.len() > LONGEST {
            let better = suggestion(text);
            anyhow::bail!(
                "{text:?} can't be the name of an action: it must be lower-case letters, digits and single hyphens, begin with a letter, and have at most {LONGEST} characters; for example {better:?}"
            );
        }
        ensure!(
            !BUILT_IN.contains(&text),
            "{text:?} can't be the name of an action: a built-in action has it, and with it the ServiceAccount {:?}; for example {:?} can",
            format!("action-{text}"),
            format!("my-{text}")
        );
        let action = camel_case(text);
        Ok(Self {
            package: text.to_owned(),
            action,
        })
    }

    /// The name of a crate and of a type, if it can be one.
    ///
    /// # Errors
    /// What else has the name, and a name that is free.
    pub(super) fn for_rust(text: &str) -> anyhow::Result<Self> {
        let name = Self::parse(text)?;
        ensure!(
            !TAKEN.contains(&text) && !KEYWORDS.contains(&text),
            "{text:?} can't be the name of an action: Rust has another use for it; for example {:?} can",
            format!("my-{text}")
        );
        let action = &name.action;
        ensure!(
            !TYPES.contains(&action.as_str()),
            "{text:?} can't be the name of an action: its type {action} would hide that of the SDK or of Rust; for example {:?} can",
            format!("my-{text}")
        );
        Ok(name)
    }
}

/// `mark-pod` is `MarkPod`.
fn camel_case(text: &str) -> String {
    let part = |part: &str| {
        let mut letters = part.chars();
        let first = letters.next().map(|first| first.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    };
    text.split('-').map(part).collect()
}

/// A name like this one that follows the rule.
fn suggestion(text: &str) -> String {
    let mut name = String::new();
    let mut previous_is_lower = false;
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            if c.is_ascii_uppercase() && previous_is_lower {
                name.push('-');
            }
            name.push(c.to_ascii_lowercase());
        } else if !name.is_empty() && !name.ends_with('-') {
            name.push('-');
        }
        previous_is_lower = c.is_ascii_lowercase();
    }
    let name: String = name
        .trim_start_matches(|c: char| !c.is_ascii_lowercase())
        .chars()
        .take(LONGEST)
        .collect();
    let name = name.trim_end_matches('-');
    if name.is_empty() {
        "my-action".to_owned()
    } else {
        name.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_spelled_as_a_package_and_as_an_action() {
        for (text, action) in [
            ("drain", "Drain"),
            ("mark-pod", "MarkPod"),
            ("wait-4-it", "Wait4It"),
        ] {
            let name = Name::for_rust(text).expect(text);
            assert_eq!(
                (name.package.as_str(), name.action.as_str()),
                (text, action)
            );
        }
    }

    #[test]
    fn a_name_that_rust_or_kubernetes_refuses_is_refused_with_a_better_one() {
        for (text, better) in [
            ("MarkPod", "\"mark-pod\""),
            ("mark_pod", "\"mark-pod\""),
            ("4ever", "\"ever\""),
            ("-", "\"my-action\""),
            ("", "\"my-action\""),
            ("a--b", "\"a-b\""),
            ("../up", "\"up\""),
            ("move", "\"my-move\""),
            ("test", "\"my-test\""),
            ("job", "\"my-job\""),
            (&"x".repeat(51), "\"xxx"),
        ] {
            let error = Name::for_rust(text).expect_err(text).to_string();
            assert!(error.contains(better), "{error}");
        }
    }

    #[test]
    fn the_name_of_a_built_in_action_is_refused_in_each_language() {
        let charts = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../charts");
        let templates = std::fs::read_dir(charts.join("operon/templates")).expect("the chart");
        let names = templates.map(|entry| entry.expect("a template").file_name());
        let names = names.filter_map(|name| {
            let name = name.into_string().ok()?;
            let name = name.strip_prefix("action-")?.strip_suffix(".yaml")?;
            Some(name.to_owned())
        });
        let mut names: Vec<_> = names.collect();
        names.sort();
        assert_eq!(names, BUILT_IN, "those of the chart");
        for name in BUILT_IN {
            for refused in [Name::parse(name), Name::for_rust(name)] {
                let error = refused.expect_err(name).to_string();
                assert!(error.contains(&format!("\"my-{name}\"")), "{error}");
            }
            assert!(Name::for_rust(&format!("my-{name}")).is_ok());
        }
    }

    #[test]
    fn what_only_rust_has_another_use_for_is_a_name_in_other_languages() {
        for text in ["move", "test", "job"] {
            assert!(Name::parse(text).is_ok(), "{text}");
        }
    }
}
