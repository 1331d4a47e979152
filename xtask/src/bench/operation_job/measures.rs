//! What a run of the bench means: the measures that the audit log and the host's process give.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::audit::Request;
use crate::bench::load;
use crate::bench::report::{self, HOST, Spent, Writes, count, is_lease, p50_and_p99, seconds};
use crate::bench::table::Table;

/// What was seen beside the audit log.
#[derive(Debug)]
pub(super) struct Run {
    /// How many targets the job has.
    pub(super) targets: usize,
    /// How long the Deployments took to have all pods Ready.
    pub(super) scale_out: Duration,
    /// Begin and end of the time in which nothing happened.
    pub(super) idle: (f64, f64),
    /// What the host spent on the job.
    pub(super) spent: Spent,
    /// The job's counts.
    pub(super) succeeded: u64,
    /// The failed targets, with their errors.
    pub(super) failed: Vec<String>,
    /// New pods and the pods that they replaced.
    pub(super) origins: HashMap<String, String>,
    /// Patches a second of a plain client.
    pub(super) limit: Option<f64>,
}

/// How many failed targets the table names.
const SHOWN: usize = 5;

/// The measures.
#[derive(Debug)]
pub(super) struct Measures {
    run: Run,
    /// From the job's creation to the status that says that it ended, in seconds.
    wall: f64,
    /// All requests that the host sent because of the job.
    ours: Vec<Request>,
    /// All successful writes while the job ran, whoever sent them.
    all_writes: usize,
    /// What the host asked for while nothing happened.
    idle: Vec<Request>,
    /// From a new pod's being Ready, and from its being Ready and claimed, to its origin's deletion.
    reactions: Vec<f64>,
    after_claim: Vec<f64>,
}

impl Measures {
    /// Takes the measures of the job named `bench`.
    pub(super) fn take(requests: &[Request], run: Run) -> Result<Self> {
        let jobs = |r: &&Request| r.concerns("operationjobs") && r.succeeded();
        let created = requests.iter().filter(jobs).find(|r| r.verb == "create");
        let begin = created
            .context("the audit log has no creation of the job")?
            .received;
        let statuses =
            |r: &&Request| jobs(r) && r.resource == "operationjobs/status" && r.user == HOST;
        let end = requests
            .iter()
            .rev()
            .find(statuses)
            .context("the job's status was never written")?
            .answered;
        // Events follow the last status.
        let last = end + 5.0;
        let (reactions, after_claim) = reactions(requests, &run.origins);
        Ok(Self {
            wall: end - begin,
            ours: report::ours(requests, begin, last),
            all_writes: report::writes_of_all(requests, begin, end),
            idle: report::ours(requests, run.idle.0, run.idle.1),
            reactions,
            after_claim,
            run,
        })
    }

    /// The table.
    pub(super) fn table(&self) -> Table {
        let mut table = Table::default();
        self.time(&mut table);
        self.writes(&mut table);
        self.reads(&mut table);
        self.process(&mut table);
        table
    }

    fn time(&self, table: &mut Table) {
        let Run {
            targets,
            succeeded,
            failed,
            ..
        } = &self.run;
        let met = usize::try_from(*succeeded).is_ok_and(|count| count == *targets);
        let rate = count(*targets) / self.wall;
        table.goal(
            "targets Succeeded, Failed",
            format!("{succeeded}, {}", failed.len()),
            "all succeed",
            met,
        );
        for target in failed.iter().take(SHOWN) {
            table.row("a failed target", target.clone());
        }
        table.row(
            "the Deployments' scale-out before, by Kubernetes alone",
            seconds(self.run.scale_out.as_secs_f64()),
        );
        table.row(
            "time from the job's creation to its end",
            seconds(self.wall),
        );
        table.row("targets per second", format!("{rate:.1}"));
        let writes = count(self.all_writes);
        let per_second = writes / self.wall;
        table.row(
            "writes of everybody meanwhile, per target and per second",
            format!("{:.1}, {per_second:.0}", writes / count(*targets)),
        );
        let name = format!(
            "pod patches per second from {} plain clients, afterwards",
            load::CLIENTS
        );
        table.row(
            name,
            self.run
                .limit
                .map_or("no curl here".to_owned(), |limit| format!("{limit:.0}")),
        );
        for (name, times) in [
            (
                "new pod Ready → its origin's deletion, p50, p99",
                &self.reactions,
            ),
            (
                "new pod Ready and claimed → its origin's deletion, p50, p99",
                &self.after_claim,
            ),
        ] {
            table.row(name, p50_and_p99(times));
        }
    }

