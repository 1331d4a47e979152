//! What a component finds behind WASI: clocks and random numbers, and nothing else.

use std::{io::ErrorKind, net::TcpListener, path::Path};

use anyhow::{Result, anyhow, ensure};
use operon_core::action::Limits;
use operon_plugin_runtime::Loader;

use crate::support::{Question, blame, config, hostile, limits, load};

/// What the guest writes, if it can.
const FILE: &str = "/tmp/operon-hostile-guest";

#[tokio::test]
async fn files_sockets_names_processes_and_the_environment_are_out_of_reach() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let loader = Loader::new(config())?;
    let action = load(&loader, hostile()?, &Limits::default()).await?;
    let mut question = Question::about("wasi-attempts");
    question.job.parameters = listener.local_addr()?.to_string();
    let answer = action.operate_target(question.request()).await;
    let found = answer.map_err(|error| anyhow!("{error:?}"))?.extra_info;
    for (attempt, came) in &found {
        println!("{attempt}: {came}");
    }
    let nothing = |attempt: &str| {
        let came = found.get(attempt).map(String::as_str);
        matches!(came, Some(came) if came.starts_with("refused: "))
    };
    for attempt in [
        "read-a-file",
        "write-a-file",
        "list-the-root",
        "list-a-folder",
        "connect",
        "listen",
        "send-a-datagram",
        "look-up-a-name",
        "run-a-program",
        "start-a-thread",
    ] {
        ensure!(nothing(attempt), "{attempt}: {:?}", found.get(attempt));
    }
    for (attempt, came) in [
        ("environment", "0"),
        ("arguments", "0"),
        ("standard-input", "0"),
        ("wall-clock", "true"),
        ("steady-clock", "true"),
    ] {
        let found = found.get(attempt).map(String::as_str);
        ensure!(found == Some(came), "{attempt}: {found:?}");
    }
    ensure!(!Path::new(FILE).exists());
    let accepted = listener.accept().map_err(|error| error.kind()).err();
    ensure!(accepted == Some(ErrorKind::WouldBlock), "it has connected");
    Ok(())
}

#[tokio::test]
async fn an_exit_ends_the_call_and_not_the_host() -> Result<()> {
    let loader = Loader::new(config())?;
    let action = load(&loader, hostile()?, &limits()).await?;
    for name in ["exit", "exit-as-if-all-were-well"] {
        let answer = action.operate_target(Question::about(name).request()).await;
        let error = answer.err().ok_or_else(|| anyhow!("{name} is answered"))?;
        assert_eq!(blame(&error), ("PluginTrapped", true), "{name}: {error:?}");
        let decent = Question::about("web-0");
        let next = action.operate_target(decent.request()).await;
        ensure!(next.is_ok(), "the call after {name}: {next:?}");
    }
    Ok(())
}
