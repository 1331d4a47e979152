//! The kinds that the command knows, and the names by which a user may call them.

use std::fmt;

use crate::text::nearest;

/// A kind that the command shows and steers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// See [`operon_api::OperationJob`].
    OperationJob,
    /// See [`operon_api::JobFlow`].
    JobFlow,
    /// See [`operon_api::DaemonJob`].
    DaemonJob,
    /// See [`operon_api::ReactiveJob`].
    ReactiveJob,
    /// See [`operon_api::CollaSet`].
    CollaSet,
}

/// A word that names no kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownKind {
    word: String,
    nearest: Option<&'static str>,
}

impl fmt::Display for UnknownKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "unknown kind {:?}", self.word)?;
        match self.nearest {
            Some(nearest) => write!(out, "; did you mean {nearest}?")?,
            None => write!(out, "; the kinds are:")?,
        }
        if self.nearest.is_none() {
            for (index, kind) in Kind::ALL.iter().enumerate() {
                let comma = if index == 0 { "" } else { "," };
                write!(out, "{comma} {}", kind.word())?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for UnknownKind {}

/// Whether an object can have this name: letters, digits, `-` and `.`.
pub fn is_name(name: &str) -> bool {
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || "-.".contains(letter);
    !name.is_empty() && name.chars().all(is_letter)
}

impl Kind {
    /// All kinds, in the order in which `status` lists them.
    pub const ALL: [Self; 5] = [
        Self::OperationJob,
        Self::JobFlow,
        Self::DaemonJob,
        Self::ReactiveJob,
        Self::CollaSet,
    ];

    /// The kind that a user calls by this word: its kind, plural or short name in any case, with its group or without.
    pub fn parse(word: &str) -> Result<Self, UnknownKind> {
        let lower = word.to_lowercase();
        let (name, group) = match lower.split_once('.') {
            Some((name, group)) => (name, Some(group)),
            None => (lower.as_str(), None),
        };
        let is_called = |kind: &Self| {
            kind.words().contains(&name) && group.is_none_or(|group| group == kind.group())
        };
        let found = Self::ALL.into_iter().find(is_called);
        found.ok_or_else(|| UnknownKind {
            word: word.to_owned(),
            nearest: nearest(name, Self::ALL.into_iter().flat_map(Self::words).copied()),
        })
    }

    /// The kind as an object names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::OperationJob => "OperationJob",
            Self::JobFlow => "JobFlow",
            Self::DaemonJob => "DaemonJob",
            Self::ReactiveJob => "ReactiveJob",
            Self::CollaSet => "CollaSet",
        }
    }

    /// The API group.
    pub fn group(self) -> &'static str {
        match self {
            Self::OperationJob | Self::CollaSet => "apps.kusionstack.io",
            Self::JobFlow | Self::DaemonJob => "api.practice.com",
            Self::ReactiveJob => "batch.cs.sap.com",
        }
    }

    /// The name in paths of the API.
    pub fn plural(self) -> &'static str {
        match self {
            Self::OperationJob => "operationjobs",
            Self::JobFlow => "jobflows",
            Self::DaemonJob => "daemonjobs",
            Self::ReactiveJob => "reactivejobs",
            Self::CollaSet => "collasets",
        }
    }

    /// The shortest word for the kind: its short name, or its name.
    pub fn word(self) -> &'static str {
        self.words()[0]
    }

    fn words(self) -> &'static [&'static str] {
        match self {
            Self::OperationJob => &["opj", "operationjob", "operationjobs"],
            Self::JobFlow => &["jf", "jobflow", "jobflows"],
            Self::DaemonJob => &["dj", "daemonjob", "daemonjobs"],
            Self::ReactiveJob => &["reactivejob", "reactivejobs"],
            Self::CollaSet => &["cls", "collaset", "collasets"],
        }
    }
}
