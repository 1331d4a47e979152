//! `get`: an object as a tree, once or while it changes.

use std::{process::ExitCode, time::Duration};

use k8s_openapi::jiff::Timestamp;
use operon_cli_model::{Tree, draw};
use tokio::time::Instant;

use crate::{
    cluster::{Cluster, Flags},
    follow::Follow,
    name::Named,
    terminal::{Output, print},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    object: Named,
    /// Watch: draw the tree again when something changes; without a terminal, print a line per change
    #[arg(long, short)]
    watch: bool,
    /// Wait until it has finished. Exit codes: 0 succeeded, 1 the command failed, 2 the object failed, 3 timed out or deleted
    #[arg(long)]
    wait: bool,
    /// How long to wait: 90s, 10m, 2h [default: without end]
    #[arg(long, value_parser = duration, requires = "wait", value_name = "TIME")]
    timeout: Option<Duration>,
}

pub(crate) async fn run(flags: &Flags, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let (kind, name) = arguments.object.parsed()?;
    let deadline = arguments.timeout.map(|timeout| Instant::now() + timeout);
    let cluster = Cluster::connect(flags).await?;
    let object = cluster.get(kind, &name).await?;
    let related = cluster.related(&object).await;
    if arguments.watch || arguments.wait {
        let follow = Follow::new(&cluster, kind, arguments.wait, deadline);
        return follow.run(object, related).await;
    }
    let output = Output::stdout();
    print(&draw(
        &Tree::of(&object, &related),
        Timestamp::now(),
        output.screen(),
    ))?;
    Ok(ExitCode::SUCCESS)
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
