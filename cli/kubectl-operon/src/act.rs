//! The verbs: read the object, let the model decide, write.

use std::{
    io::{IsTerminal as _, Write as _},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use k8s_openapi::jiff::Timestamp;
use operon_cli_cluster::{parsed, perform};
use operon_cli_model::{Effect, Promotion, Verb, effect, printable};

use crate::{
    flags::Flags,
    follow::{End, Follow, Wait},
    name::Named,
    terminal::say,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Promote {
    #[command(flatten)]
    pub(crate) object: Named,
    /// How many targets may have started in total, or how many pods of a CollaSet may be updated in total
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = number)]
    to: Option<i32>,
    /// All targets may start, or all pods may be updated
    #[arg(long, conflicts_with = "to")]
    all: bool,
}

/// A number of targets or pods.
fn number(text: &str) -> Result<i32, String> {
    let number = text.parse().ok().filter(|number| *number >= 0);
    number.ok_or_else(|| "write a number, 0 or more".to_owned())
}

impl Promote {
    pub(crate) fn promotion(&self) -> Promotion {
        match (self.all, self.to) {
            (true, _) => Promotion::All,
            (false, Some(number)) => Promotion::To(number),
            (false, None) => Promotion::Next,
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Cancel {
    #[command(flatten)]
    pub(crate) object: Named,
    /// Do not ask for confirmation
    #[arg(long, short)]
    pub(crate) yes: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Again {
    #[command(flatten)]
    pub(crate) object: Named,
    #[command(flatten)]
    pub(crate) wait: Wait,
}

/// A verb of the command line.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Do {
    Promote(Promotion),
    Pause,
    Resume,
    Retry(End),
    Rerun(End),
    Cancel { is_confirmed: bool },
}

impl Do {
    fn verb(self) -> Verb {
        match self {
            Self::Promote(promotion) => Verb::Promote(promotion),
            Self::Pause => Verb::Pause,
            Self::Resume => Verb::Resume,
            Self::Retry(_) => Verb::Retry(Timestamp::now()),
            Self::Rerun(_) => Verb::Rerun(Timestamp::now()),
            Self::Cancel { .. } => Verb::Cancel,
        }
    }

    /// What ends the command after the write.
    fn end(self) -> End {
        match self {
            Self::Retry(end) | Self::Rerun(end) => end,
            Self::Promote(_) | Self::Pause | Self::Resume | Self::Cancel { .. } => End::User,
        }
    }
}

pub(crate) async fn run(flags: &Flags, object: &Named, what: Do) -> anyhow::Result<ExitCode> {
    let (kind, name) = object.parsed()?;
    let cluster = flags.connect().await?;
    let object = cluster.get(kind, &name).await?;
    let effect = effect(&object, what.verb())?;
    if let (
        Effect::Delete { says },
        Do::Cancel {
            is_confirmed: false,
        },
    ) = (&effect, what)
        && !confirmed(says)?
    {
        bail!("nothing was changed");
    }
    let (says, written) = perform(&cluster, &object, effect).await?;
    say(&says)?;
    match written.filter(|_| what.end().is_awaited()) {
        Some(written) => {
            let object = parsed(kind, &written)?;
            Follow::new(&cluster, kind, what.end()).run(object).await
        }
        None => Ok(ExitCode::SUCCESS),
    }
}

/// Asks the user. Without a terminal there is no answer.
fn confirmed(says: &str) -> anyhow::Result<bool> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        bail!("{says}; to do it without a question, add --yes");
    }
    let mut stderr = std::io::stderr().lock();
    write!(stderr, "{}. Continue? [y/N] ", printable(says))?;
    stderr.flush()?;
    let mut answer = String::new();
    stdin
        .read_line(&mut answer)
        .context("failed to read the answer")?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}
