//! The seed's story of Replace: two pods behind a Service, replaced one after the other: those of a
//! CollaSet, as in the seed, or of a Deployment.

use anyhow::{Result, bail};
use operon_devcluster::{Cluster, Progress};

use super::teller::{Teller, indented};
use super::watch::EndpointWatch;

/// What owns the two pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    CollaSet,
    Deployment,
}

impl Owner {
    /// The manifest's file and text: two pods behind a Service, each of which takes a moment to become ready.
    fn manifest(self) -> (&'static str, &'static str) {
        match self {
            Self::CollaSet => (
                "collaset.yaml",
                include_str!("../../../examples/collaset/collaset.yaml"),
            ),
            Self::Deployment => (
                "deployment.yaml",
                include_str!("../../../examples/replace/deployment.yaml"),
            ),
        }
    }

    /// How to wait for the pods.
    fn wait(self) -> &'static [&'static str] {
        match self {
            Self::CollaSet => &[
                "wait",
                "--for=condition=Available",
                "cls/foo",
                "--timeout=120s",
            ],
            Self::Deployment => &["rollout", "status", "deployment/foo", "--timeout=120s"],
        }
    }

    fn noun(self) -> &'static str {
        match self {
            Self::CollaSet => "CollaSet",
            Self::Deployment => "Deployment",
        }
    }
}

/// The job, with the pods' names to fill in.
const JOB: &str = include_str!("../../../examples/replace/operationjob.yaml");

const OBJECT: &str = "opj/opj-replace";
const PODS: &str = "app=foo";

/// Tells it.
pub(super) fn tell(cluster: &Cluster, progress: &Progress, owner: Owner) -> Result<()> {
    let teller = Teller { cluster, progress };
    println!("\n── A {} of two pods, behind a Service ──", owner.noun());
    // What a story before this one left.
    let left = [
        "delete",
        "cls,deployment",
        "foo",
        "--ignore-not-found",
        "--cascade=foreground",
    ];
    teller.quietly(&left)?;
    teller.quietly(&[
        "delete",
        "opj",
        "opj-replace",
        "--ignore-not-found",
        "--wait",
    ])?;
    let (file, text) = owner.manifest();
    teller.apply(file, text)?;
    teller.quietly(owner.wait())?;
    if owner == Owner::CollaSet {
        teller.show(&["get", "cls"])?;
    }
    teller.show(&["get", "pods", "--selector=app=foo"])?;
    teller.show(&["get", "actionplugins"])?;
    let endpoints = EndpointWatch::start(cluster, progress, "foo", 2)?;

    println!("\n── An OperationJob replaces the first of them (partition: 1) ──");
    let [first, second] = two_pods(&teller)?;
    let job = JOB
        .replace("foo-jttd5", &first)
        .replace("foo-752sz", &second);
    println!("{}", indented(&job));
    teller.apply("operationjob.yaml", &job)?;
    teller.until("the new pod to appear", |t| {
        Ok(t.names("pods", PODS)?.len() >= 3)
    })?;
    teller.show(&["get", "opj"])?;
    teller.show(&["get", "pods", "--selector=app=foo"])?;
    teller.until("the first target to be replaced", |t| {
        Ok(t.field(OBJECT, ".status.succeededPodCount")? == "1")
    })?;
    teller.until("the first pod to be gone", |t| {
        Ok(!t.names("pods", PODS)?.contains(&first))
    })?;
    teller.show(&["get", "opj"])?;
    teller.show(&["get", "pods", "--selector=app=foo"])?;

    println!("\n── The partition is raised to 2: the second follows ──");
    teller.show(&[
        "patch",
        "opj",
        "opj-replace",
        "--type=merge",
        "--patch={\"spec\":{\"partition\":2}}",
    ])?;
    teller.quietly(&[
        "wait",
        "--for=condition=Ready",
        "opj/opj-replace",
        "--timeout=120s",
    ])?;
    teller.show(&["get", "opj"])?;
    teller.show(&["get", "pods", "--selector=app=foo"])?;
    if owner == Owner::CollaSet {
        teller.show(&["get", "cls"])?;
    }
    teller.show(&[
        "get",
        "opj",
        "opj-replace",
        "--output=jsonpath-as-json={.status}",
    ])?;
    teller.show(&[
        "get",
        "events",
        "--field-selector=reportingComponent=operon",
        "--output=custom-columns=REASON:.reason,OBJECT:.involvedObject.name,MESSAGE:.message",
    ])?;

    let seen = endpoints.stop()?;
    println!("\n{}", seen.in_words());
    check(&teller, &first, &second)?;
    if seen.lowest < 2 {
        bail!(
            "the Service foo had only {} ready endpoints for a while",
            seen.lowest
        );
    }
    println!(
        "The action that did this is a WebAssembly component that the host loaded from a file of its image; nothing of it is compiled into the host."
    );
    Ok(())
}

/// What the story promises, checked on the objects.
fn check(teller: &Teller<'_>, first: &str, second: &str) -> Result<()> {
    let expect = |path: &str, expected: &str| teller.expect(OBJECT, path, expected);
    expect(".status.progress", "Succeeded")?;
    expect(".status.succeededPodCount", "2")?;
    expect(".status.totalPodCount", "2")?;
    expect(".status.observedGeneration", "2")?;
    if teller.field(OBJECT, ".status.endTimestamp")?.is_empty() {
        bail!("opj-replace has no status.endTimestamp");
    }
    let pods = teller.names("pods", PODS)?;
    for place in 0..2 {
        let new = teller.field(
            OBJECT,
            &format!(".status.targetDetails[{place}].extraInfo.NewPod"),
        )?;
        if !pods.contains(&new) {
            bail!("target {place} names {new:?} as its new pod, which is not there");
        }
    }
    if pods.iter().any(|pod| pod == first || pod == second) || pods.len() != 2 {
        bail!("the pods should be two new ones, but are {pods:?}");
    }
    Ok(())
}

fn two_pods(teller: &Teller<'_>) -> Result<[String; 2]> {
    let pods = teller.names("pods", PODS)?;
    <[String; 2]>::try_from(pods)
        .map_err(|pods| anyhow::anyhow!("foo should have two pods, but has {pods:?}"))
}
