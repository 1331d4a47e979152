//! What a run of the bench means: the measures that the audit log and the host's process give.

use std::collections::{BTreeSet, HashMap};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::audit::Request;
use crate::bench::report::{self, HOST, Spent, Writes, count, p50_and_p99, seconds};
use crate::bench::table::Table;

/// What was seen beside the audit log.
#[derive(Debug)]
pub(super) struct Run {
    /// The names of the nodes.
    pub(super) nodes: Vec<String>,
    /// What the host spent on the DaemonJob.
    pub(super) spent: Spent,
    /// Begin and end of the time in which nothing happened.
    pub(super) idle: (f64, f64),
    /// The Jobs that there are in the end.
    pub(super) jobs: Vec<Value>,
    /// The DaemonJob as it is in the end.
    pub(super) objects: Vec<Value>,
}

/// The measures.
#[derive(Debug)]
pub(super) struct Measures {
    run: Run,
    times: Times,
    /// All requests that the host sent because of the DaemonJob.
    ours: Vec<Request>,
    /// All successful writes while it ran, whoever sent them; without the nodes' Leases.
    all_writes: usize,
    /// What the host asked for while nothing happened.
    idle: Vec<Request>,
}

/// When it was what, in seconds since its creation.
#[derive(Debug, Default, PartialEq)]
struct Times {
    /// The first Job was asked for; the last was made.
    first_asked: f64,
    last_made: f64,
    /// The last Job was Complete.
    last_complete: f64,
    /// The last status was written.
    end: f64,
    /// The API server's time for one creation of a Job.
    creation: Vec<f64>,
}

impl Measures {
    /// Takes the measures of the DaemonJob.
    pub(super) fn take(requests: &[Request], run: Run) -> Result<Self> {
        let begin = requests
            .iter()
            .find(|r| r.resource == "daemonjobs" && r.verb == "create" && r.succeeded())
            .context("the audit log has no creation of the DaemonJob")?
            .received;
        let times = Times::of(requests, begin)?;
        let others: Vec<Request> = requests
            .iter()
            .filter(|r| !report::is_lease(r))
            .cloned()
            .collect();
        Ok(Self {
            ours: report::ours(requests, begin, run.idle.0),
            all_writes: report::writes_of_all(&others, begin, begin + times.end),
            idle: report::ours(requests, run.idle.0, run.idle.1),
            times,
            run,
        })
    }

    /// The table.
    pub(super) fn table(&self) -> Table {
        let mut table = Table::default();
        self.outcome(&mut table);
        self.time(&mut table);
        self.writes(&mut table);
        let Run {
            nodes,
            spent,
            idle,
            objects,
            ..
        } = &self.run;
        report::request_rows(&mut table, &self.ours, "node", nodes.len());
        report::idle_rows(&mut table, &self.idle, *idle);
        report::size_row(&mut table, objects);
        table.row(
            "passes over the DaemonJob, mean time of one",
            spent.passes(),
        );
        spent.process_rows(&mut table, "the DaemonJob", "node", nodes.len());
        table
    }

    fn outcome(&self, table: &mut Table) {
        let Run {
            nodes,
            jobs,
            objects,
            ..
        } = &self.run;
        let succeeded = objects
            .iter()
            .filter_map(|object| object["status"]["succeeded"].as_u64())
            .sum::<u64>();
        table.goal(
            "nodes on which it succeeded",
            succeeded.to_string(),
            "all",
            usize::try_from(succeeded).is_ok_and(|number| number == nodes.len()),
        );
        let wanted: BTreeSet<String> = nodes.iter().map(|node| format!("bench-{node}")).collect();
        let there = jobs
            .iter()
            .filter_map(|job| job["metadata"]["name"].as_str());
        let there: BTreeSet<String> = there.map(str::to_owned).collect();
        table.goal(
            "nodes, Jobs",
            format!("{}, {}", nodes.len(), jobs.len()),
            "one for each node",
            there == wanted && jobs.len() == nodes.len(),
        );
    }

    fn time(&self, table: &mut Table) {
        let Times {
            first_asked,
            last_made,
            last_complete,
            end,
            creation,
        } = &self.times;
        let nodes = count(self.run.nodes.len());
        table.row(
            "time from its creation to the first Job's, to the last Job's",
            format!("{}, {}", seconds(*first_asked), seconds(*last_made)),
        );
        table.row(
            "the API server's time for one creation of a Job, p50, p99",
            p50_and_p99(creation),
        );
        table.row(
            "time from its creation to the last Job's being Complete, to the last status",
            format!("{}, {}", seconds(*last_complete), seconds(*end)),
        );
        table.row("nodes per second", format!("{:.1}", nodes / end));
        let writes = count(self.all_writes);
        table.row(
            "writes of everybody meanwhile (the Leases' apart), per node and per second",
            format!("{:.1}, {:.0}", writes / nodes, writes / end),
        );
    }

