//! `kubectl operon`: reads its arguments, the cluster and the terminal. What is shown and written is decided by
//! `operon-cli-model`.

mod act;
mod complete;
mod dashboard;
mod flags;
mod follow;
mod get;
mod graph;
mod listing;
mod man;
mod name;
mod output;
mod run;
mod status;
mod terminal;
mod why;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{act::Do, flags::Flags};

/// Show and steer Operon's objects: OperationJobs, JobFlows, DaemonJobs, ReactiveJobs and CollaSets
///
/// Objects are named as in kubectl: opj/restart-web, or opj restart-web.
#[derive(Debug, Parser)]
#[command(name = "kubectl operon", bin_name = "kubectl operon", version)]
struct Arguments {
    #[command(flatten)]
    flags: Flags,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show an object as a tree: its parts, their Jobs and pods, and what they wait for
    Get(get::Arguments),
    /// List everything that has not finished
    Status(status::Arguments),
    /// Say what an object, or a part of it, waits for, since when, and what to do next
    Why(why::Arguments),
    /// Show everything in a browser, live, and steer it: serves a page on 127.0.0.1 and opens it
    Dashboard(dashboard::Arguments),
    /// Draw the steps of a JobFlow with their dependencies and states, from the cluster or from a file
    Graph(graph::Arguments),
    /// Run an action on pods: create an OperationJob
    Run(run::Arguments),
    /// Let more targets of an OperationJob start, or update more pods of a CollaSet: one more, or as the flags say
    Promote(act::Promote),
    /// Start nothing further; the answer says what happens to what runs
    Pause(name::Named),
    /// Go on after a pause
    Resume(name::Named),
    /// Run again what failed; for an OperationJob: create a new job of its failed targets
    Retry(act::Again),
    /// Run the Job of a ReactiveJob again
    Rerun(act::Again),
    /// Delete an OperationJob, JobFlow or DaemonJob before it has finished
    Cancel(act::Cancel),
}

/// The command failed. 2 and 3 say how the object ended, so wrong arguments do not end with 2, as clap's do.
const FAILED: u8 = 1;

fn main() -> ExitCode {
    // Commands of programs, which take their words as they are.
    let words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    let words: Vec<_> = words.skip(1).collect();
    match words.split_first() {
        Some((word, rest)) if word == "__complete" => return finish(complete::run(rest)),
        Some((word, rest)) if word == "__man" => return finish(async { man::run(rest) }),
        _ => {}
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            if error.use_stderr() {
                // It quotes the arguments.
                let text = error.render().to_string();
                text.lines().for_each(terminal::complain);
                return ExitCode::from(FAILED);
            }
            // Help; a closed pipe is no reason to end differently.
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
    };
    finish(run(arguments))
}

/// Runs a command, and says why it failed.
fn finish(command: impl Future<Output = anyhow::Result<ExitCode>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(command),
        Err(error) => Err(anyhow::Error::new(error).context("failed to start the runtime")),
    };
    result.unwrap_or_else(|error| {
        terminal::complain(&format!("error: {error:#}"));
        ExitCode::from(FAILED)
    })
}

async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let flags = arguments.flags;
    match arguments.command {
        Command::Get(arguments) => get::run(&flags, arguments).await,
        Command::Status(arguments) => status::run(&flags, &arguments).await,
        Command::Why(arguments) => why::run(&flags, &arguments).await,
        Command::Dashboard(arguments) => dashboard::run(&flags, &arguments).await,
        Command::Graph(arguments) => graph::run(&flags, &arguments).await,
        Command::Run(arguments) => run::run(&flags, &arguments).await,
        Command::Promote(arguments) => {
            let promotion = arguments.promotion();
            act::run(&flags, &arguments.object, Do::Promote(promotion)).await
        }
        Command::Pause(object) => act::run(&flags, &object, Do::Pause).await,
        Command::Resume(object) => act::run(&flags, &object, Do::Resume).await,
        Command::Retry(again) => act::run(&flags, &again.object, Do::Retry(again.wait.end())).await,
        Command::Rerun(again) => act::run(&flags, &again.object, Do::Rerun(again.wait.end())).await,
        Command::Cancel(arguments) => {
            act::run(
                &flags,
                &arguments.object,
                Do::Cancel {
                    is_confirmed: arguments.yes,
                },
            )
            .await
        }
    }
}
