//! When values are checked: one child process at a time, and parameters once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use operon_compiled_code::ChildProgram;
use operon_core::{
    action::LoadError,
    shares::{Claim, Shares},
};
use serde_json::Value;

use super::{Checked, check};

/// Checks values in child processes, one at a time, and remembers the outcomes of parameters: jobs are reconciled
/// many times.
pub(crate) struct Checker {
    children: Arc<Children>,
    /// The checks of parameters, finished or not.
    known: Mutex<HashMap<String, Outcome>>,
}

/// The children of one plugin.
struct Children {
    plugin: String,
    /// The program that checks.
    program: ChildProgram,
    /// One child at a time, of all plugins together.
    places: Shares,
}

/// How many parameters a checker remembers, and how many it checks or has in its queue.
const KNOWN: usize = 64;

/// The outcome of a check, which goes on when nothing waits for it any more.
type Outcome = Shared<BoxFuture<'static, Result<(), LoadError>>>;

impl Checker {
    /// A checker of this plugin that starts this program, whenever there is a place for it.
    pub(crate) fn new(plugin: &str, program: ChildProgram, places: Shares) -> Self {
        Self {
            children: Arc::new(Children {
                plugin: plugin.to_owned(),
                program,
                places,
            }),
            known: Mutex::default(),
        }
    }

    /// Checks settings.
    ///
    /// Errors: those of [`check`].
    pub(crate) async fn check_settings(
        &self,
        schema: &Value,
        value: &Value,
    ) -> Result<(), LoadError> {
        let children = &self.children;
        children.check(Checked::Settings, schema, value).await
    }

    /// Checks parameters, unless the outcome is known. A check that has begun goes on when this is dropped, and the
    /// next call gets its outcome.
    ///
    /// Errors: those of [`check`], and a temporary one if too many checks wait.
    pub(crate) async fn check_parameters(
        &self,
        schema: &Value,
        value: &Value,
    ) -> Result<(), LoadError> {
        if accepts_all(schema) {
            return Ok(());
        }
        self.outcome(schema, value)?.await
    }

    fn outcome(&self, schema: &Value, value: &Value) -> Result<Outcome, LoadError> {
        let text = value.to_string();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let is_temporary = |outcome: &Outcome| match outcome.peek() {
            Some(Err(error)) => error.transient,
            Some(Ok(())) | None => false,
        };
        if let Some(outcome) = known.get(&text).filter(|one| !is_temporary(one)) {
            return Ok(outcome.clone());
        }
        if known.len() >= KNOWN {
            known.retain(|_, outcome| outcome.peek().is_none());
        }
        if known.len() >= KNOWN {
            return Err(unfinished("too many other checks have not finished"));
        }
        let outcome = self.begin(schema.clone(), value.clone());
        known.insert(text, outcome.clone());
        Ok(outcome)
    }

    /// Begins a check of parameters as a task of its own.
    fn begin(&self, schema: Value, value: Value) -> Outcome {
        let children = Arc::clone(&self.children);
        let check = tokio::spawn(async move {
            let checked = Checked::Parameters;
            children.check(checked, &schema, &value).await
        });
        let ended = check.map(|ended| ended.unwrap_or_else(|_| Err(unfinished("it was stopped"))));
        ended.boxed().shared()
    }
}

fn unfinished(why: &str) -> LoadError {
    LoadError {
        reason: Checked::Parameters.failed(),
        message: format!("the check of spec.parameters has no outcome: {why}"),
        transient: true,
    }
}

impl Children {
    async fn check(
        &self,
        checked: Checked,
        schema: &Value,
        value: &Value,
    ) -> Result<(), LoadError> {
        if accepts_all(schema) {
            return Ok(());
        }
        let part = checked.failed();
        let _place = self.places.take(&self.plugin, part, Claim::ONE).await;
        check(&self.program, checked, schema, value).await
    }
}

fn accepts_all(schema: &Value) -> bool {
    schema.as_object().is_some_and(serde_json::Map::is_empty)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    /// A program that counts how often it runs, takes a while, and refuses what it is given.
    struct Slow(std::path::PathBuf);

    impl Slow {
        fn new(name: &str, status: u8) -> Self {
            use std::os::unix::fs::PermissionsExt as _;

            let name = format!("operon-check-{name}-{}", std::process::id());
            let folder = std::env::temp_dir().join(name);
            std::fs::create_dir_all(&folder).expect("a folder");
            let script = folder.join("check");
            let text = format!(
                "#!/bin/sh\ncat >/dev/null\necho run >>{}\nsleep 0.3\necho no >&2\nexit {status}\n",
                folder.join("runs").display()
            );
            std::fs::write(&script, text).expect("a script");
            let mode = std::fs::Permissions::from_mode(0o700);
            std::fs::set_permissions(&script, mode).expect("it can be run");
            Self(folder)
        }

        fn checker(&self) -> Checker {
            let program = ChildProgram::at(self.0.join("check"));
            Checker::new("act", program, Shares::new(1))
        }

        fn runs(&self) -> usize {
            let runs = std::fs::read_to_string(self.0.join("runs"));
            runs.unwrap_or_default().lines().count()
        }
    }

    impl Drop for Slow {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    /// The status with which a check refuses a value.
    const REFUSED: u8 = operon_compiled_code::REFUSED;

    #[tokio::test]
    async fn parameters_that_were_refused_are_not_checked_again() {
        let program = Slow::new("refused", REFUSED);
        let checker = program.checker();
        for _ in 0..3 {
            let refused = checker
                .check_parameters(&json!({"type": "object"}), &json!({"grace": 3}))
                .await
                .expect_err("it is refused");
            assert_eq!(
                (refused.reason, refused.transient),
                ("BadParameters", false)
            );
        }
        assert_eq!(program.runs(), 1);
    }

    #[tokio::test]
    async fn a_check_that_failed_for_a_while_is_tried_again() {
        let program = Slow::new("failed", 1);
        let checker = program.checker();
        for _ in 0..2 {
            let failed = checker
                .check_parameters(&json!({"type": "object"}), &json!({}))
                .await
                .expect_err("it fails");
            assert!(failed.transient, "{failed:?}");
        }
        assert_eq!(program.runs(), 2);
    }

    #[tokio::test]
    async fn a_check_that_is_not_waited_for_any_longer_goes_on() {
        let program = Slow::new("left", REFUSED);
        let checker = program.checker();
        let (schema, value) = (json!({"type": "object"}), json!({"grace": 3}));
        let check = checker.check_parameters(&schema, &value);
        let waited = tokio::time::timeout(Duration::from_millis(50), check).await;
        assert!(waited.is_err(), "it takes longer");
        let outcome = checker.check_parameters(&schema, &value).await;
        assert_eq!(outcome.map_err(|error| error.reason), Err("BadParameters"));
        assert_eq!(program.runs(), 1);
    }

    #[tokio::test]
    async fn a_checker_has_a_queue_of_limited_length() {
        let program = Slow::new("queue", REFUSED);
        let checker = program.checker();
        let schema = json!({"type": "object"});
        for number in 0..KNOWN {
            let outcome = checker.outcome(&schema, &json!({"number": number}));
            assert!(outcome.is_ok(), "{number}");
        }
        let full = checker.check_parameters(&schema, &json!({})).await;
        let full = full.expect_err("there is no room");
        assert_eq!(
            (full.reason, full.transient),
            ("ParametersCheckFailed", true)
        );
    }
}
