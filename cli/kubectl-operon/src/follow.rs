//! Follows an object until it has finished, or until the user ends it.

use std::{process::ExitCode, time::Duration};

use anyhow::bail;
use futures::{StreamExt as _, pin_mut};
use k8s_openapi::jiff::Timestamp;
use kube::runtime::{WatchStreamExt as _, watcher};
use operon_cli_cluster::{Cluster, Failure, explained, parsed};
use operon_cli_model::{Kind, Object, Outcome, Related, Tree, changes, draw};
use tokio::time::{Instant, MissedTickBehavior, timeout_at};

use crate::terminal::{Output, Reader, complain, print, say};

/// How often a picture is drawn at most.
const FRAME: Duration = Duration::from_millis(500);

/// How often Jobs and pods are read again; the object itself is watched.
const REFRESH: Duration = Duration::from_secs(2);

/// The exit codes of `--wait`, beside 1 for a command that failed.
const OBJECT_FAILED: u8 = 2;
const TIMED_OUT_OR_DELETED: u8 = 3;

/// The group of the flags that wait, with which `--timeout` can be.
pub(crate) const WAITS: &str = "waits";

#[derive(Debug, Default, clap::Args)]
pub(crate) struct Wait {
    /// Wait until the object has finished. Exit codes: 0 succeeded, 1 the command failed, 2 the object failed, 3 timed out or deleted
    #[arg(long, group = WAITS)]
    wait: bool,
    /// How long to wait: 90s, 10m, 2h [default: without end]
    #[arg(long, value_parser = duration, requires = WAITS, value_name = "TIME")]
    timeout: Option<Duration>,
}

impl Wait {
    /// What ends the wait, which begins now.
    pub(crate) fn end(&self) -> End {
        let Self { wait, timeout } = self;
        match (wait, timeout) {
            (false, _) => End::User,
            (true, None) => End::Object(None),
            (true, Some(timeout)) => End::Object(Some(Instant::now() + *timeout)),
        }
    }

    /// The same for a command that waits in any case: within this limit, unless the user says otherwise.
    pub(crate) fn end_within(&self, limit: Duration) -> End {
        End::Object(Some(Instant::now() + self.timeout.unwrap_or(limit)))
    }
}

/// What ends the command that follows an object.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    /// The user.
    User,
    /// The end of the object, or this moment.
    Object(Option<Instant>),
}

impl End {
    /// Whether the command waits for the end of the object.
    pub(crate) fn is_awaited(self) -> bool {
        matches!(self, Self::Object(_))
    }

    fn deadline(self) -> Option<Instant> {
        match self {
            Self::User => None,
            Self::Object(deadline) => deadline,
        }
    }
}

/// Looks at an object while it changes.
pub(crate) struct Follow<'a> {
    cluster: &'a Cluster,
    kind: Kind,
    end: End,
    /// Whether the user knows that the watch is interrupted.
    is_lost: bool,
    view: View,
}

impl<'a> Follow<'a> {
    pub(crate) fn new(cluster: &'a Cluster, kind: Kind, end: End) -> Self {
        Self {
            cluster,
            kind,
            end,
            is_lost: false,
            view: View {
                output: Output::stdout(),
                shown: None,
            },
        }
    }

