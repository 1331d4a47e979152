//! What users were asked to confirm, and what became of their answers.
//!
//! Each confirmation is used at most once, however often a browser sends it: after a double click, a reload or "back", the
//! second request gets the result of the first. What was confirmed is kept here, so a form carries only a token, and cannot
//! ask for anything else. An answer is carried out to its end even if the browser closes the connection.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::http::StatusCode;
use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use operon_cli_model::Decision;

use crate::intent::Intent;

/// How many confirmations are kept. An older one is not accepted any more; that of a large job has a megabyte.
const KEPT: usize = 32;

/// The confirmations, the oldest first.
#[derive(Default)]
pub(crate) struct Ledger {
    entries: Mutex<VecDeque<Entry>>,
}

struct Entry {
    token: String,
    intent: Intent,
    state: State,
}

enum State {
    Asked(Box<Decision>),
    Answered(Answer),
}

/// What becomes of an answer. All who wait for it get the same.
pub(crate) type Answer = Shared<BoxFuture<'static, Arc<Outcome>>>;

/// What became of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was written.
    Done {
        /// What it does, in a sentence.
        says: String,
        /// The address that shows it.
        to: String,
    },
    /// It was not, or it is not known.
    Failed {
        code: StatusCode,
        /// Why, and what to do.
        text: String,
    },
}

impl Ledger {
    /// Keeps what a user is asked under this token.
    pub(crate) fn ask(&self, token: String, intent: Intent, decision: Decision) {
        let mut entries = self.entries();
        if entries.len() >= KEPT {
            entries.pop_front();
        }
        entries.push_back(Entry {
            token,
            intent,
            state: State::Asked(Box::new(decision)),
        });
    }

    /// Carries out what was confirmed, if that has not been begun; what becomes of it. None if no such question is known.
    pub(crate) fn answer<F>(
        &self,
        token: &str,
        intent: &Intent,
        carry_out: impl FnOnce(Decision) -> F,
    ) -> Option<Answer>
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let mut entries = self.entries();
        let is_it = |entry: &&mut Entry| entry.token == token && entry.intent == *intent;
        let entry = entries.iter_mut().find(is_it)?;
        let decision = match &entry.state {
            State::Answered(answer) => return Some(answer.clone()),
            State::Asked(decision) => Decision::clone(decision),
        };
        let task = tokio::spawn(carry_out(decision));
        let answer = async { Arc::new(task.await.unwrap_or_else(|_| interrupted())) };
        let answer = answer.boxed().shared();
        entry.state = State::Answered(answer.clone());
        Some(answer)
    }

    /// What was done after this confirmation, in a sentence.
    pub(crate) fn said(&self, token: &str) -> Option<String> {
        let entries = self.entries();
        let entry = entries.iter().find(|entry| entry.token == token)?;
        let State::Answered(answer) = &entry.state else {
            return None;
        };
        match &**answer.peek()? {
            Outcome::Done { says, to: _ } => Some(says.clone()),
            Outcome::Failed { .. } => None,
        }
    }

    fn entries(&self) -> MutexGuard<'_, VecDeque<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn interrupted() -> Outcome {
    Outcome::Failed {
        code: StatusCode::INTERNAL_SERVER_ERROR,
        text: "the command failed while it wrote; it may have been written".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use operon_cli_model::{Kind, Object, Verb};
    use serde_json::json;

    use super::*;
    use crate::intent::{Ask, tests::intent};

    fn decision() -> Decision {
        let job = json!({"metadata": {"name": "web"}, "spec": {"action": "Restart"}});
        let job = Object::parse(Kind::OperationJob, job).expect("a job");
        Decision::of(&job, Verb::Pause).expect("an effect")
    }

    fn done() -> Outcome {
        Outcome::Done {
            says: "paused".to_owned(),
            to: "/".to_owned(),
        }
    }

    #[tokio::test]
    async fn an_answer_is_carried_out_once_and_all_who_send_it_get_its_result() {
        let (ledger, written) = (Ledger::default(), Arc::new(AtomicUsize::new(0)));
        ledger.ask("t".to_owned(), intent(Ask::Pause), decision());
        assert_eq!(ledger.said("t"), None);
        let send = || {
            let written = Arc::clone(&written);
            ledger.answer("t", &intent(Ask::Pause), |_| async move {
                tokio::task::yield_now().await;
                written.fetch_add(1, Ordering::SeqCst);
                done()
            })
        };
        // A browser that closed the connection, and two that wait.
        drop(send().expect("a question"));
        let (one, other) = (send().expect("a question"), send().expect("a question"));
        assert_eq!(*one.await, done());
        assert_eq!(*other.await, done());
        assert_eq!(*send().expect("a question").await, done());
        assert_eq!(written.load(Ordering::SeqCst), 1);
        assert_eq!(ledger.said("t"), Some("paused".to_owned()));
    }

    #[tokio::test]
    async fn nothing_is_carried_out_that_was_not_asked_or_was_asked_long_ago() {
        let ledger = Ledger::default();
        ledger.ask("t".to_owned(), intent(Ask::Pause), decision());
        let answer = |token: &str, ask| {
            let carry_out = |_| async { done() };
            ledger.answer(token, &intent(ask), carry_out).is_some()
        };
        assert!(!answer("", Ask::Pause));
        assert!(!answer("u", Ask::Pause));
        assert!(!answer("t", Ask::Cancel));
        for number in 1..KEPT {
            ledger.ask(number.to_string(), intent(Ask::Pause), decision());
        }
        assert!(answer("t", Ask::Pause));
        ledger.ask("last".to_owned(), intent(Ask::Pause), decision());
        assert!(!answer("t", Ask::Pause));
        assert!(answer("last", Ask::Pause));
    }
}
