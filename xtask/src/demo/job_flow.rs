//! The seed's story of JobFlow: Jobs that run in the order of their dependencies, and a flow that fails.

use anyhow::{Result, bail};
use operon_devcluster::{Cluster, Nodes, Progress};

use super::teller::Teller;

/// The seed's manifests.
const EXAMPLE: &str = include_str!("../../../examples/jobflow/example.yaml");
const FAILURE: &str = include_str!("../../../examples/jobflow/failure.yaml");

/// What of them is other here: the image that the demo's nodes have, and less sleep.
const ADAPTED: [(&str, &str); 3] = [
    ("busybox:1.28", "localhost/busybox:1.35"),
    ("sleep 100s", "sleep 6s"),
    ("sleep 10s", "sleep 3s"),
];

const GOOD: &str = "jobflow/jobflow-example";
const FAILING: &str = "jobflow/jobflow-example-error";
const FROM_TEMPLATES: &str = "jobflow/jobflow-example-template";

/// The steps of a flow, one a line.
const STEPS: &str =
    "--output=jsonpath={range .status.steps[*]}{.name}{\"\\t\"}{.phase}{\"\\n\"}{end}";

/// Tells it.
pub(super) fn tell(cluster: &Cluster, progress: &Progress) -> Result<()> {
    let teller = Teller { cluster, progress };
    let node = teller.quietly(&[
        "get",
        "nodes",
        "--output=jsonpath={.items[0].metadata.name}",
    ])?;
    let adapt = |manifest: &str| {
        let manifest = manifest.replace("minikube", &node);
        ADAPTED
            .iter()
            .fold(manifest, |text, (from, to)| text.replace(from, to))
    };
    // With their Jobs: as long as those are there, others' can't have their names.
    teller.quietly(&[
        "delete",
        "--ignore-not-found",
        "--cascade=foreground",
        GOOD,
        FAILING,
        FROM_TEMPLATES,
    ])?;

    println!("\n── Jobs that wait for each other ──");
    println!("The manifests are those of examples/jobflow. Other here:");
    println!("  nodeName: minikube is {node}");
    for (from, to) in ADAPTED {
        println!("  {from} is {to}");
    }
    teller.apply("example.yaml", &adapt(EXAMPLE))?;
    teller.apply("failure.yaml", &adapt(&failing(cluster.nodes())))?;
    for step in ["job1", "job2", "job3"] {
        progress_to(&teller, step)?;
    }

    println!("\n── The failing flow ended with the Jobs that did not depend on the failure ──");
    ended(&teller, "Stalled", FAILING)?;
    teller.show(&["get", FAILING, STEPS])?;
    teller.show(&["get", FAILING, "--output=wide"])?;

    println!("\n── The others ended well ──");
    ended(&teller, "Ready", GOOD)?;
    ended(&teller, "Ready", FROM_TEMPLATES)?;
    teller.show(&["get", "jobflows.api.practice.com"])?;
    let of_flows = "--selector=operon.dev/step";
    teller.show(&["get", "jobs", of_flows, "--sort-by=.status.startTime"])?;
    teller.show(&["get", "jobtemplates"])?;
    check(&teller, &node)?;
    println!("\nTo run the failed steps again: kubectl annotate {FAILING} operon.dev/retry=1");
    Ok(())
}

/// The manifest of the flow that fails. On simulated nodes nothing runs that could, so a label says it.
fn failing(nodes: Nodes) -> String {
    let step = "- name: job2-error-container";
    let parts = FAILURE.split_once(step);
    let Some((before, after)) = parts.filter(|_| nodes == Nodes::Simulated) else {
        return FAILURE.to_owned();
    };
    let label = "template:\n          metadata: {labels: {operon.dev/devcluster-fail: \"true\"}}\n";
    let after = after.replacen("template:\n", label, 1);
    format!("{before}{step}{after}")
}

/// Shows the flows when a step of the seed's flow has started.
fn progress_to(teller: &Teller<'_>, step: &str) -> Result<()> {
    teller.until(&format!("step {step} to start"), |t| {
        let phase = phase(t, GOOD, step)?;
        Ok(!["", "Waiting", "Blocked"].contains(&phase.as_str()))
    })?;
    teller.show(&["get", "jobflows.api.practice.com"])?;
    teller.show(&["get", GOOD, STEPS])
}

fn ended(teller: &Teller<'_>, condition: &str, flow: &str) -> Result<()> {
    let condition = format!("--for=condition={condition}");
    teller.show(&["wait", &condition, flow, "--timeout=120s"])
}

fn phase(teller: &Teller<'_>, flow: &str, step: &str) -> Result<String> {
    teller.field(flow, &format!(".status.steps[?(@.name==\"{step}\")].phase"))
}

/// What the story promises, checked on the objects.
fn check(teller: &Teller<'_>, node: &str) -> Result<()> {
    teller.expect(GOOD, ".status.state", "Succeed")?;
    teller.expect(GOOD, ".status.progress", "5/5")?;
    teller.expect(FROM_TEMPLATES, ".status.state", "Succeed")?;
    teller.expect(FAILING, ".status.state", "Failed")?;
    let phases =
        ["job1", "job2-error-container", "job3", "job4"].map(|step| phase(teller, FAILING, step));
    let phases: Vec<_> = phases.into_iter().collect::<Result<_>>()?;
    if phases != ["Succeeded", "Failed", "Skipped", "Succeeded"] {
        bail!("the steps of {FAILING} are {phases:?}");
    }
    for (first, second) in [(1, 2), (1, 3), (2, 3), (2, 5), (4, 5)] {
        check_order(teller, first, second)?;
    }
    for job in 1..=5 {
        check_pod(teller, job, node)?;
    }
    Ok(())
}

fn job(number: u8) -> String {
    format!("job/jobflow-example-job{number}")
}

/// Whether the one Job was over before the other began. Such times sort as texts.
fn check_order(teller: &Teller<'_>, first: u8, second: u8) -> Result<()> {
    let ended = teller.field(&job(first), ".status.completionTime")?;
    let began = teller.field(&job(second), ".status.startTime")?;
    if ended.is_empty() || ended > began {
        bail!("job{first} ended at {ended:?}, and job{second} began at {began:?}");
    }
    Ok(())
}

/// Whether a Job's pod ran on the node of the flow, with the flow's labels and environment.
fn check_pod(teller: &Teller<'_>, number: u8, node: &str) -> Result<()> {
    let selector = format!("job-name=jobflow-example-job{number}");
    let pods = teller.names("pods", &selector)?;
    let [pod] = pods.as_slice() else {
        bail!("job{number} has the pods {pods:?}");
    };
    let pod = format!("pod/{pod}");
    teller.expect(&pod, ".spec.nodeName", node)?;
    teller.expect(&pod, ".metadata.labels.key1", "value1")?;
    teller.expect(&pod, ".metadata.annotations.key2", "value2")?;
    teller.expect(&pod, ".spec.containers[0].env[*].name", "FOO QUE")
}
