//! `__complete`: what the last word of a command line can be. kubectl calls `kubectl_complete-operon`, which calls this
//! with the words after `kubectl operon`, and reads a line for each completion and a last line with a directive of cobra.

mod line;

use std::{process::ExitCode, time::Duration};

use clap::{CommandFactory as _, Parser as _};
use kube::config::Kubeconfig;
use operon_api::owner_kind;
use operon_cli_cluster::Cluster;
use operon_cli_model::{Kind, Selectable, selectable};

use crate::{
    Arguments,
    flags::Flags,
    listing::{Listed, actions, names},
    terminal::{complain, print},
};

use self::line::{Line, Wanted};

/// A user who presses the key waits no longer for the cluster.
const LIMIT: Duration = Duration::from_secs(2);

/// The directives of cobra: numbers that are added.
const NO_SPACE: u8 = 2;
const NO_FILES: u8 = 4;

/// The flags alone, as the words before the last one have them.
#[derive(clap::Parser)]
struct Global {
    #[command(flatten)]
    flags: Flags,
}

/// Completions: each a word, and a line that explains it.
struct Found {
    words: Vec<(String, String)>,
    /// Whether files are completions, if there is no other.
    or_files: bool,
}

impl Found {
    fn of(words: impl IntoIterator<Item = String>) -> Self {
        Self {
            words: words
                .into_iter()
                .map(|word| (word, String::new()))
                .collect(),
            or_files: false,
        }
    }

    fn files() -> Self {
        Self {
            words: Vec::new(),
            or_files: true,
        }
    }
}

/// Prints the completions. What cannot be read is an error on standard error, which shells do not show, and no completion.
pub(crate) async fn run(words: &[String]) -> anyhow::Result<ExitCode> {
    let mut root = Arguments::command();
    root.build();
    let begun = words.last().map_or("", String::as_str);
    let line = Line::read(&root, words);
    let begun = match &line.wanted {
        Wanted::Value { begun, .. } => begun.as_str(),
        Wanted::Command | Wanted::Flag { .. } | Wanted::Word { .. } => begun,
    };
    let found = found(&root, &line).await.unwrap_or_else(|error| {
        complain(&format!("error: {error:#}"));
        Found::of([])
    });
    let fits = |(word, _): &&(String, String)| word.starts_with(begun);
    let fitting: Vec<_> = found.words.iter().filter(fits).collect();
    let line = |(word, help): &&(String, String)| match help.as_str() {
        "" => format!("{word}\n"),
        help => format!("{word}\t{help}\n"),
    };
    let text: String = fitting.iter().map(line).collect();
    let is_open = |(word, _): &&(String, String)| word.ends_with('/');
    let mut directive = if found.or_files { 0 } else { NO_FILES };
    if fitting.iter().any(is_open) {
        directive += NO_SPACE;
    }
    print(&format!("{text}:{directive}\n"))?;
    Ok(ExitCode::SUCCESS)
}

async fn found(root: &clap::Command, line: &Line) -> anyhow::Result<Found> {
    match &line.wanted {
        Wanted::Command => {
            let commands = root
                .get_subcommands()
                .filter(|command| !command.is_hide_set());
            let words = commands.map(|command| {
                (
                    command.get_name().to_owned(),
                    first_line(command.get_about()),
                )
            });
            Ok(Found {
                words: words.collect(),
                or_files: false,
            })
        }
        Wanted::Flag { command } => {
            let command = root.find_subcommand(command).unwrap_or(root);
            let flags = command.get_arguments().filter(|flag| !flag.is_hide_set());
            let words = flags.filter_map(|flag| {
                Some((
                    format!("--{}", flag.get_long()?),
                    first_line(flag.get_help()),
                ))
            });
            Ok(Found {
                words: words.collect(),
                or_files: false,
            })
        }
        Wanted::Value { id, .. } => value(root, id, &line.global).await,
        Wanted::Word {
            command,
            before,
            begun,
        } => word(root, command, before, begun, &line.global).await,
    }
}

fn first_line(help: Option<&clap::builder::StyledStr>) -> String {
    let help = help.map(ToString::to_string).unwrap_or_default();
    help.lines().next().unwrap_or_default().to_owned()
}

