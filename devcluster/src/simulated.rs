//! Simulated nodes: objects without a machine behind them, their kubelet played by KWOK.
//!
//! Pods become Ready and the pods of Jobs complete by the stages in `assets/`. Needs no root.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;

use crate::cache::write;
use crate::control_plane::Launcher;
use crate::process::output_of;
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
        // A KWOK that is started again waits for the leases of the one before it.
        .args(["--node-lease-duration-seconds=20", "--node-ip=127.0.0.1"]);
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
    let wait = [
        "wait",
        "node",
        "--all",
        "--for=condition=Ready",
        "--timeout=1s",
    ];
    launcher.wait_until(
        &format!("{} simulated nodes Ready", launcher.record.node_count),
        || launcher.kubectl_succeeds(kubectl, &wait),
    )
}

/// Nodes without taints: in this cluster there are no others for an ordinary pod to run on.
fn node_manifests(count: u32) -> String {
    let resources = r#"{cpu: "256", memory: 1Ti, ephemeral-storage: 1Ti, pods: "1000"}"#;
    let mut manifests = String::new();
    for number in 1..=count {
        let name = format!("simulated-{number}");
        // Writing to a String cannot fail.
        let _ = write!(
            manifests,
            "---\napiVersion: v1\nkind: Node\nmetadata:\n  name: {name}\n  \
             annotations: {{kwok.x-k8s.io/node: fake, node.alpha.kubernetes.io/ttl: \"0\"}}\n  \
             labels: {{kubernetes.io/hostname: {name}, kubernetes.io/os: linux, kubernetes.io/arch: amd64, \
             operon.dev/simulated: \"true\"}}\n\
             status:\n  allocatable: {resources}\n  capacity: {resources}\n"
        );
    }
    manifests
}
