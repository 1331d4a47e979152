//! `graph`: JobFlows as pictures, from a file or from the cluster.

use std::{io::Read as _, path::Path, process::ExitCode};

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use k8s_openapi::jiff::Timestamp;
use operon_api::JobFlow;
use operon_cli_cluster::Cluster;
use operon_cli_model::{Kind, Object};
use operon_flow_graph::{Format, Manifest, Terminal, draw, pictures};

use crate::{
    flags::Flags,
    name::named,
    terminal::{Output, complain, print},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A JobFlow of the cluster, drawn with the state of its steps; with --filename: the JobFlow of the file to draw
    #[arg(num_args = 1..=2, value_name = "jf/NAME")]
    object: Vec<String>,
    /// Draw the JobFlows of a YAML or JSON file, or of standard input (-), without a cluster
    #[arg(long = "filename", short = 'f', value_name = "FILE")]
    file: Option<String>,
    /// What to write
    #[arg(long, short, value_enum, default_value_t = As::Text)]
    output: As,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum As {
    /// Lines for a terminal
    Text,
    /// An image
    Svg,
    /// A flowchart for Markdown
    Mermaid,
    /// A graph for Graphviz
    Dot,
    /// Layers and steps, for programs
    Json,
}

pub(crate) async fn run(flags: &Flags, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let (flows, from) = if let Some(file) = &arguments.file {
        let shown = if file == "-" { "standard input" } else { file };
        let manifest = from_file(file, shown, &arguments.object)?;
        for warning in &manifest.missing {
            complain(&format!("warning: {shown}: {warning}"));
        }
        (manifest.flows, format!("{shown}: "))
    } else {
        let name = name_of(&arguments.object)?;
        let cluster = flags.connect().await?;
        (vec![from_cluster(&cluster, &name).await?], String::new())
    };
    match pictures(&flows, Timestamp::now()) {
        Ok(pictures) => {
            print(&draw(&pictures, format(arguments.output)))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(errors) => {
            for error in errors {
                complain(&format!("error: {from}{error:#}"));
            }
            Ok(ExitCode::FAILURE)
        }
    }
}

fn from_file(file: &str, shown: &str, object: &[String]) -> anyhow::Result<Manifest> {
    let name = match object {
        [] => None,
        words => Some(name_of(words)?),
    };
    let text = read(file).with_context(|| format!("failed to read {shown}"))?;
    Manifest::parse(&text, name.as_deref()).with_context(|| shown.to_owned())
}

fn read(file: &str) -> std::io::Result<String> {
    if file != "-" {
        return std::fs::read_to_string(file);
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    Ok(text)
}

async fn from_cluster(cluster: &Cluster, name: &str) -> anyhow::Result<JobFlow> {
    match cluster.get(Kind::JobFlow, name).await? {
        Object::JobFlow(flow) => Ok(*flow),
        other => bail!("the cluster answered with a {}", other.kind().name()),
    }
}

/// The name of the JobFlow that these words name.
fn name_of(words: &[String]) -> anyhow::Result<String> {
    let is_object = match words {
        [] => false,
        [word] => word.contains('/') && !Path::new(word).is_file(),
        _ => true,
    };
    if !is_object {
        bail!("write jf/NAME for a JobFlow of the cluster, or -f FILE for a file");
    }
    let (kind, name) = named(words)?;
    if kind != Kind::JobFlow {
        bail!(
            "only a JobFlow has a graph; `kubectl operon get {}/{name}` shows the parts of this {}",
            kind.word(),
            kind.name()
        );
    }
    Ok(name)
}

fn format(output: As) -> Format {
    match output {
        As::Text => {
            let screen = Output::stdout().screen();
            Format::Text(Terminal {
                width: screen.columns,
                color: screen.color,
            })
        }
        As::Svg => Format::Svg,
        As::Mermaid => Format::Mermaid,
        As::Dot => Format::Dot,
        As::Json => Format::Json,
    }
}
