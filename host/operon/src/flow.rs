//! `operon flow graph`: a JobFlow as a picture, from a file or from the cluster.
//!
//! [`source`] finds the flows, `operon-flow-graph` draws them.

mod cluster;
mod source;

use std::io::IsTerminal as _;

use clap::{Subcommand, ValueEnum};
use k8s_openapi::jiff::Timestamp;
use operon_flow_graph::{Format, Terminal, draw, pictures};

use self::source::Wanted;
use crate::stdout::{Color, print};

/// The subcommands about flows.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Draw the steps of a JobFlow with their dependencies and phases
    Graph(Graph),
}

#[derive(Debug, clap::Args)]
struct Graph {
    /// A YAML or JSON file with JobFlows (- is standard input), or the name of a JobFlow in the cluster
    #[arg(value_name = "FILE|NAME")]
    what: String,

    /// Draw only the flow with this name in the file
    #[arg(long)]
    name: Option<String>,

    /// The namespace of a flow in the cluster [default: that of the current context]
    #[arg(long, short)]
    namespace: Option<String>,

    /// The kind of picture
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    output: Output,

    /// Whether text has colours; auto means on a terminal, unless NO_COLOR is set
    #[arg(long, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    color: Color,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    /// Text for a terminal
    Text,
    /// An image
    Svg,
}

pub(crate) fn run(arguments: Arguments) -> anyhow::Result<()> {
    let Command::Graph(graph) = arguments.command;
    let wanted = Wanted::new(graph.what, graph.name, graph.namespace)?;
    let flows = source::flows(&wanted)?;
    let pictures = pictures(&flows, Timestamp::now())?;
    let format = match graph.output {
        Output::Text => Format::Text(terminal(graph.color)),
        Output::Svg => Format::Svg,
    };
    print(&draw(&pictures, format))
}

fn terminal(color: Color) -> Terminal {
    let stdout = std::io::stdout();
    let is_terminal = stdout.is_terminal();
    let size = rustix::termios::tcgetwinsize(&stdout).ok();
    Terminal {
        width: size
            .filter(|size| is_terminal && size.ws_col > 0)
            .map(|size| usize::from(size.ws_col)),
        color: color.is_wanted(),
    }
}
