//! The rounds of a test: the calls for each target that has not finished, as one reconcile of the host makes them.

use std::{fmt::Write as _, sync::Arc};

use anyhow::ensure;
use operon_core::action::{ActionError, Failure, Operation, OpsProgress, ProgressReport};
use serde_json::json;

use super::{
    changes::{self, Paint},
    shown::{failed, shown},
    subject::{State, Subject},
    world::World,
};

/// Whether there is another round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Course {
    Goes,
    Ended,
}

/// A job in a world, whose calls are shown.
pub(super) struct Script<'a>(Subject<'a>);

impl<'a> Script<'a> {
    pub(super) fn new(subject: Subject<'a>) -> Self {
        Self(subject)
    }

    /// What the answer of `setup` declares, in short.
    pub(super) fn setup(&self, color: bool) -> String {
        let watches = &self.0.registration().watches;
        let kinds = watches
            .iter()
            .map(|watch| format!("{} {}", watch.api_version, watch.kind));
        let kinds: Vec<_> = kinds.collect();
        let reads = if kinds.is_empty() {
            "reads only the pods of its targets".to_owned()
        } else {
            format!("reads {}", kinds.join(", "))
        };
        format!("{}  {reads}\n", Paint(color).strong("setup"))
    }

    /// One round of all targets that have not finished. They see the world as it is at its beginning.
    pub(super) async fn round(&mut self, number: u32, color: bool) -> (String, Course) {
        let paint = Paint(color);
        let mut text = format!("\n{}\n", paint.strong(&format!("round {number}")));
        let writes = self.0.world.writes();
        let before = self.shown();
        let seen = self.0.look();
        for place in 0..self.0.targets.len() {
            text.push_str(&self.turn(place, &seen, paint).await);
        }
        let is_over = |state: &State| state.progress != OpsProgress::Processing;
        if self.0.targets.iter().all(is_over) {
            return (text, Course::Ended);
        }
        let waits = self
            .0
            .targets
            .iter()
            .filter_map(|state| state.recheck_after);
        let wait = waits.min();
        self.0.world.pass(wait.unwrap_or_default());
        let changed = self.0.world.writes() != writes || self.shown() != before;
        if changed || wait.is_some() {
            return (text, Course::Goes);
        }
        text.push_str("\nNothing changes any more.\n");
        (text, Course::Ended)
    }

    /// What the status would say, and what the pods are.
    fn shown(&self) -> Vec<String> {
        let targets = self.0.targets.iter().map(|state| {
            let pod = self.0.world.pod(&state.name);
            format!("{:?} {:?} {:?}", state.extra_info, state.failure, pod)
        });
        targets.collect()
    }

    /// The calls for one target.
    async fn turn(&mut self, place: usize, seen: &Arc<World>, paint: Paint) -> String {
        let Some(state) = self.0.targets.get(place) else {
            return String::new();
        };
        if state.progress != OpsProgress::Processing {
            return String::new();
        }
        let mut text = String::new();
        let answer = self.0.operate(place, seen).await;
        text.push_str(&self.performed("operate-target", place, answer, paint));
        if self.is_processing(place) && !self.has_acted(place) {
            let report = self.0.progress(place, seen).await;
            text.push_str(&self.reported(place, report, paint));
        }
        if self.is_failed(place) {
            let seen = Arc::new(self.0.world.clone());
            let answer = self.0.release(place, &seen).await;
            text.push_str(&self.performed("release-target", place, answer, paint));
        }
        text
    }

    fn is_processing(&self, place: usize) -> bool {
        let state = self.0.targets.get(place);
        state.is_some_and(|state| state.progress == OpsProgress::Processing)
    }

    fn has_acted(&self, place: usize) -> bool {
        let state = self.0.targets.get(place);
        state.is_some_and(|state| state.has_acted)
    }

