//! What a run of the bench means: the measures that the audit log and the host's process give.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::audit::Request;
use super::load;
use super::machine::Usage;
use super::metrics::Counted;
use super::table::Table;

/// Whom the host is to the API server.
const HOST: &str = "system:serviceaccount:operon-system:operon";

/// What was seen beside the audit log.
#[derive(Debug)]
pub(super) struct Run {
    /// How many targets the job has.
    pub(super) targets: usize,
    /// How long the Deployments took to have all pods Ready.
    pub(super) scale_out: Duration,
    /// Begin and end of the time in which nothing happened.
    pub(super) idle: (f64, f64),
    /// What the host used before the job, and after it.
    pub(super) before: Usage,
    pub(super) after: Usage,
    /// What the host counted while the job ran.
    pub(super) counted: Counted,
    /// The job's counts.
    pub(super) succeeded: u64,
    pub(super) failed: u64,
    /// New pods and the pods that they replaced.
    pub(super) origins: HashMap<String, String>,
    /// Patches a second of a plain client.
    pub(super) limit: Option<f64>,
}

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
        let ours = |from, to| {
            requests
                .iter()
                .filter(move |r| r.user == HOST && r.within(from, to))
                .cloned()
        };
        let (reactions, after_claim) = reactions(requests, &run.origins);
        Ok(Self {
            wall: end - begin,
            ours: ours(begin, last).collect(),
            all_writes: requests
                .iter()
                .filter(|r| r.is_write() && r.succeeded() && r.within(begin, end))
                .count(),
            idle: ours(run.idle.0, run.idle.1).collect(),
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
            format!("{succeeded}, {failed}"),
            "all succeed",
            met,
        );
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
            table.row(
                name,
                format!(
                    "{}, {}",
                    seconds(percentile(times, 50)),
                    seconds(percentile(times, 99))
                ),
            );
        }
    }

    fn writes(&self, table: &mut Table) {
        let pods = |r: &&Request| r.concerns("pods") && r.is_write();
        let (done, refused): (Vec<_>, Vec<_>) =
            self.ours.iter().filter(pods).partition(|r| r.succeeded());
        let per_target = self.per_target(done.len());
        let mut verbs: BTreeMap<&str, usize> = BTreeMap::new();
        for request in done {
            *verbs.entry(&request.verb).or_default() += 1;
        }
        let verbs: Vec<String> = verbs
            .iter()
            .map(|(verb, count)| format!("{count} {verb}"))
            .collect();
        let refused = refused.len();
        table.goal(
            "pod writes of ours per target",
            format!(
                "{per_target:.2} ({}); {refused} more were refused",
                verbs.join(", ")
            ),
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
        let reads = |requests: &[Request]| {
            requests
                .iter()
                .filter(|r| r.is_read() && !is_lease(r))
                .count()
        };
        table.goal(
            "GETs and LISTs of ours, caches being full",
            reads(&self.ours).to_string(),
            "0",
            reads(&self.ours) == 0,
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
        let Run {
            before,
            after,
            counted,
            ..
        } = &self.run;
        let mean = |time: f64, count: f64| seconds(time / count.max(1.0));
        table.row(
            "passes over the job, mean time of one",
            format!(
                "{:.0}, {}",
                counted.passes,
                mean(counted.pass_time, counted.passes)
            ),
        );
        table.row(
            "calls of the action, mean time of one",
            format!(
                "{:.0}, {}",
                counted.calls,
                mean(counted.call_time, counted.calls)
            ),
        );
        let cpu = after.cpu - before.cpu;
        let per_target = 1000.0 * cpu / count(self.run.targets);
        table.row(
            "the host's processor time for the job",
            format!("{}, {per_target:.1} ms per target", seconds(cpu)),
        );
        table.row(
            "the host's processor time before the job",
            seconds(before.cpu),
        );
        table.row(
            "the host's resident memory before and after the job",
            format!("{:.0} MiB, {:.0} MiB", before.rss, after.rss),
        );
        table.goal(
            "the host's peak resident memory",
            format!("{:.0} MiB", after.peak_rss),
            "below 96 MiB",
            after.peak_rss < 96.0,
        );
    }

    /// What the host asked for because of the job, grouped.
    pub(super) fn requests(&self) -> String {
        let mut groups: BTreeMap<(&str, &str, &str, u64), usize> = BTreeMap::new();
        for request in &self.ours {
            let account = request.acting_as.as_deref().unwrap_or(&request.user);
            let account = account.rsplit(':').next().unwrap_or_default();
            *groups
                .entry((account, &request.verb, &request.resource, request.code))
                .or_default() += 1;
        }
        let mut text = String::from(
            "| ServiceAccount | verb | resource | status | requests |\n|---|---|---|---|---|\n",
        );
        for ((account, verb, resource, code), count) in groups {
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "| {account} | {verb} | {resource} | {code} | {count} |"
            );
        }
        text
    }

    fn per_target(&self, requests: usize) -> f64 {
        count(requests) / count(self.run.targets)
    }
}

/// How long origins were deleted after their new pods were Ready, and after they were claimed as well.
fn reactions(requests: &[Request], origins: &HashMap<String, String>) -> (Vec<f64>, Vec<f64>) {
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
            ("delete", "pods", true) => {
                deleted.entry(name).or_insert(request.received);
            }
            _ => {}
        }
    }
    let mut both: (Vec<f64>, Vec<f64>) = origins
        .iter()
        .filter_map(|(new_pod, origin)| {
            let ready = ready.get(new_pod.as_str())?;
            let deleted = deleted.get(origin.as_str())?;
            let claimed = claimed.get(new_pod.as_str())?.max(*ready);
            Some((deleted - ready, deleted - claimed))
        })
        .unzip();
    both.0.sort_by(f64::total_cmp);
    both.1.sort_by(f64::total_cmp);
    both
}

fn is_lease(request: &Request) -> bool {
    request.concerns("leases")
}

fn percentile(sorted: &[f64], percent: usize) -> f64 {
    sorted
        .get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1)))
        .copied()
        .unwrap_or(f64::NAN)
}

fn seconds(time: f64) -> String {
    if time.abs() < 0.01 {
        format!("{:.2} ms", time * 1000.0)
    } else if time.abs() < 1.0 {
        format!("{:.0} ms", time * 1000.0)
    } else {
        format!("{time:.2} s")
    }
}

fn count(number: usize) -> f64 {
    u32::try_from(number).map_or(f64::MAX, f64::from)
}
