//! Many CollaSets are scaled out, all their pods are replaced by one OperationJob, and then updated in
//! place: the throughput of each, and what it costs.
//!
//! The cluster is new, its nodes are simulated, and the host is installed by its chart. What the host
//! asked of the API server is read off the audit log afterwards, so measuring it costs it nothing.

mod measures;

use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use operon_devcluster::Progress;
use serde_json::{Value, json};

use self::measures::{Measures, Phase, Run};
use super::load;
use super::operation_job::{containers, number, pods, replace};
use super::test_bed::{NAMESPACE, NODES, Setup, TestBed, now};

/// How long nothing happens.
const IDLE: Duration = Duration::from_mins(1);

/// How often is looked how far the CollaSets are: the moment itself is in the audit log.
const PAUSE: Duration = Duration::from_secs(2);

/// Where CollaSets are in the API.
const PATH: &str = "/apis/apps.kusionstack.io/v1alpha1/namespaces";

/// How large the bench is.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// How many pods there are
    #[arg(long, default_value_t = 1000)]
    pods: usize,
    /// How many CollaSets they belong to
    #[arg(long, default_value_t = 20)]
    sets: usize,
    #[command(flatten)]
    setup: Setup,
}

/// Brings up the cluster, measures, and prints the tables.
pub(super) fn run(arguments: &Arguments, progress: &Progress) -> Result<()> {
    let Arguments { pods, sets, setup } = arguments;
    if *sets == 0 || *pods == 0 || !pods.is_multiple_of(*sets) {
        bail!("--pods must be a multiple of --sets: each has the same number of pods");
    }
    let command = format!("collaset --pods {pods} --sets {sets}");
    let prepared = setup.prepare(&command, progress)?;
    let (headline, measures) =
        prepared.on_a_new_cluster("", NODES, |bed| Bench { arguments, bed }.run())?;
    println!("{headline}\n");
    println!("{}", measures.text());
    Ok(())
}

/// A bench under way.
struct Bench<'a> {
    arguments: &'a Arguments,
    bed: &'a TestBed<'a>,
}

impl Bench<'_> {
    fn run(&self) -> Result<Measures> {
        let Self { arguments, bed } = *self;
        let items: Vec<Value> = self.names().map(|name| colla_set(&name)).collect();
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
        bed.create("bench-collasets.json", &list)?;
        bed.until_quiet()?;
        let out = self.phase("created", "collasets/status", || self.scale_out())?;
        let replaced = self.phase("replaced", "operationjobs/status", || {
            let status = replace(bed, "bench", &pods(bed)?, None)?;
            Ok(usize::try_from(number(&status, "succeededPodCount"))?)
        })?;
        let updated = self.phase("updated in place", "collasets/status", || self.update())?;
        let idle = bed.idle(IDLE)?;
        bed.progress.say(format!(
            "a plain client patches pods, {} requests at once",
            load::CLIENTS
        ));
        let run = Run {
            pods: arguments.pods,
            phases: vec![out, replaced, updated],
            idle,
            limit: load::patches_per_second(bed.cluster, NAMESPACE, &pods(bed)?)?,
        };
        Measures::take(&bed.requests()?, run)
    }

    /// Does this to all pods, and waits until the host is quiet. `work` returns with how many it was done.
    fn phase(
        &self,
        what: &'static str,
        last: &'static str,
        work: impl FnOnce() -> Result<usize>,
    ) -> Result<Phase> {
        let begin = now()?;
        let (done, spent) = self.bed.spending("collaset", work)?;
        Ok(Phase {
            what,
            last,
            window: (begin, now()?),
            done,
            spent,
        })
    }

    fn names(&self) -> impl Iterator<Item = String> {
        (0..self.arguments.sets).map(|number| format!("app-{number:02}"))
    }

    fn scale_out(&self) -> Result<usize> {
        let Arguments { pods, sets, .. } = self.arguments;
        let replicas = pods / sets;
        self.patch_all(&json!({"spec": {"replicas": replicas}}))?;
        self.until_settled("available", "{.status.availableReplicas}")
    }

    fn update(&self) -> Result<usize> {
        self.patch_all(
            &json!({"spec": {"template": {"spec": {"containers": containers("2.0")}}}}),
        )?;
        self.until_settled("updated", "{.status.updatedAvailableReplicas}")
    }

    /// Changes all CollaSets.
    fn patch_all(&self, body: &Value) -> Result<()> {
        let names = self.names();
        let paths: Vec<String> = names
            .map(|name| format!("{PATH}/{NAMESPACE}/collasets/{name}"))
            .collect();
        load::patch_all(self.bed.cluster, &paths, &body.to_string())
    }

    /// Waits until all statuses, about the present generation, count all pods there.
    fn until_settled(&self, what: &str, field: &str) -> Result<usize> {
        let wanted = self.arguments.pods;
        let path = format!(
            r#"--output=jsonpath={{range .items[*]}}{{.metadata.generation}} {{.status.observedGeneration}} {field}{{"\n"}}{{end}}"#
        );
        let mut count = 0;
        self.bed.until(
            &format!("{wanted} pods of CollaSets to be {what}"),
            PAUSE,
            || {
                count = self.bed.get(&["collasets", &path])?.lines().map(counted).sum();
                let usage = self.bed.usage()?;
                let state = format!(
                    "{count} of {wanted} are {what}; the host used {:.1} s of a processor and has {:.0} MiB",
                    usage.cpu, usage.rss
                );
                Ok((count == wanted, state))
            },
        )?;
        Ok(count)
    }
}

/// The count in a line with a generation, the observed one, and a count; 0 if they are not the same.
fn counted(line: &str) -> usize {
    let mut words = line.split(' ');
    let (generation, observed) = (words.next(), words.next());
    let count = words.next().and_then(|count| count.parse().ok());
    count.filter(|_| generation == observed).unwrap_or_default()
}

/// A CollaSet as people write them, without pods yet.
fn colla_set(name: &str) -> Value {
    json!({
        "apiVersion": "apps.kusionstack.io/v1alpha1",
        "kind": "CollaSet",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app.kubernetes.io/name": name}},
            "template": {
                "metadata": {"labels": {"app.kubernetes.io/name": name, "team": "bench"}},
                "spec": {"containers": containers("1.0")}
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_about_an_older_generation_does_not_count() {
        let lines = [
            ("2 2 50", 50),
            ("2 1 50", 0),
            ("2 2 ", 0),
            ("1  ", 0),
            ("", 0),
        ];
        for (line, expected) in lines {
            assert_eq!(counted(line), expected, "{line}");
        }
    }
}
