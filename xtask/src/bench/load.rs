//! How many patches of pods a second the API server takes from a plain client: the physical limit
//! that a throughput is compared with.
//!
//! The client is curl, with several requests in flight; it talks to the cluster on loopback only.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use operon_devcluster::{Cluster, find_program, output_of};

/// How many requests are in flight at once.
pub(super) const CLIENTS: usize = 16;

/// How many patches there are at least.
const PATCHES: usize = 2_000;

/// Patches an annotation of each of these pods, in as many rounds as it takes; returns patches a
/// second, or nothing where there is no curl.
pub(super) fn patches_per_second(
    cluster: &Cluster,
    namespace: &str,
    pods: &[String],
) -> Result<Option<f64>> {
    if find_program("curl").is_none() {
        return Ok(None);
    }
    let state = cluster
        .state_dir()
        .context("the cluster has no state folder")?;
    let record = cluster.record().context("the cluster is not ours")?;
    let mut requests = String::new();
    for pod in pods {
        let port = record.ports.api;
        let url = format!("https://127.0.0.1:{port}/api/v1/namespaces/{namespace}/pods/{pod}");
        // Writing to a String cannot fail.
        let _ = writeln!(requests, "url = \"{url}\"\noutput = \"/dev/null\"");
    }
    let file = state.join("bench-patches.txt");
    fs::write(&file, requests).with_context(|| format!("failed to write {}", file.display()))?;
    let rounds = PATCHES.div_ceil(pods.len().max(1));
    let certificates = state.join("certificates");
    let begin = Instant::now();
    for round in 0..rounds {
        // Another value each round: a patch that changes nothing is not written.
        let body = format!(r#"{{"metadata":{{"annotations":{{"bench":"{round}"}}}}}}"#);
        let mut curl = Command::new("curl");
        curl.args([
            "--silent",
            "--show-error",
            "--http1.1",
            "--noproxy",
            "*",
            "--parallel",
        ])
        .args(["--parallel-immediate", "--parallel-max"])
        .arg(CLIENTS.to_string())
        .args(["--request", "PATCH", "--data", &body])
        .args(["--header", "Content-Type: application/merge-patch+json"])
        .args(["--write-out", "%{http_code}\n"])
        .arg("--cacert")
        .arg(certificates.join("ca.crt"))
        .arg("--cert")
        .arg(certificates.join("admin.crt"))
        .arg("--key")
        .arg(certificates.join("admin.key"))
        .arg("--config")
        .arg(&file);
        let codes = output_of(&mut curl).context("the plain client failed")?;
        let done = codes.lines().filter(|code| *code == "200").count();
        if done < pods.len() {
            bail!(
                "the API server took only {done} of {} patches of the plain client",
                pods.len()
            );
        }
    }
    let patches = u32::try_from(rounds * pods.len()).context("too many patches")?;
    Ok(Some(f64::from(patches) / begin.elapsed().as_secs_f64()))
}
