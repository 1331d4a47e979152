//! The seed's story of ReactiveJob: a Job that runs again because an annotation of its template changed.

use anyhow::{Result, bail};
use operon_devcluster::{Cluster, Progress};

use super::teller::{Teller, indented};

/// The seed's manifest.
const MANIFEST: &str = include_str!("../../../examples/reactivejob/reactivejob.yaml");

/// The image of the manifest, and the one that the nodes of our own clusters have.
const IMAGE: (&str, &str) = ("image: alpine", "image: localhost/busybox:1.35");

const OBJECT: &str = "reactivejob/test";
const JOBS: &str = "batch.cs.sap.com/controller-name=test";

/// Tells it.
pub(super) fn tell(cluster: &Cluster, progress: &Progress) -> Result<()> {
    let teller = Teller { cluster, progress };
    let image = if cluster.record().is_some() {
        IMAGE.1
    } else {
        IMAGE.0
    };
    let manifest = MANIFEST.replace(IMAGE.0, image);
    teller.quietly(&[
        "delete",
        "reactivejob",
        "test",
        "--ignore-not-found",
        "--wait",
    ])?;
    println!("\n── A ReactiveJob runs its Job ──");
    println!("{}", indented(&manifest));
    teller.apply("reactivejob.yaml", &manifest)?;
    teller.until("the first Job", |t| Ok(!t.names("jobs", JOBS)?.is_empty()))?;
    teller.show(&["get", "reactivejobs"])?;
    ready(&teller)?;
    teller.show(&["get", "reactivejobs,jobs"])?;
    let first = teller.field(OBJECT, ".status.currentJobName")?;

    println!("\n── The digest in the template changes: it runs again ──");
    teller.show(&[
        "patch",
        "reactivejob",
        "test",
        "--type=merge",
        "--patch={\"spec\":{\"jobTemplate\":{\"metadata\":{\"annotations\":{\"digest\":\"def456\"}}}}}",
    ])?;
    teller.until("the second Job", |t| {
        let current = t.field(OBJECT, ".status.currentJobName")?;
        Ok(current != first)
    })?;
    teller.show(&["get", "reactivejobs,jobs"])?;
    ready(&teller)?;
    teller.show(&["get", "reactivejobs,jobs"])?;
    teller.show(&[
        "get",
        "reactivejob",
        "test",
        "--output=jsonpath-as-json={.status}",
    ])?;
    teller.show(&[
        "get",
        "events",
        "--field-selector=involvedObject.kind=ReactiveJob",
        "--output=custom-columns=REASON:.reason,OBJECT:.involvedObject.name,MESSAGE:.message",
    ])?;
    check(&teller, &first)?;
    println!(
        "\nThe first Job is left to its ttlSecondsAfterFinished; the newest stays as long as its ReactiveJob."
    );
    Ok(())
}

fn ready(teller: &Teller<'_>) -> Result<()> {
    teller.show(&[
        "wait",
        "--for=condition=Ready",
        "reactivejob/test",
        "--timeout=120s",
    ])
}

/// What the story promises, checked on the objects.
fn check(teller: &Teller<'_>, first: &str) -> Result<()> {
    teller.expect(OBJECT, ".status.state", "Ready")?;
    teller.expect(OBJECT, ".status.observedGeneration", "2")?;
    teller.expect(OBJECT, ".status.runs[0].reason", "TemplateChanged")?;
    let jobs = teller.names("jobs", JOBS)?;
    let second = teller.field(OBJECT, ".status.currentJobName")?;
    let expected = [first.to_owned(), second];
    if jobs.len() != 2 || !expected.iter().all(|job| jobs.contains(job)) {
        bail!("there should be the Jobs {expected:?}, but there are {jobs:?}");
    }
    Ok(())
}