    fn writes(&self, table: &mut Table) {
        let pods = Writes::among(&self.ours, |r| r.concerns("pods"));
        let (verbs, refused) = (pods.by_verb(), pods.refused);
        let per_target = self.per_target(pods.done());
        table.goal(
            "pod writes of ours per target",
            format!("{per_target:.2} ({verbs}); {refused} more were refused"),
            "at most 3",
            per_target < 3.005,
        );
        let statuses: Vec<&Request> = self
            .ours
            .iter()
            .filter(|r| r.resource == "operationjobs/status")
            .collect();
        let gaps = statuses.windows(2).filter_map(|pair| match pair {
            [first, second] => Some(second.received - first.received),
            _ => None,
        });
        let shortest = gaps.fold(f64::INFINITY, f64::min);
        table.goal(
            "writes of the job's status, shortest interval",
            format!("{}, {}", statuses.len(), seconds(shortest)),
            "at most one a second",
            shortest >= 1.0,
        );
        let events = self
            .ours
            .iter()
            .filter(|r| r.concerns("events") && r.is_write())
            .count();
        table.row(
            "Events, per target",
            format!("{events}, {:.2}", self.per_target(events)),
        );
    }

    fn reads(&self, table: &mut Table) {
        let ours = self.ours.iter().cloned();
        let is_fresh = |r: &Request| r.verb == "get" && r.acting_as.is_some();
        let (fresh, others): (Vec<_>, Vec<_>) = ours.partition(is_fresh);
        table.row(
            "GETs as an action, beside its effects, per target",
            format!("{:.2}", self.per_target(report::reads(&fresh))),
        );
        let reads = report::reads(&others);
        table.goal(
            "other GETs and LISTs of ours, caches being full",
            reads.to_string(),
            "0",
            reads == 0,
        );
        let requests = self.ours.iter().filter(|r| !is_lease(r)).count();
        table.row(
            "requests of ours per target, all together",
            format!("{:.2}", self.per_target(requests)),
        );
        let idle = self
            .idle
            .iter()
            .filter(|r| !is_lease(r) && r.verb != "watch")
            .count();
        table.goal(
            "requests of ours while nothing happens (the Lease's apart)",
            format!("{idle} in {:.0} s", self.run.idle.1 - self.run.idle.0),
            "0",
            idle == 0,
        );
    }

    fn process(&self, table: &mut Table) {
        let Run { spent, targets, .. } = &self.run;
        table.row("passes over the job, mean time of one", spent.passes());
        table.row("calls of the action, mean time of one", spent.calls());
        table.row(
            "calls of the action per target, by cause",
            spent.calls_by_cause(*targets),
        );
        spent.process_rows(table, "the job", "target", *targets);
    }

    /// What the host asked for because of the job, grouped.
    pub(super) fn requests(&self) -> String {
        report::groups(&self.ours)
    }

    fn per_target(&self, requests: usize) -> f64 {
        count(requests) / count(self.run.targets)
    }
}

/// How long origins were deleted, or evicted, after their new pods were Ready, and after they were claimed as well.
pub(in crate::bench) fn reactions(
    requests: &[Request],
    origins: &HashMap<String, String>,
) -> (Vec<f64>, Vec<f64>) {
    let mut ready: HashMap<&str, f64> = HashMap::new();
    let mut claimed: HashMap<&str, f64> = HashMap::new();
    let mut deleted: HashMap<&str, f64> = HashMap::new();
    for request in requests.iter().filter(|r| r.succeeded()) {
        let name = request.name.as_str();
        match (
            request.verb.as_str(),
            request.resource.as_str(),
            request.user == HOST,
        ) {
            // The simulated kubelet says in its first report that the pod is Ready.
            ("patch", "pods/status", false) if request.user == "kwok" => {
                ready.entry(name).or_insert(request.answered);
            }
            ("patch", "pods", true) => {
                claimed.entry(name).or_insert(request.answered);
            }
            ("delete", "pods", true) | ("create", "pods/eviction", true) => {
                deleted.entry(name).or_insert(request.received);
            }
            _ => {}
        }
    }
    origins
        .iter()
        .filter_map(|(new_pod, origin)| {
            let ready = ready.get(new_pod.as_str())?;
            let deleted = deleted.get(origin.as_str())?;
            let claimed = claimed.get(new_pod.as_str())?.max(*ready);
            Some((deleted - ready, deleted - claimed))
        })
        .unzip()
}
