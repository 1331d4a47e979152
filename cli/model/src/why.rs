//! What an object, or a part of it, waits for or why it failed, since when, and which command comes next.

mod next;

use std::fmt;

use k8s_openapi::jiff::Timestamp;

#[cfg(test)]
pub(crate) use self::next::reasons;
use self::next::{Next, next};
use crate::{
    Object, Outcome, Related,
    text::{duration, printable},
    tree::{self, Mark, Row},
};

/// The most words of one message. With two messages, names and the command there are at most 80.
const WORDS: usize = 22;

/// An object has no such part, or does not show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoPart {
    part: String,
    called: String,
}

impl fmt::Display for NoPart {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { part, called } = self;
        write!(
            out,
            "{called} shows no part {part:?}; `kubectl operon get {called}` shows its parts"
        )
    }
}

impl std::error::Error for NoPart {}

/// At most 80 words, on lines without an end: who waits and since when, for what, and the next command. The part is the
/// name of a target, step, node, Job or pod; without one it is the part that needs attention first.
///
/// # Errors
/// The object has no such part.
pub fn why(
    object: &Object,
    related: &Related,
    part: Option<&str>,
    now: Timestamp,
) -> Result<String, NoPart> {
    let mut rows = tree::rows(object, related);
    rows.sort_by_key(|row| row.mark);
    let chosen = match part {
        Some(name) => {
            let missing = || NoPart {
                part: name.to_owned(),
                called: object.called(),
            };
            Some(named(object, related, &rows, name).ok_or_else(missing)?)
        }
        None => first(object, &rows).cloned(),
    };
    let text = match &chosen {
        Some(row) => about_part(object, row, now),
        None => about_object(object, now),
    };
    Ok(printable_lines(&text))
}

/// The row of this part, however deep it is. A target is a row even if the tree only counts it.
fn named(object: &Object, related: &Related, rows: &[Row], name: &str) -> Option<Row> {
    if let Object::OperationJob(job) = object
        && let Some(row) = tree::operation_job::target(job, name, related)
    {
        return Some(row);
    }
    let has_name = |row: &Row| {
        row.name == name
            || row
                .name
                .split_once(' ')
                .is_some_and(|(_, last)| last == name)
    };
    find(rows, &has_name).cloned()
}

fn find<'a>(rows: &'a [Row], is_wanted: &impl Fn(&Row) -> bool) -> Option<&'a Row> {
    rows.iter().find_map(|row| {
        if is_wanted(row) {
            return Some(row);
        }
        find(&row.children, is_wanted)
    })
}

/// The row that needs attention first; none if the object itself says more than its rows.
fn first<'a>(object: &Object, rows: &'a [Row]) -> Option<&'a Row> {
    if object.awaited().is_some() {
        return None;
    }
    if object.outcome() == Outcome::Succeeded {
        // A CollaSet is Ready while its partition keeps pods back.
        return rows.iter().find(|row| row.next.is_some());
    }
    let row = rows.first()?;
    match row.mark {
        Mark::Failed | Mark::Blocked => Some(row),
        Mark::Running | Mark::Waiting if !object.is_stalled() => {
            let says_something = !row.text.is_empty() || cause(row).is_some();
            says_something.then_some(row)
        }
        Mark::Running | Mark::Waiting | Mark::Skipped | Mark::Done => None,
    }
}

/// The deepest row below this one that failed or waits, and says for what.
fn cause(row: &Row) -> Option<&Row> {
    let mut children: Vec<_> = row.children.iter().collect();
    children.sort_by_key(|child| child.mark);
    let child = children
        .into_iter()
        .find(|child| child.mark <= Mark::Blocked)?;
    cause(child).or((!child.text.is_empty()).then_some(child))
}

