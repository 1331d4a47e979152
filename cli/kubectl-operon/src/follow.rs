//! Follows an object until it has finished, or until the user ends it.

use std::{process::ExitCode, time::Duration};

use anyhow::bail;
use futures::{StreamExt as _, pin_mut};
use k8s_openapi::jiff::Timestamp;
use kube::runtime::{WatchStreamExt as _, watcher};
use operon_cli_model::{Kind, Object, Outcome, Related, Tree, changes, draw, printable};
use tokio::time::{Instant, MissedTickBehavior, timeout_at};

use crate::{
    cluster::{Cluster, parsed},
    failure::{Failure, explained},
    terminal::{Output, Reader, print},
};

/// How often a picture is drawn at most.
const FRAME: Duration = Duration::from_millis(500);

/// How often Jobs and pods are read again; the object itself is watched.
const REFRESH: Duration = Duration::from_secs(2);

/// The exit codes of `--wait`, beside 1 for a command that failed.
const OBJECT_FAILED: u8 = 2;
const TIMED_OUT_OR_DELETED: u8 = 3;

/// Looks at an object while it changes.
pub(crate) struct Follow<'a> {
    cluster: &'a Cluster,
    kind: Kind,
    /// Whether the end of the object ends the command.
    ends: bool,
    deadline: Option<Instant>,
    /// Whether the user knows that the watch is interrupted.
    is_lost: bool,
    view: View,
}

impl<'a> Follow<'a> {
    pub(crate) fn new(
        cluster: &'a Cluster,
        kind: Kind,
        ends: bool,
        deadline: Option<Instant>,
    ) -> Self {
        Self {
            cluster,
            kind,
            ends,
            deadline,
            is_lost: false,
            view: View {
                output: Output::stdout(),
                shown: None,
            },
        }
    }

    pub(crate) async fn run(mut self, mut object: Object, mut related: Related) -> anyhow::Result<ExitCode> {
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
                        object = parsed(self.kind, found)?;
                        has_changed = true;
                        if self.ends && object.outcome() != Outcome::Unfinished {
                            related = self.cluster.related(&object).await;
                            self.view.show(&Tree::of(&object, &related))?;
                            return Ok(exit_code(object.outcome()));
                        }
                    }
                    // Deleted, or another object of its name.
                    Some(Ok(_)) => {
                        let text = format!("{} {} was deleted\n", self.kind.name(), object.name());
                        print(&text)?;
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
                    if self.view.show(&Tree::of(&object, &related))? == Reader::Gone && !self.ends {
                        return Ok(ExitCode::SUCCESS);
                    }
                    if self.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                        eprintln!("error: timed out: {} is {}", object.name(), object.state());
                        return Ok(ExitCode::from(TIMED_OUT_OR_DELETED));
                    }
                }
            }
        }
    }

    /// Reads what the tree needs; none if the time is over before.
    async fn related(&self, object: &Object) -> Option<Related> {
        let read = self.cluster.related(object);
        match self.deadline {
            Some(deadline) => timeout_at(deadline, read).await.ok(),
            None => Some(read.await),
        }
    }

    /// A watch that broke is started again by the watcher. A right or credentials that are missing end the command.
    fn lost(&mut self, error: watcher::Error, object: &Object) -> anyhow::Result<()> {
        let (watcher::Error::InitialListFailed(cause) | watcher::Error::WatchStartFailed(cause)) =
            error
        else {
            return Ok(());
        };
        let failure = Failure::from(cause);
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
            let text = format!("the watch is interrupted and is tried again: {failure}");
            eprintln!("{}", printable(&text));
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
        if self.output.is_terminal {
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
