//! `kubectl operon`: reads its arguments, the cluster and the terminal. What is shown and written is decided by
//! `operon-cli-model`.

mod act;
mod cluster;
mod failure;
mod follow;
mod get;
mod name;
mod status;
mod terminal;
mod why;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{act::Do, cluster::Flags};

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
    /// Let more targets of an OperationJob start: one more, or as the flags say
    Promote(act::Promote),
    /// Start nothing further; what the object does with running parts is in the answer
    Pause(name::Named),
    /// Go on after a pause
    Resume(name::Named),
    /// Run again what failed; for an OperationJob: create a new job of its failed targets
    Retry(name::Named),
    /// Run the Job of a ReactiveJob again
    Rerun(name::Named),
    /// Delete an OperationJob, JobFlow or DaemonJob before it has finished
    Cancel(act::Cancel),
}

/// The command failed. 2 and 3 say how the object ended, so wrong arguments do not end with 2, as clap's do.
const FAILED: u8 = 1;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let is_failure = error.use_stderr();
            // A closed pipe is no reason to fail differently.
            let _ = error.print();
            return if is_failure {
                ExitCode::from(FAILED)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(run(arguments)),
        Err(error) => Err(anyhow::Error::new(error).context("failed to start the runtime")),
    };
    result.unwrap_or_else(|error| {
        eprintln!(
            "error: {}",
            operon_cli_model::printable(&format!("{error:#}"))
        );
        ExitCode::from(FAILED)
    })
}

async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let flags = arguments.flags;
    match arguments.command {
        Command::Get(arguments) => get::run(&flags, arguments).await,
        Command::Status(arguments) => status::run(&flags, &arguments).await,
        Command::Why(arguments) => why::run(&flags, &arguments).await,
        Command::Promote(arguments) => {
            let promotion = arguments.promotion();
            act::run(&flags, &arguments.object, Do::Promote(promotion)).await
        }
        Command::Pause(object) => act::run(&flags, &object, Do::Pause).await,
        Command::Resume(object) => act::run(&flags, &object, Do::Resume).await,
        Command::Retry(object) => act::run(&flags, &object, Do::Retry).await,
        Command::Rerun(object) => act::run(&flags, &object, Do::Rerun).await,
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