/// Values of a flag: those that clap knows, or names.
async fn value(root: &clap::Command, id: &str, global: &[String]) -> anyhow::Result<Found> {
    let commands = std::iter::once(root).chain(root.get_subcommands());
    let flags = commands.flat_map(clap::Command::get_arguments);
    let mut values = flags
        .filter(|flag| flag.get_id() == id)
        .map(clap::Arg::get_possible_values);
    let known = values.next().unwrap_or_default();
    if !known.is_empty() {
        let words = known
            .iter()
            .map(|value| (value.get_name().to_owned(), first_line(value.get_help())));
        return Ok(Found {
            words: words.collect(),
            or_files: false,
        });
    }
    match id {
        "kubeconfig" | "file" => Ok(Found::files()),
        "context" => {
            let given = Global::try_parse_from(
                std::iter::once("").chain(global.iter().map(String::as_str)),
            )?;
            let read = match given.flags.kubeconfig() {
                Some(file) => Kubeconfig::read_from(file)?,
                None => Kubeconfig::read()?,
            };
            Ok(Found::of(
                read.contexts.into_iter().map(|context| context.name),
            ))
        }
        "namespace" => listed(global, Listed::Namespaces, "").await,
        "node" => listed(global, Listed::Nodes, "").await,
        _ => Ok(Found::of([])),
    }
}

/// The next word of a command.
async fn word(
    root: &clap::Command,
    command: &str,
    before: &[String],
    begun: &str,
    global: &[String],
) -> anyhow::Result<Found> {
    let mut arguments = root
        .find_subcommand(command)
        .into_iter()
        .flat_map(clap::Command::get_positionals);
    if command == "run" {
        return run_word(before, begun, global).await;
    }
    if command == "help" {
        let commands = root.get_subcommands().map(clap::Command::get_name);
        return Ok(Found::of(commands.map(str::to_owned)));
    }
    if !arguments.any(|argument| argument.get_id() == "object") {
        return Ok(Found::files());
    }
    let (kind, prefix) = match (before, begun.split_once('/')) {
        ([], None) => {
            let kinds = kinds_of(command);
            return Ok(Found::of(
                kinds.iter().map(|kind| format!("{}/", kind.word())),
            ));
        }
        ([], Some((kind, _))) => (kind, format!("{kind}/")),
        ([kind], None) if !kind.contains('/') => (kind.as_str(), String::new()),
        _ => return Ok(Found::of([])),
    };
    listed(global, Listed::Ours(Kind::parse(kind)?), &prefix).await
}

/// The action, and then pods and what has pods.
async fn run_word(before: &[String], begun: &str, global: &[String]) -> anyhow::Result<Found> {
    if before.is_empty() {
        let cluster = connect(global);
        let actions = async { Ok::<_, anyhow::Error>(actions(&cluster.await?).await?) };
        return Ok(Found::of(tokio::time::timeout(LIMIT, actions).await??));
    }
    if let Some((word, _)) = begun.split_once('/') {
        let prefix = format!("{word}/");
        return match selectable(word) {
            None => Ok(Found::of([])),
            Some(what) => listed(global, Listed::Selectable(what), &prefix).await,
        };
    }
    let mut found = listed(global, Listed::Selectable(Selectable::Pod), "").await?;
    let owners = owner_kind::ALL.map(|kind| (format!("{}/", kind.word), String::new()));
    found.words.extend(owners);
    Ok(found)
}

/// The kinds that a command is about.
fn kinds_of(command: &str) -> Vec<Kind> {
    match command {
        "promote" => vec![Kind::OperationJob, Kind::CollaSet],
        "rerun" => vec![Kind::ReactiveJob],
        "graph" => vec![Kind::JobFlow],
        "retry" | "cancel" => vec![Kind::OperationJob, Kind::JobFlow, Kind::DaemonJob],
        _ => Kind::ALL.to_vec(),
    }
}

async fn listed(global: &[String], what: Listed, prefix: &str) -> anyhow::Result<Found> {
    let read = async { Ok::<_, anyhow::Error>(names(&connect(global).await?, what).await?) };
    let names = tokio::time::timeout(LIMIT, read).await??;
    Ok(Found::of(
        names.into_iter().map(|name| format!("{prefix}{name}")),
    ))
}

async fn connect(global: &[String]) -> anyhow::Result<Cluster> {
    let words = std::iter::once("").chain(global.iter().map(String::as_str));
    Global::try_parse_from(words)?.flags.connect().await
}
