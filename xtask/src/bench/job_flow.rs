//! JobFlows: one with very many steps, and many with few. How soon a step follows the steps that it
//! depends on, and what a step costs.
//!
//! Each of the two has a new cluster, whose nodes are simulated, so a Job's pod completes as soon as it
//! runs. What the host asked of the API server is read off the audit log afterwards, so measuring it costs
//! it nothing.

mod flow;
mod measures;
mod reactions;

use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use operon_devcluster::Progress;
use serde_json::{Value, json};

use self::flow::Flow;
use self::measures::{Measures, Run};
use super::test_bed::{LINE, NODES, Setup, TestBed};

/// How long nothing happens.
const IDLE: Duration = Duration::from_mins(1);

/// How large the bench is.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// How many steps the one large flow has
    #[arg(long, default_value_t = 1000)]
    steps: usize,
    /// In how many layers they are; each step depends on three of the layer before
    #[arg(long, default_value_t = 20)]
    layers: usize,
    /// How many flows of five steps there are in the other part
    #[arg(long, default_value_t = 200)]
    flows: usize,
    #[command(flatten)]
    setup: Setup,
}

/// Brings up the clusters, measures, and prints the tables.
pub(super) fn run(arguments: &Arguments, progress: &Progress) -> Result<()> {
    let Arguments {
        steps,
        layers,
        flows,
        setup,
    } = arguments;
    if *steps == 0 || *layers == 0 || !steps.is_multiple_of(*layers) {
        bail!("--steps must be a multiple of --layers: each has the same number of steps");
    }
    if *flows == 0 {
        bail!("--flows must be at least 1");
    }
    let command = format!("jobflow --steps {steps} --layers {layers} --flows {flows}");
    let prepared = setup.prepare(&command, progress)?;
    let parts = [
        (
            "-large",
            format!("One flow of {steps} steps in {layers} layers"),
            vec![Flow::layered(*steps, *layers)],
        ),
        (
            "-many",
            format!("{flows} flows of 5 steps"),
            (0..*flows).map(Flow::of_five).collect(),
        ),
    ];
    for (part, title, flows) in parts {
        let (headline, measures) =
            prepared.on_a_new_cluster(part, NODES, |bed| measure(bed, flows))?;
        println!("{title}:\n\n{headline}\n");
        println!("{}", measures.table().markdown());
        println!("{}", measures.requests());
    }
    Ok(())
}

fn measure(bed: &TestBed<'_>, flows: Vec<Flow>) -> Result<Measures> {
    bed.until_quiet()?;
    let items: Vec<Value> = flows.iter().map(Flow::manifest).collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    let ((), spent) = bed.spending("jobflow", || {
        bed.progress.say(format!("making {} JobFlows", flows.len()));
        bed.create("bench-jobflows.json", &list)?;
        until_finished(bed, flows.len())
    })?;
    let idle = bed.idle(IDLE)?;
    let jobs = bed.get(&["jobs", "--output=jsonpath={.items[*].metadata.name}"])?;
    let run = Run {
        flows,
        spent,
        idle,
        jobs: jobs.split_whitespace().map(str::to_owned).collect(),
        objects: bed.objects("jobflows")?,
    };
    Measures::take(&bed.requests()?, run)
}

/// Waits until all flows have finished. It is looked seldom: the moment itself is in the audit log, and each
/// look takes part in the measurement.
fn until_finished(bed: &TestBed<'_>, flows: usize) -> Result<()> {
    bed.until(&format!("{flows} JobFlows to finish"), LINE, || {
        let states = bed.get(&[
            "jobflows",
            r#"--output=jsonpath={range .items[*]}{.status.completionTime} {.status.progress}{"\n"}{end}"#,
        ])?;
        let ended = states.lines().filter(|line| !line.starts_with(' ')).count();
        let progress = states.lines().next().unwrap_or_default().trim();
        let usage = bed.usage()?;
        let state = format!(
            "{ended} of {flows} have finished, of the first {progress} steps are done; the host used {:.1} s of a processor and has {:.0} MiB",
            usage.cpu, usage.rss
        );
        Ok((ended == flows, state))
    })
}
