//! Many requests from a plain client: to create and change many objects, and to learn how many patches a
//! second the API server takes, the physical limit that a throughput is compared with.
//!
//! The client is curl, with several requests in flight; it talks to the cluster on loopback only.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use operon_devcluster::{Cluster, find_program, output_of};
use serde_json::Value;

/// How many requests are in flight at the same time.
pub(super) const CLIENTS: usize = 16;

/// How many patches there are at least.
const PATCHES: usize = 2_000;

/// Whether there is a plain client here.
pub(super) fn is_possible() -> bool {
    find_program("curl").is_some()
}

/// Patches an annotation of each of these pods, in as many rounds as it takes; returns patches a
/// second, or nothing where there is no curl.
pub(super) fn patches_per_second(
    cluster: &Cluster,
    namespace: &str,
    pods: &[String],
) -> Result<Option<f64>> {
    if !is_possible() {
        return Ok(None);
    }
    let paths: Vec<String> = pods
        .iter()
        .map(|pod| format!("/api/v1/namespaces/{namespace}/pods/{pod}"))
        .collect();
    let rounds = PATCHES.div_ceil(pods.len().max(1));
    let begin = Instant::now();
    for round in 0..rounds {
        // Another value each round: a patch that changes nothing is not written.
        let body = format!(r#"{{"metadata":{{"annotations":{{"bench":"{round}"}}}}}}"#);
        patch_all(cluster, &paths, &body)?;
    }
    let patches = u32::try_from(rounds * pods.len()).context("too many patches")?;
    Ok(Some(f64::from(patches) / begin.elapsed().as_secs_f64()))
}

/// Sends the same merge patch to the objects at all these paths.
pub(super) fn patch_all(cluster: &Cluster, paths: &[String], body: &str) -> Result<()> {
    let media = "application/merge-patch+json";
    send_all(cluster, paths, ["PATCH", media, body], "200")
}

/// Creates so many objects that are alike but for their names, which are generated.
pub(super) fn create(cluster: &Cluster, path: &str, count: usize, object: &Value) -> Result<()> {
    let paths = vec![path.to_owned(); count];
    let body = object.to_string();
    send_all(cluster, &paths, ["POST", "application/json", &body], "201")
}

/// Sends the same body to all these paths, and expects the same code from each.
fn send_all(
    cluster: &Cluster,
    paths: &[String],
    [method, media, body]: [&str; 3],
    code: &str,
) -> Result<()> {
    let state = cluster
        .state_dir()
        .context("the cluster has no state folder")?;
    let port = cluster
        .record()
        .context("the cluster is not ours")?
        .ports
        .api;
    let mut requests = String::new();
    for path in paths {
        // Writing to a String cannot fail.
        let _ = writeln!(
            requests,
            "url = \"https://127.0.0.1:{port}{path}\"\noutput = \"/dev/null\""
        );
    }
    let file = state.join("bench-patches.txt");
    fs::write(&file, requests).with_context(|| format!("failed to write {}", file.display()))?;
    let certificates = state.join("certificates");
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
    .args(["--request", method, "--data", body])
    .args(["--header", &format!("Content-Type: {media}")])
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
    let done = codes.lines().filter(|found| *found == code).count();
    if done < paths.len() {
        bail!(
            "the API server took only {done} of {} requests of the plain client",
            paths.len()
        );
    }
    Ok(())
}