    pub(crate) async fn run(mut self, mut object: Object) -> anyhow::Result<ExitCode> {
        let mut related = self.related(&object).await.unwrap_or_default();
        // An expired watch (410) is listed again by the watcher itself, and other failures wait longer each time.
        let watched = watcher::watch_object(self.cluster.api(self.kind), object.name());
        let watched = watched.default_backoff();
        pin_mut!(watched);
        let uid = object.metadata().uid.clone();
        let mut frames = tokio::time::interval(FRAME);
        frames.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut has_changed, mut read) = (false, Instant::now());
        loop {
            tokio::select! {
                seen = watched.next() => match seen {
                    Some(Ok(Some(found))) if found.metadata.uid == uid => {
                        self.is_lost = false;
                        object = parsed(self.kind, &found)?;
                        has_changed = true;
                        if self.end.is_awaited() && object.ending() != Outcome::Unfinished {
                            related = self.related(&object).await.unwrap_or(related);
                            self.view.show(&Tree::of(&object, &related))?;
                            return Ok(exit_code(object.ending()));
                        }
                    }
                    // Deleted, or another object of its name.
                    Some(Ok(_)) => {
                        say(&format!("{} {} was deleted", self.kind.name(), object.name()))?;
                        return Ok(ExitCode::from(TIMED_OUT_OR_DELETED));
                    }
                    Some(Err(error)) => self.lost(error, &object)?,
                    None => bail!("the watch of {} ended", object.name()),
                },
                _ = frames.tick() => {
                    if has_changed && read.elapsed() >= FRAME || read.elapsed() >= REFRESH {
                        related = self.related(&object).await.unwrap_or(related);
                        (has_changed, read) = (false, Instant::now());
                    }
                    if self.view.show(&Tree::of(&object, &related))? == Reader::Gone && !self.end.is_awaited() {
                        return Ok(ExitCode::SUCCESS);
                    }
                    if self.end.deadline().is_some_and(|deadline| deadline <= Instant::now()) {
                        let ending = object.ending();
                        if ending == Outcome::Unfinished {
                            complain(&format!("error: timed out: {} is {}", object.called(), object.state()));
                        }
                        return Ok(exit_code(ending));
                    }
                }
            }
        }
    }

    /// Reads what the tree needs; none if the time is up before.
    async fn related(&self, object: &Object) -> Option<Related> {
        let read = self.cluster.related(object);
        match self.end.deadline() {
            Some(deadline) => timeout_at(deadline, read).await.ok(),
            None => Some(read.await),
        }
    }

    /// A watch that broke is started again by the watcher. A right or credentials that are missing end the command.
    fn lost(&mut self, error: watcher::Error, object: &Object) -> anyhow::Result<()> {
        let Some(failure) = Failure::of_watch(error) else {
            return Ok(());
        };
        if matches!(
            failure,
            Failure::Refused {
                code: 401 | 403 | 404,
                ..
            }
        ) {
            return Err(explained(failure, "watch", object.name(), self.kind));
        }
        if !self.is_lost {
            complain(&format!(
                "the watch is interrupted and is tried again: {failure}"
            ));
            self.view.output.keep();
        }
        self.is_lost = true;
        Ok(())
    }
}

/// What the user has seen.
struct View {
    output: Output,
    shown: Option<Tree>,
}

impl View {
    fn show(&mut self, tree: &Tree) -> anyhow::Result<Reader> {
        if self.output.draws {
            let picture = draw(tree, Timestamp::now(), self.output.screen_of_picture());
            return self.output.redraw(&picture);
        }
        let lines = changes(self.shown.as_ref(), tree);
        self.shown = Some(tree.clone());
        if lines.is_empty() {
            return Ok(Reader::Reads);
        }
        print(&(lines.join("\n") + "\n"))
    }
}

fn exit_code(outcome: Outcome) -> ExitCode {
    match outcome {
        Outcome::Succeeded => ExitCode::SUCCESS,
        Outcome::Failed => ExitCode::from(OBJECT_FAILED),
        Outcome::Unfinished => ExitCode::from(TIMED_OUT_OR_DELETED),
    }
}

/// `90s`, `10m`, `2h`; a number alone counts seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let units = [("s", 1), ("m", 60), ("h", 3600), ("", 1)];
    let with_unit = |(unit, seconds): (&str, u64)| Some((text.strip_suffix(unit)?, seconds));
    let (number, seconds) = units.into_iter().find_map(with_unit).unwrap_or((text, 1));
    let number: u32 = number
        .parse()
        .map_err(|_| "write a time such as 90s, 10m or 2h".to_owned())?;
    Ok(Duration::from_secs(u64::from(number) * seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_number_with_a_unit() {
        for (text, seconds) in [("90s", 90), ("10m", 600), ("2h", 7200), ("7", 7)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "m", "-1s", "1d", "90ss"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
