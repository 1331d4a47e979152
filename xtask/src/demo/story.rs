//! The stories, step by step.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use operon_devcluster::{Cluster, Progress, output_of};

use super::watch::EndpointWatch;
use crate::tools;

/// Two pods behind a Service, one of which takes a moment to become ready.
const FOO: &str = include_str!("../../../examples/replace/deployment.yaml");

/// The job, with the pods' names to fill in.
const JOB: &str = include_str!("../../../examples/replace/operationjob.yaml");

/// How long a step may take.
const PATIENCE: Duration = Duration::from_mins(2);

/// The seed's story: two pods, replaced one after the other.
pub(crate) fn replace(cluster: &Cluster, progress: &Progress) -> Result<()> {
    let teller = Teller { cluster, progress };
    println!("\n── A Deployment of two pods, behind a Service ──");
    teller.quietly(&[
        "delete",
        "opj",
        "opj-replace",
        "--ignore-not-found",
        "--wait",
    ])?;
    teller.apply("deployment.yaml", FOO)?;
    teller.quietly(&["rollout", "status", "deployment/foo", "--timeout=120s"])?;
    teller.show(&["get", "pods", "--selector=app=foo"])?;
    teller.show(&["get", "actionplugins"])?;
    let endpoints = EndpointWatch::start(cluster, progress, "foo", 2)?;

    println!("\n── An OperationJob replaces the first of them (partition: 1) ──");
    let [first, second] = teller.two_pods()?;
    let job = JOB
        .replace("foo-jttd5", &first)
        .replace("foo-752sz", &second);
    println!("{}", indented(&job));
    teller.apply("operationjob.yaml", &job)?;
    teller.until("the new pod to appear", |t| Ok(t.pods()?.len() >= 3))?;
    teller.show(&["get", "opj"])?;
    teller.show(&["get", "pods", "--selector=app=foo"])?;
    teller.until("the first target to be replaced", |t| {
        Ok(t.field(".status.succeededPodCount")? == "1")
    })?;
    teller.until("the first pod to be gone", |t| {
        Ok(!t.pods()?.contains(&first))
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
        "The action that did this is a WebAssembly component in ConfigMap action-replace; nothing of it is compiled into the host."
    );
    Ok(())
}

/// What the story promises, checked on the objects.
fn check(teller: &Teller<'_>, first: &str, second: &str) -> Result<()> {
    let expect = |field: &str, expected: &str| -> Result<()> {
        let found = teller.field(field)?;
        if found != expected {
            bail!("{field} of opj-replace is {found:?}, not {expected:?}");
        }
        Ok(())
    };
    expect(".status.progress", "Succeeded")?;
    expect(".status.succeededPodCount", "2")?;
    expect(".status.totalPodCount", "2")?;
    expect(".status.observedGeneration", "2")?;
    if teller.field(".status.endTimestamp")?.is_empty() {
        bail!("opj-replace has no status.endTimestamp");
    }
    let pods = teller.pods()?;
    for place in 0..2 {
        let new = teller.field(&format!(".status.targetDetails[{place}].extraInfo.NewPod"))?;
        if !pods.contains(&new) {
            bail!("target {place} names {new:?} as its new pod, which is not there");
        }
    }
    if pods.iter().any(|pod| pod == first || pod == second) || pods.len() != 2 {
        bail!("the pods should be two new ones, but are {pods:?}");
    }
    Ok(())
}

/// Runs kubectl and prints what a user would see.
struct Teller<'a> {
    cluster: &'a Cluster,
    progress: &'a Progress,
}

impl Teller<'_> {
    fn kubectl(&self, arguments: &[&str]) -> Result<Command> {
        let mut kubectl = self.cluster.kubectl(self.progress)?;
        kubectl.args(arguments);
        Ok(kubectl)
    }

    fn quietly(&self, arguments: &[&str]) -> Result<String> {
        output_of(&mut self.kubectl(arguments)?)
    }

    fn show(&self, arguments: &[&str]) -> Result<()> {
        println!("\n$ kubectl {}", arguments.join(" "));
        print!("{}", self.quietly(arguments)?);
        Ok(())
    }

    fn apply(&self, file: &str, manifest: &str) -> Result<()> {
        let folder = self
            .cluster
            .state_dir()
            .unwrap_or_else(|| tools::target_dir().join("demo"));
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("failed to create {}", folder.display()))?;
        let path = folder.join(file);
        std::fs::write(&path, manifest)
            .with_context(|| format!("failed to write {}", path.display()))?;
        println!("\n$ kubectl apply -f {file}");
        let path = path.to_string_lossy();
        print!("{}", self.quietly(&["apply", "--filename", &path])?);
        Ok(())
    }

    fn pods(&self) -> Result<Vec<String>> {
        let names = self.quietly(&[
            "get",
            "pods",
            "--selector=app=foo",
            "--output=jsonpath={.items[*].metadata.name}",
        ])?;
        Ok(names.split_whitespace().map(str::to_owned).collect())
    }

    fn two_pods(&self) -> Result<[String; 2]> {
        let pods = self.pods()?;
        <[String; 2]>::try_from(pods)
            .map_err(|pods| anyhow::anyhow!("foo should have two pods, but has {pods:?}"))
    }

    fn field(&self, path: &str) -> Result<String> {
        self.quietly(&[
            "get",
            "opj",
            "opj-replace",
            &format!("--output=jsonpath={{{path}}}"),
        ])
    }

    fn until(&self, what: &str, done: impl Fn(&Self) -> Result<bool>) -> Result<()> {
        let begin = Instant::now();
        while !done(self)? {
            if begin.elapsed() > PATIENCE {
                bail!("gave up waiting for {what} after {} s", PATIENCE.as_secs());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }
}

fn indented(text: &str) -> String {
    text.lines()
        .fold(String::new(), |text, line| text + "    " + line + "\n")
}
