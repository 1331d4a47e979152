//! `dashboard`: the objects in a browser.

use std::process::{Command, ExitCode, Stdio};

use operon_dashboard::Page;

use crate::{
    flags::Flags,
    terminal::{complain, print},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The port of the page on 127.0.0.1 [default: any that is free]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Only print the address of the page
    #[arg(long)]
    no_open: bool,
}

pub(crate) async fn run(flags: &Flags, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let cluster = flags.connect().await?;
    let page = Page::bind(arguments.port).await?;
    let address = page.address();
    print(&format!(
        "{address}\nOpen this address in a browser of this machine; it can be used once. Ctrl-C ends the page.\n"
    ))?;
    if !arguments.no_open {
        open(&address);
    }
    page.serve(cluster, flags.namespace().is_none()).await?;
    Ok(ExitCode::SUCCESS)
}

/// Lets the desktop open the address. Where there is none, the printed address is enough.
fn open(address: &str) {
    let program = if cfg!(target_os = "macos") {
        "open"
    } else if cfg!(windows) {
        "explorer"
    } else {
        "xdg-open"
    };
    let started = Command::new(program)
        .arg(address)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    if let Err(error) = started {
        complain(&format!(
            "no browser was opened: {program}: {error}; open the address yourself"
        ));
    }
}