    fn is_failed(&self, place: usize) -> bool {
        let state = self.0.targets.get(place);
        state.is_some_and(|state| state.progress == OpsProgress::Failed)
    }

    /// An operation: its effects are performed, and shown.
    fn performed(
        &mut self,
        function: &str,
        place: usize,
        answer: Result<Operation, ActionError>,
        paint: Paint,
    ) -> String {
        let before = self.0.world.clone();
        let target = self.0.target(place, &before);
        let is_release = function == "release-target";
        let Some(state) = self.0.targets.get_mut(place) else {
            return String::new();
        };
        let head = format!("  {}  {function}", paint.strong(&state.name));
        let operation = match answer {
            Ok(operation) => operation,
            Err(error) => {
                let text = failed(&error, paint);
                if !is_release {
                    state.refuse(error);
                }
                return format!("{head}: {text}\n");
            }
        };
        let result = self.0.world.perform(&operation, &target);
        let mut text = match operation.effects.len() {
            0 => format!("{head}: no effect\n"),
            1 => format!("{head}: 1 effect\n"),
            more => format!("{head}: {more} effects\n"),
        };
        for effect in &operation.effects {
            text.push_str(&shown(effect, &before, &self.0.world, paint));
        }
        match result {
            Ok(is_changed) => {
                state.extra_info = operation.extra_info;
                if !is_release {
                    state.acted(is_changed);
                }
            }
            Err(failure) => {
                state.has_acted = false;
                let Failure { reason, message } = &failure;
                let refused = paint.bad(&format!("refused: {reason}: {message}"));
                // Writing to a String can't fail.
                let _ = writeln!(text, "    {refused}");
                state.failure = Some(failure);
            }
        }
        text
    }

    fn reported(
        &mut self,
        place: usize,
        report: Result<ProgressReport, ActionError>,
        paint: Paint,
    ) -> String {
        let Some(state) = self.0.targets.get_mut(place) else {
            return String::new();
        };
        let head = format!("  {}  get-ops-progress", paint.strong(&state.name));
        let report = match report {
            Ok(report) => report,
            Err(error) => {
                let text = failed(&error, paint);
                state.refuse(error);
                return format!("{head}: {text}\n");
            }
        };
        let ProgressReport {
            progress,
            failure,
            extra_info,
            recheck_after,
        } = report;
        let word = match progress {
            OpsProgress::Processing => "Processing".to_owned(),
            OpsProgress::Failed => paint.bad("Failed"),
            OpsProgress::Succeeded => paint.good("Succeeded"),
        };
        let mut text = format!("{head}: {word}");
        // Writing to a String can't fail.
        if let Some(Failure { reason, message }) = &failure {
            let _ = write!(text, ": {reason}: {message}");
        }
        if let Some(after) = recheck_after {
            let _ = write!(text, " (again after {after:?})");
        }
        text.push('\n');
        for line in changes::lines(
            Some(&json!(state.extra_info)),
            Some(&json!(extra_info)),
            paint,
        ) {
            let _ = writeln!(text, "    extra-info {line}");
        }
        state.progress = progress;
        state.failure = failure;
        state.extra_info = extra_info;
        state.recheck_after = recheck_after;
        text
    }

    /// Succeeds if every target has.
    ///
    /// # Errors
    /// How many have not, and the first of them.
    pub(super) fn verdict(&self) -> anyhow::Result<()> {
        let open = |state: &&State| state.progress != OpsProgress::Succeeded;
        let open: Vec<_> = self.0.targets.iter().filter(open).collect();
        let first = open.first().map_or(String::new(), |state| {
            let failed = state.progress == OpsProgress::Failed;
            let how = if failed {
                "has failed"
            } else {
                "has not finished"
            };
            format!("target {:?} {how}", state.name)
        });
        ensure!(
            open.is_empty(),
            "{} of {} targets did not succeed: {first}",
            open.len(),
            self.0.targets.len()
        );
        Ok(())
    }
}