fn about_part(object: &Object, row: &Row, now: Timestamp) -> String {
    let called = object.called();
    // Parts that are only counted have no state: their row says that they wait.
    let is_counted = row.mark == Mark::Waiting && row.state.is_empty();
    let mut lines = vec![if is_counted {
        format!("{} in {called}.", row.name)
    } else {
        format!("{} of {called} {}.", row.name, stands(row, now))
    }];
    let cause = cause(row);
    lines.extend(sentence(&row.text));
    if let Some(cause) = cause.filter(|cause| cause.text != row.text) {
        let text = sentence(&cause.text).unwrap_or_default();
        lines.push(format!("{} {}: {text}", cause.name, stands(cause, now)));
    }
    let (reason, pod) = match cause {
        Some(cause) if !cause.reason.is_empty() => (cause.reason.as_str(), cause.pod()),
        Some(cause) => (row.reason.as_str(), cause.pod()),
        None => (row.reason.as_str(), row.pod()),
    };
    let is_started = row.mark <= Mark::Running;
    let is_pod = is_started && matches!(object, Object::OperationJob(_));
    let pod = pod.or_else(|| is_pod.then_some(row.name.as_str()));
    let texts = [Some(row), cause].into_iter().flatten();
    let texts: Vec<_> = texts.map(|row| row.text.as_str()).collect();
    lines.push(command(
        object,
        next(reason, &texts.join(" ")),
        pod,
        row.mark,
    ));
    lines.join("\n")
}

fn about_object(object: &Object, now: Timestamp) -> String {
    let called = object.called();
    let (since, until) = object.times();
    let age = since.map_or(String::new(), |since| {
        format!(", {} old", duration(since, until.unwrap_or(now)))
    });
    let mut lines = vec![format!("{called} is {}{age}.", object.state())];
    lines.extend(sentence(&object.explanation()));
    let condition = object.condition();
    let reason = condition.map_or("", |condition| condition.reason.as_str());
    let text = condition.map_or("", |condition| condition.message.as_str());
    let (step, mark) = match object.outcome() {
        _ if !object.has_status() || object.awaited().is_some() => {
            (Some(Next::Host), Mark::Blocked)
        }
        Outcome::Succeeded => (Some(Next::Look), Mark::Done),
        Outcome::Failed => (next(reason, text), Mark::Failed),
        Outcome::Unfinished => (next(reason, text), Mark::Running),
    };
    lines.push(command(object, step, None, mark));
    lines.join("\n")
}

/// How a row stands, and since when.
fn stands(row: &Row, now: Timestamp) -> String {
    let state = if row.state.is_empty() {
        "waiting"
    } else {
        &row.state
    };
    match (row.mark, row.since, row.until) {
        (Mark::Failed, _, Some(until)) => format!("failed {} ago", duration(until, now)),
        (Mark::Failed, ..) => "has failed".to_owned(),
        (Mark::Done, ..) => "has succeeded".to_owned(),
        (Mark::Skipped, ..) => "will not run".to_owned(),
        (Mark::Blocked | Mark::Running | Mark::Waiting, Some(since), _) => {
            format!("has been {state} for {}", duration(since, now))
        }
        (Mark::Waiting, None, _) => "has not started".to_owned(),
        (Mark::Blocked | Mark::Running, None, _) => format!("is {state}"),
    }
}

/// A message within [`WORDS`]; none if it says nothing.
fn sentence(text: &str) -> Option<String> {
    let words: Vec<_> = text.split_whitespace().collect();
    if words.is_empty() {
        return None;
    }
    Some(match words.get(..WORDS) {
        Some(kept) if kept.len() < words.len() => format!("{} …", kept.join(" ")),
        _ => words.join(" "),
    })
}

/// The line with the next command.
fn command(object: &Object, step: Option<Next>, pod: Option<&str>, mark: Mark) -> String {
    let step = step.unwrap_or(match mark {
        Mark::Done | Mark::Skipped => Next::Look,
        Mark::Failed => Next::Again,
        Mark::Blocked | Mark::Running | Mark::Waiting if pod.is_some() => Next::Pod,
        Mark::Blocked | Mark::Running | Mark::Waiting => Next::Wait,
    });
    format!("Next: {}", step.command(object, pod))
}

/// Lines of which none can control the terminal.
fn printable_lines(text: &str) -> String {
    text.lines().map(printable).collect::<Vec<_>>().join("\n")
}
