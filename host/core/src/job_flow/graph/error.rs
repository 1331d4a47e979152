//! What can be wrong with the steps of a flow, in words that name the step and say what to do.

use operon_api::job_flow::MAX_STEPS;

use crate::job_flow::when::WhenError;

/// Why the steps of a flow are invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum GraphError {
    #[error("spec.flows is empty: a flow needs at least one step")]
    Empty,
    #[error("the flow has {0} steps; at most {MAX_STEPS} are allowed")]
    TooMany(usize),
    #[error("two steps have the name {0:?}: rename one of them")]
    Duplicate(String),
    #[error("step {0:?} depends on itself")]
    SelfDependency(String),
    #[error("these steps wait for each other: {}", shown(path))]
    Cycle {
        /// Each depends on the next; the last is the first again.
        path: Vec<String>,
    },
    #[error("onExit names {name:?}, which is not a step of this flow{}", meant(hint.as_deref()))]
    UnknownOnExit { name: String, hint: Option<String> },
    #[error("step {0:?} is onExit and must not have dependencies: it runs after all others")]
    OnExitDepends(String),
    #[error("step {by:?} depends on {name:?}, which is onExit and runs after all others")]
    OnExitNeeded { name: String, by: String },
    #[error(
        "input {env:?} of step {step:?} is an output of {from:?}, which the step does not depend on{}",
        meant(hint.as_deref())
    )]
    InputNotBefore {
        step: String,
        env: String,
        from: String,
        hint: Option<String>,
    },
    #[error(
        "input {env:?} of step {step:?} is the output {output:?} of step {from:?}, which does not declare it{}",
        meant(hint.as_deref())
    )]
    InputNotDeclared {
        step: String,
        env: String,
        from: String,
        output: String,
        hint: Option<String>,
    },
    #[error("the when of step {step:?} can't be evaluated: {error}")]
    When { step: String, error: WhenError },
    #[error(
        "the when of step {step:?} refers to step {about:?}, which the step does not depend on{}",
        meant(hint.as_deref())
    )]
    WhenNotBefore {
        step: String,
        about: String,
        hint: Option<String>,
    },
    #[error(
        "the when of step {step:?} refers to the output {output:?} of step {about:?}, which does not declare it{}",
        meant(hint.as_deref())
    )]
    WhenNotDeclared {
        step: String,
        about: String,
        output: String,
        hint: Option<String>,
    },
    #[error(
        "the when of step {step:?} refers to the output {output:?}, which none of its dependencies declares{}",
        meant(hint.as_deref())
    )]
    WhenDeclaredByNone {
        step: String,
        output: String,
        hint: Option<String>,
    },
    #[error(
        "the when expressions of the flow take too long to evaluate, and that of step {0:?} takes the longest: refer to single steps instead of iterating over all steps"
    )]
    WhenTooExpensive(String),
}

/// A dependency that is not a step of the flow. The graph stays valid: the steps that do not need the
/// dependency run, and the step that needs it waits for an edit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it depends on {dependency:?}, which is not a step of this flow{}", meant(hint.as_deref()))]
pub struct UnknownDependency {
    /// The name as it is written.
    pub dependency: String,
    /// The step that may have been meant.
    pub hint: Option<String>,
}

/// The name that the user probably meant: a name with the same beginning, or a few letters off.
pub fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    let wanted: String = wanted.chars().take(64).collect();
    names
        .filter_map(|name| {
            let begins = name.starts_with(&wanted) || wanted.starts_with(name);
            let off = distance(&wanted, name);
            let length = wanted.chars().count();
            let is_near = begins || (length > 2 && off <= (length / 3).max(2).min(length - 1));
            (is_near && !wanted.is_empty()).then_some((!begins, off, name))
        })
        .min()
        .map(|(_, _, name)| name.to_owned())
}

/// How many letters must be changed, inserted or deleted to turn one text into another.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, a) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], line + 1);
        for (column, b) in other.iter().enumerate() {
            let changed = diagonal + usize::from(a != *b);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}

fn meant(hint: Option<&str>) -> String {
    hint.map_or_else(String::new, |hint| format!("; did you mean {hint:?}?"))
}

/// A path, without its middle if it is long.
fn shown(path: &[String]) -> String {
    const SHOWN: usize = 12;
    let arrows = |part: &[String]| part.join(" → ");
    if path.len() <= SHOWN {
        return arrows(path);
    }
    let (start, end) = (&path[..SHOWN - 2], &path[path.len() - 2..]);
    format!("{} → … → {}", arrows(start), arrows(end))
}
