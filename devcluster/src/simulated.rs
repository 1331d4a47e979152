//! Simulated nodes: objects without a machine behind them, their kubelet played by KWOK.
//!
//! Pods become Ready and the pods of Jobs complete by the stages in `assets/`. Needs no root.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;

use crate::cache::write;
use crate::control_plane::Launcher;
use crate::process::output_of;
use crate::record::Record;
use crate::tools::Tool;

const STAGES: [&str; 3] = [
    include_str!("../assets/stages-node.yaml"),
    include_str!("../assets/stages-pod.yaml"),
    include_str!("../assets/stages-job.yaml"),
];

/// Makes the nodes and starts KWOK; waits until all are Ready.
pub(crate) fn start(launcher: &mut Launcher<'_>, kubectl: &Path) -> Result<()> {
    let stages = launcher.state.join("stages.yaml");
    write(&stages, STAGES.join("---\n"))?;
    let mut kwok = launcher.command(&Tool::Kwok.ensure(launcher.progress)?);
    kwok.arg(format!("--config={}", stages.display()))
        .arg(format!(
            "--kubeconfig={}",
            launcher.certificates.kubeconfig("kwok").display()
        ))
        .arg("--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake")
        .arg("--node-ip=127.0.0.1")
        .arg(format!(
            "--node-lease-duration-seconds={}",
            lease_seconds(&launcher.record)
        ));
    launcher.start("kwok", &mut kwok)?;

    let nodes = launcher.state.join("nodes.yaml");
    write(&nodes, node_manifests(launcher.record.node_count))?;
    let mut apply = std::process::Command::new(kubectl);
    apply
        .arg("--kubeconfig")
        .arg(&launcher.record.kubeconfig)
        .arg("apply")
        .arg("--filename")
        .arg(&nodes);
    output_of(&mut apply)?;
    let count = launcher.record.node_count;
    launcher.wait_until(&format!("{count} simulated nodes Ready"), || {
        ready_nodes(kubectl, &launcher.record).is_ok_and(|ready| ready == count)
    })
}

/// How long a node's Lease holds, in seconds. KWOK renews it four times in that time: in a cluster of many
/// nodes less often, or renewing Leases would be most of what the API server does. A KWOK that is started
/// again waits for the Leases of the one before it, so of few nodes they are short.
pub(crate) fn lease_seconds(record: &Record) -> u32 {
    (record.node_count / 5).max(20)
}

fn ready_nodes(kubectl: &Path, record: &Record) -> Result<u32> {
    let mut get = std::process::Command::new(kubectl);
    get.arg("--kubeconfig").arg(&record.kubeconfig).args([
        "get",
        "nodes",
        r#"--output=jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}"#,
    ]);
    let statuses = output_of(&mut get)?;
    let ready = statuses.split_whitespace().filter(|s| *s == "True").count();
    Ok(u32::try_from(ready)?)
}

/// Nodes in three zones, without taints: in this cluster there are no others for an ordinary pod to run on.
fn node_manifests(count: u32) -> String {
    let resources = r#"{cpu: "256", memory: 1Ti, ephemeral-storage: 1Ti, pods: "1000"}"#;
    let mut manifests = String::new();
    let zones = ["zone-a", "zone-b", "zone-c"].iter().cycle();
    for (number, zone) in (1..=count).zip(zones) {
        let name = format!("simulated-{number}");
        // Writing to a String cannot fail.
        let _ = write!(
            manifests,
            "---\napiVersion: v1\nkind: Node\nmetadata:\n  name: {name}\n  \
             annotations: {{kwok.x-k8s.io/node: fake, node.alpha.kubernetes.io/ttl: \"0\"}}\n  \
             labels: {{kubernetes.io/hostname: {name}, kubernetes.io/os: linux, kubernetes.io/arch: amd64, \
             topology.kubernetes.io/zone: {zone}, operon.dev/simulated: \"true\"}}\n\
             status:\n  allocatable: {resources}\n  capacity: {resources}\n"
        );
    }
    manifests
}
