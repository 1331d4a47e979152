//! `operon flow graph`: a JobFlow as a picture, from a file or from the cluster.
//!
//! [`source`] finds the flows, [`picture`] collects what is drawn of a flow, [`text`] and [`svg`] draw it.
//! An invalid flow is not drawn: the error is that of the controller.

mod arrange;
mod cluster;
mod fields;
mod heights;
mod limits;
mod marks;
mod net;
mod picture;
mod place;
mod source;
mod svg;
#[cfg(test)]
mod tests;
mod text;
mod yaml;

use std::io::IsTerminal as _;

use clap::{Subcommand, ValueEnum};
use k8s_openapi::jiff::Timestamp;

use self::{picture::Picture, source::Wanted, text::Terminal};
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
    let now = Timestamp::now();
    let pictures: Vec<_> = flows.iter().map(|flow| Picture::new(flow, now)).collect();
    let pictures = all_or_errors(pictures)?;
    let drawn = match graph.output {
        Output::Text => {
            let terminal = terminal(graph.color);
            let each = pictures.iter().map(|picture| text::draw(picture, terminal));
            each.collect::<Vec<_>>().join("\n")
        }
        Output::Svg => svg::draw(&pictures),
    };
    print(&drawn)
}

/// All pictures, or every flow that can't be drawn with its error.
fn all_or_errors(pictures: Vec<anyhow::Result<Picture>>) -> anyhow::Result<Vec<Picture>> {
    let (mut good, mut errors) = (Vec::new(), Vec::new());
    for picture in pictures {
        match picture {
            Ok(picture) => good.push(picture),
            Err(error) => errors.push(format!("{error:#}")),
        }
    }
    anyhow::ensure!(errors.is_empty(), errors.join("\n"));
    Ok(good)
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
