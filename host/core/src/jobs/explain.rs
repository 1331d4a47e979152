//! Why a Job waits when its pods do not say it: the Warning Event about it, such as `FailedCreate` of a
//! Job whose pods the API server refuses.
//!
//! Events are in no cache, so the API server is asked, once: the words in the status show that it was.

use super::blocked::{Blocked, NO_PODS};
use crate::driver::{Asked, Question};

/// What a status says of a Job that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    /// One CamelCase word.
    pub(crate) reason: String,
    /// What the Job waits for.
    pub(crate) words: String,
}

/// What is added to a message when no Event explains it, so that Events are not read again.
const NO_WARNING: &str = "no Warning Event about it was found";

impl Blocked {
    /// What must be asked to explain it, if `known`, what the status says, does not already.
    pub(crate) fn question(&self, known: Option<&Known>) -> Option<Question> {
        let is_told = known.is_some_and(|known| self.is_told_by(known));
        let uid = self.ask.clone().filter(|_| !is_told);
        uid.map(Question::Warning)
    }

    /// The same in the words of the Event about it, or in those that the status has already.
    #[must_use]
    pub(crate) fn explained(self, asked: &Asked, known: Option<&Known>) -> Self {
        if self.ask.as_deref().is_some_and(|uid| asked.is_about(uid)) {
            let (reason, why) = match &asked.warning {
                Some(warning) => (warning.reason.clone(), warning.message.as_str()),
                None => (self.reason.clone(), NO_WARNING),
            };
            let message = format!("{}: {why}", self.message);
            return Self {
                reason,
                message,
                ..self
            };
        }
        match known.filter(|known| self.is_told_by(known)) {
            Some(Known { reason, words }) => Self {
                reason: reason.clone(),
                message: words.clone(),
                ..self
            },
            None => self,
        }
    }

    /// Whether these words are about it. A pod that starts may wait for several things in turn: what was
    /// said first stays.
    pub(crate) fn is_told_by(&self, known: &Known) -> bool {
        let is_same_stage = known.words.starts_with(NO_PODS) == self.message.starts_with(NO_PODS);
        if self.ask.is_some() {
            is_same_stage && known.words != self.message
        } else {
            self.is_still(&known.reason)
        }
    }
}