    fn writes(&self, table: &mut Table) {
        let nodes = self.run.nodes.len();
        let per_node = ("node", nodes);
        let jobs = Writes::among(&self.ours, |r| r.concerns("jobs"));
        jobs.row(
            table,
            "Job writes of ours",
            per_node,
            "1 create",
            jobs.of("create") == nodes && jobs.done() == nodes,
        );
        let is_status = |r: &Request| r.resource == "daemonjobs/status";
        let statuses = Writes::among(&self.ours, is_status);
        let gap = report::shortest_interval(self.ours.iter().filter(|r| is_status(r)));
        table.goal(
            "status writes of ours, shortest interval",
            format!(
                "{}, {}",
                statuses.done(),
                gap.map_or("none".to_owned(), seconds)
            ),
            "at most one a second",
            gap.is_none_or(|gap| gap >= 1.0),
        );
        let events = Writes::among(&self.ours, |r| r.concerns("events"));
        table.row("Events", events.done().to_string());
        let all = report::writes(&self.ours);
        let counted = jobs.all() + statuses.all() + events.all();
        table.goal(
            "other writes of ours (the Lease's apart)",
            (all - counted).to_string(),
            "0",
            all == counted,
        );
    }

    /// What the host asked for because of the DaemonJob, grouped.
    pub(super) fn requests(&self) -> String {
        report::groups(&self.ours)
    }
}

impl Times {
    /// Those of the DaemonJob that was created at this moment. A Job is Complete by the last write of its
    /// status.
    fn of(requests: &[Request], begin: f64) -> Result<Self> {
        let succeeded = || requests.iter().filter(|r| r.succeeded());
        let is_made = |r: &&Request| r.resource == "jobs" && r.verb == "create" && r.user == HOST;
        let made: Vec<&Request> = succeeded().filter(is_made).collect();
        let names: HashMap<&str, &Request> = made.iter().map(|r| (r.name.as_str(), *r)).collect();
        let is_complete = |r: &&Request| {
            r.resource == "jobs/status" && r.user != HOST && names.contains_key(r.name.as_str())
        };
        let is_status = |r: &&Request| r.resource == "daemonjobs/status" && r.user == HOST;
        let last = |moments: &mut dyn Iterator<Item = f64>, what: &str| {
            let last = moments.reduce(f64::max);
            let last = last.with_context(|| format!("the audit log has no {what}"))?;
            anyhow::Ok(last - begin)
        };
        let first = made.iter().map(|r| r.received).reduce(f64::min);
        Ok(Self {
            first_asked: first.context("the audit log has no creation of a Job")? - begin,
            last_made: last(&mut made.iter().map(|r| r.answered), "creation of a Job")?,
            last_complete: last(
                &mut succeeded().filter(is_complete).map(|r| r.answered),
                "status of a Job",
            )?,
            end: last(
                &mut succeeded().filter(is_status).map(|r| r.answered),
                "status of the DaemonJob",
            )?,
            creation: made.iter().map(|r| r.answered - r.received).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::answered as request;

    #[test]
    fn times_are_counted_from_the_daemon_jobs_creation() -> Result<()> {
        let requests = [
            request("job-controller", "update", "jobs/status", "other", 9.0),
            request(HOST, "create", "jobs", "bench-a", 10.5),
            request(HOST, "create", "jobs", "bench-b", 11.0),
            request("job-controller", "update", "jobs/status", "bench-a", 12.0),
            request("job-controller", "update", "jobs/status", "bench-b", 13.0),
            request(HOST, "patch", "daemonjobs/status", "bench", 14.0),
            request("job-controller", "update", "jobs/status", "other", 15.0),
        ];
        let expected = Times {
            first_asked: 0.5,
            last_made: 1.25,
            last_complete: 3.25,
            end: 4.25,
            creation: vec![0.25, 0.25],
        };
        assert_eq!(Times::of(&requests, 10.0)?, expected);
        assert!(Times::of(&requests[..1], 10.0).is_err());
        Ok(())
    }
}
