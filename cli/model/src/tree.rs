//! The tree of an object: a row for each part, with the parts below it. Failed and waiting rows come first.

pub(crate) mod colla_set;
pub(crate) mod daemon_job;
pub(crate) mod job_flow;
pub(crate) mod operation_job;
pub(crate) mod reactive_job;

use k8s_openapi::jiff::Timestamp;

use crate::{
    Object,
    related::Related,
    text::{count, duration, reasoned},
};

/// More rows of one state than this become one.
const MOST: usize = 20;

/// How a row stands. The order is that of rows in a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    /// It failed.
    Failed,
    /// It waits for something that is named.
    Blocked,
    /// It is in progress.
    Running,
    /// Its turn has not come.
    Waiting,
    /// It will not run.
    Skipped,
    /// It succeeded.
    Done,
}

impl Mark {
    /// The sign of the mark. The state is never a colour alone.
    pub fn sign(self) -> &'static str {
        match self {
            Self::Failed => "✗",
            Self::Blocked => "!",
            Self::Running => "●",
            Self::Waiting => "○",
            Self::Skipped => "-",
            Self::Done => "✓",
        }
    }

    /// What the sign means.
    pub fn word(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Blocked => "blocked",
            Self::Running => "in progress",
            Self::Waiting => "not started",
            Self::Skipped => "skipped",
            Self::Done => "succeeded",
        }
    }
}

/// A part of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// How it stands.
    pub mark: Mark,
    /// What it is.
    pub name: String,
    /// Its state in a word; may be empty.
    pub state: String,
    /// Since when.
    pub since: Option<Timestamp>,
    /// Until when, if it has ended.
    pub until: Option<Timestamp>,
    /// Why it stands so, in a word; may be empty.
    pub reason: String,
    /// What there is to say.
    pub text: String,
    /// The command that lets it go on, if it waits for one.
    pub next: Option<String>,
    /// Its parts.
    pub children: Vec<Row>,
}

/// An object with its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// `OperationJob default/restart-web  Restart`.
    pub title: String,
    /// How it stands.
    pub mark: Mark,
    /// The state in one word.
    pub state: &'static str,
    /// How much is done of how much.
    pub progress: (usize, usize),
    /// Since when.
    pub since: Option<Timestamp>,
    /// Until when, if it has finished.
    pub until: Option<Timestamp>,
    /// Why it is not finished, or has failed.
    pub text: String,
    /// Its parts.
    pub rows: Vec<Row>,
}

impl Row {
    pub(crate) fn new(mark: Mark, name: impl Into<String>, state: impl Into<String>) -> Self {
        Self {
            mark,
            name: name.into(),
            state: state.into(),
            since: None,
            until: None,
            reason: String::new(),
            text: String::new(),
            next: None,
            children: Vec::new(),
        }
    }

    /// The same row, for this reason.
    pub(crate) fn because(self, reason: &str, message: &str) -> Self {
        Self {
            reason: reason.to_owned(),
            text: reasoned(reason, message),
            ..self
        }
    }

    /// What there is to say, and the command that lets it go on.
    pub fn sentence(&self) -> String {
        match &self.next {
            Some(next) => format!("{}. Next: {next}", self.text),
            None => self.text.clone(),
        }
    }

    /// The name of the pod, if the row is one.
    pub fn pod(&self) -> Option<&str> {
        self.name.strip_prefix("Pod ")
    }

    /// How long it has stood so, or how long it took; empty if that is unknown.
    pub fn age(&self, now: Timestamp) -> String {
        age(self.since, self.until, now)
    }

    /// The same row, for this reason, which its text need not name.
    pub(crate) fn saying(self, reason: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            text: text.into(),
            ..self
        }
    }
}

fn age(since: Option<Timestamp>, until: Option<Timestamp>, now: Timestamp) -> String {
    since.map_or(String::new(), |since| duration(since, until.unwrap_or(now)))
}

impl Tree {
    /// How long it has existed, or how long it took; empty if that is unknown.
    pub fn age(&self, now: Timestamp) -> String {
        age(self.since, self.until, now)
    }

    /// The tree of an object, with what was read beside it.
    pub fn of(object: &Object, related: &Related) -> Self {
        let (noun, title) = match object {
            Object::OperationJob(job) => ("target", job.spec.action.as_str()),
            Object::JobFlow(_) => ("step", ""),
            Object::DaemonJob(_) => ("row", ""),
            Object::ReactiveJob(_) => ("run", ""),
            Object::CollaSet(_) => ("pod", ""),
        };
        let mut rows = collapsed(rows(object, related), noun);
        for sentence in &related.unread {
            rows.push(Row::new(Mark::Skipped, sentence.clone(), ""));
        }
        let (since, until) = object.times();
        let name = format!(
            "{} {}/{}",
            object.kind().name(),
            object.namespace(),
            object.name()
        );
        Self {
            title: if title.is_empty() {
                name
            } else {
                format!("{name}  {title}")
            },
            mark: object.mark(),
            state: object.state(),
            progress: object.progress(),
            since,
            until,
            text: object.explanation(),
            rows,
        }
    }
}

/// All rows of an object.
pub(crate) fn rows(object: &Object, related: &Related) -> Vec<Row> {
    match object {
        Object::OperationJob(job) => operation_job::rows(job, related),
        Object::JobFlow(flow) => job_flow::rows(flow, related),
        Object::DaemonJob(job) => daemon_job::rows(job, related),
        Object::ReactiveJob(job) => reactive_job::rows(job, related),
        Object::CollaSet(set) => colla_set::rows(set, related),
    }
}

/// Every target of an OperationJob as a row, in the order of a tree, also those that its tree only counts. Other kinds have
/// none.
pub fn targets(object: &Object, related: &Related) -> Vec<Row> {
    match object {
        Object::OperationJob(job) => {
            let mut rows = operation_job::targets(job, related);
            rows.sort_by_key(|row| row.mark);
            rows
        }
        Object::JobFlow(_)
        | Object::DaemonJob(_)
        | Object::ReactiveJob(_)
        | Object::CollaSet(_) => Vec::new(),
    }
}

/// The rows in their order. More than [`MOST`] rows that say the same about their state become one, which names the
/// first of them.
pub(crate) fn collapsed(mut rows: Vec<Row>, noun: &str) -> Vec<Row> {
    rows.sort_by_key(|row| row.mark);
    let mut kept: Vec<Row> = Vec::new();
    for group in rows.chunk_by(|one, next| one.mark == next.mark && one.state == next.state) {
        if group.len() <= MOST {
            kept.extend_from_slice(group);
            continue;
        }
        let first = &group[0];
        let name = count(group.len(), noun);
        kept.push(Row {
            since: group.iter().filter_map(|row| row.since).min(),
            text: match first.text.as_str() {
                "" => format!("the first is {}", first.name),
                text => format!("the first is {}: {text}", first.name),
            },
            ..Row::new(first.mark, name, first.state.clone())
        });
    }
    kept
}
