//! The seed's story of DaemonJob: a Job on every node but the excluded. And, where nodes are simulated and
//! so are many, a rollout: a canary, zone after zone, a node that fails and is tried again.

use anyhow::{Context as _, Result, bail};
use operon_devcluster::{Cluster, Nodes, Progress};

use super::teller::{Teller, indented};

/// The seed's manifest.
const EXAMPLE: &str = include_str!("../../../examples/daemonjob/example.yaml");

/// A rollout with every option.
const OPTIONS: &str = include_str!("../../../examples/daemonjob/options.yaml");

const OBJECT: &str = "daemonjob/daemonjob-example";
const ROLLOUT: &str = "daemonjob/node-upgrade";

/// How long the pods of simulated nodes run, and of which Jobs they fail.
const DURATION: &str = "operon.dev/devcluster-duration";
const FAIL: &str = "operon.dev/devcluster-fail-jobs";

/// What is changed in the manifests so that a demo of a minute can show them.
const CHANGES: [(&str, &str); 4] = [
    ("busybox:1.28", "localhost/busybox:1.35"),
    ("sleep 100s", "sleep 10s"),
    ("pauseSeconds: 60", "pauseSeconds: 3"),
    ("backoffSeconds: 10", "backoffSeconds: 2"),
];

/// Tells it.
pub(super) fn tell(cluster: &Cluster, progress: &Progress) -> Result<()> {
    let teller = Teller { cluster, progress };
    for object in [OBJECT, ROLLOUT] {
        let cascade = "--cascade=foreground";
        teller.quietly(&["delete", object, "--ignore-not-found", "--wait", cascade])?;
    }
    every_node(&teller)?;
    match cluster.nodes() {
        Nodes::Real => Ok(()),
        Nodes::Simulated => rollout(&teller),
    }
}

/// The first part: every node but two.
fn every_node(teller: &Teller<'_>) -> Result<()> {
    println!("\n── A Job on every node but the excluded ──");
    teller.show(&[
        "get",
        "nodes",
        "--label-columns=topology.kubernetes.io/zone",
    ])?;
    let nodes = teller.names("nodes", "")?;
    let (excluded, others) = match nodes.as_slice() {
        [first, second, others @ ..] if !others.is_empty() => {
            (format!("{first}, {second}"), others)
        }
        nodes => ("node1, node2".to_owned(), nodes),
    };
    let manifest = EXAMPLE.replace("node1, node2", &excluded);
    let manifest = for_our_nodes(teller.cluster, &manifest, &[(DURATION, "4s")]);
    println!("{}", indented(&manifest));
    teller.apply("daemonjob.yaml", &manifest)?;
    teller.until("Jobs", |t| {
        Ok(t.field(OBJECT, ".status.state")? == "Running")
    })?;
    teller.show(&["get", "daemonjobs"])?;
    teller.show(&["wait", "--for=condition=Ready", OBJECT, "--timeout=180s"])?;
    teller.show(&["get", "daemonjobs,jobs"])?;
    teller.expect(OBJECT, ".status.state", "Succeed")?;
    let count = others.len();
    teller.expect(OBJECT, ".status.progress", &format!("{count}/{count}"))?;
    for node in others {
        let job = format!("job/daemonjob-example-{node}");
        teller.expect(&job, ".status.succeeded", "1")?;
    }
    Ok(())
}

/// The second part: canary, zones, a failure, a retry.
fn rollout(teller: &Teller<'_>) -> Result<()> {
    println!(
        "\n── A rollout: one node first, then zone after zone; the first node of the second zone has a fault ──"
    );
    let second = teller.names("nodes", "topology.kubernetes.io/zone=zone-b")?;
    let bad = second.first().context("no node is in zone-b")?;
    let failing = format!("node-upgrade-{bad} node-upgrade-{bad}-2");
    let annotations = [(DURATION, "2s"), (FAIL, &failing)];
    let manifest = for_our_nodes(teller.cluster, OPTIONS, &annotations);
    println!("{}", indented(&manifest));
    teller.apply("rollout.yaml", &manifest)?;
    for wave in ["canary", "zone-a", "zone-b"] {
        teller.until(wave, |t| {
            Ok(t.field(ROLLOUT, ".status.wave.name")?.ends_with(wave))
        })?;
        println!("\n· wave {wave}");
        teller.show(&["get", "jobs", "--selector=team=platform"])?;
    }
    teller.show(&["wait", "--for=condition=Stalled", ROLLOUT, "--timeout=120s"])?;
    teller.show(&["get", "daemonjobs"])?;
    teller.show(&[
        "get",
        ROLLOUT,
        "--output=jsonpath-as-json={.status.failedNodes}",
    ])?;
    teller.expect(ROLLOUT, ".status.state", "Failed")?;
    teller.expect(ROLLOUT, ".status.failedNodes[*].name", bad)?;
    teller.expect(ROLLOUT, ".status.failedNodes[0].attempts", "2")?;
    no_job_in(teller, "zone-c")?;

    println!("\n── The node is mended: it is tried again, and the rollout goes on ──");
    teller.show(&[
        "annotate",
        ROLLOUT,
        "operon.dev/retry=mended",
        "--overwrite",
    ])?;
    teller.show(&["wait", "--for=condition=Ready", ROLLOUT, "--timeout=120s"])?;
    teller.show(&["get", "daemonjobs,jobs"])?;
    teller.show(&[
        "get",
        "events",
        "--field-selector=involvedObject.name=node-upgrade",
        "--output=custom-columns=REASON:.reason,MESSAGE:.message",
    ])?;
    teller.expect(ROLLOUT, ".status.state", "Succeed")?;
    let count = teller.names("nodes", "")?.len();
    teller.expect(ROLLOUT, ".status.progress", &format!("{count}/{count}"))?;
    teller.expect(
        &format!("job/node-upgrade-{bad}-3"),
        ".status.succeeded",
        "1",
    )?;
    println!("\nThe nodes are simulated: the scheduler, the Job controller and Operon are real.");
    Ok(())
}

/// Whether no node of a zone has got a Job.
fn no_job_in(teller: &Teller<'_>, zone: &str) -> Result<()> {
    let nodes = teller.names("nodes", &format!("topology.kubernetes.io/zone={zone}"))?;
    let jobs = teller.names("jobs", "operon.dev/node-uid")?;
    for node in nodes {
        let job = format!("node-upgrade-{node}");
        if jobs.contains(&job) {
            bail!("there is Job {job}, though {zone} should not have begun");
        }
    }
    Ok(())
}

/// A manifest for nodes that are this demo's: with the image that they have and short waits, and if they
/// are simulated, with annotations that tell them how pods end.
fn for_our_nodes(cluster: &Cluster, manifest: &str, annotations: &[(&str, &str)]) -> String {
    if cluster.record().is_none() {
        return manifest.to_owned();
    }
    let mut manifest = manifest.to_owned();
    for (theirs, ours) in CHANGES {
        manifest = manifest.replace(theirs, ours);
    }
    match cluster.nodes() {
        Nodes::Real => manifest,
        Nodes::Simulated => {
            let lines = annotations
                .iter()
                .fold("    annotations:\n".to_owned(), |lines, (key, value)| {
                    lines + "      " + key + ": " + value + "\n"
                });
            manifest.replacen("    annotations:\n", &lines, 1)
        }
    }
}
