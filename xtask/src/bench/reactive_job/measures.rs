//! What a run of the bench means: the measures that the audit log and the host's process give.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context as _, Result};

use crate::audit::Request;
use crate::bench::load;
use crate::bench::report::{self, HOST, Spent, Writes, count, p50_and_p99, seconds};
use crate::bench::table::Table;

/// What a run costs at most: its Job is created, and the Job before loses its finalizer; the status says
/// that the Job is made, that it runs, and that it succeeded; one Event tells of its start, one of its end.
const STATUSES: usize = 3;
const EVENTS: usize = 2;

/// What was seen beside the audit log.
#[derive(Debug)]
pub(super) struct Run {
    /// How many ReactiveJobs there are.
    pub(super) objects: usize,
    /// Begin and end of the time in which nothing happened.
    pub(super) idle: (f64, f64),
    /// What the host spent on the changes.
    pub(super) spent: Spent,
    /// How many Jobs each ReactiveJob has in the end.
    pub(super) jobs: BTreeMap<String, usize>,
}

/// The measures.
#[derive(Debug)]
pub(super) struct Measures {
    run: Run,
    /// From the first ReactiveJob's creation to the last status before nothing happened, in seconds.
    first_runs: f64,
    /// From the first change to the answer to the last one.
    changing: f64,
    /// From the first change to the last status.
    wall: f64,
    /// All requests that the host sent because of the changes.
    ours: Vec<Request>,
    /// All successful writes from the first change to the last status, whoever sent them.
    all_writes: usize,
    /// What the host asked for while nothing happened.
    idle: Vec<Request>,
    reactions: Reactions,
}

impl Measures {
    /// Takes the measures; the only patches of ReactiveJobs by others are the changes.
    pub(super) fn take(requests: &[Request], run: Run) -> Result<Self> {
        let created = requests
            .iter()
            .find(|r| r.resource == "reactivejobs" && r.verb == "create" && r.succeeded())
            .context("the audit log has no creation of a ReactiveJob")?
            .received;
        let changes: Vec<&Request> = requests.iter().filter(|r| is_change(r)).collect();
        let begin = changes
            .first()
            .context("the audit log has no change of a ReactiveJob")?
            .received;
        let all_changed = changes.iter().map(|r| r.answered).fold(begin, f64::max);
        let last_status = |from: f64, to: f64| {
            let statuses = requests
                .iter()
                .filter(|r| is_status(r) && r.within(from, to));
            statuses
                .map(|r| r.answered)
                .reduce(f64::max)
                .context("no status was written")
        };
        let end = last_status(begin, f64::INFINITY)?;
        Ok(Self {
            first_runs: last_status(created, run.idle.0)? - created,
            changing: all_changed - begin,
            wall: end - begin,
            // Events follow the last status.
            ours: report::ours(requests, begin, f64::INFINITY),
            all_writes: report::writes_of_all(requests, begin, end),
            idle: report::ours(requests, run.idle.0, run.idle.1),
            reactions: Reactions::of(requests, begin),
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
            objects,
            spent,
            idle,
            ..
        } = &self.run;
        report::request_rows(&mut table, &self.ours, "run", *objects);
        report::idle_rows(&mut table, &self.idle, *idle);
        table.row("passes over ReactiveJobs, mean time of one", spent.passes());
        spent.process_rows(&mut table, "the changes", "run", *objects);
        table
    }

    fn outcome(&self, table: &mut Table) {
        let Run { objects, jobs, .. } = &self.run;
        let all: usize = jobs.values().sum();
        let most = jobs.values().max().copied().unwrap_or(0);
        let wanted = objects * 2;
        table.goal(
            "Jobs after one change of each template, most of one ReactiveJob",
            format!("{all}, {most}"),
            &format!("{wanted}, 2: never two for one change"),
            all == wanted && most == 2 && jobs.len() == *objects,
        );
    }

    fn time(&self, table: &mut Table) {
        let runs = count(self.run.objects);
        table.row(
            "time from the first ReactiveJob's creation, one after the other, to the last Ready",
            seconds(self.first_runs),
        );
        table.row(
            format!(
                "time of changing all templates, {} requests at once",
                load::CLIENTS
            ),
            seconds(self.changing),
        );
        table.row(
            "time from the first change to the last Ready",
            seconds(self.wall),
        );
        table.row("runs per second", format!("{:.1}", runs / self.wall));
        let writes = count(self.all_writes);
        table.row(
            "writes of everybody meanwhile, per run and per second",
            format!("{:.1}, {:.0}", writes / runs, writes / self.wall),
        );
        let Reactions {
            made,
            concluded,
            whole,
        } = &self.reactions;
        for (name, times) in [
            ("template changed → its Job's creation, p50, p99", made),
            ("Job finished → status Ready, p50, p99", concluded),
            ("template changed → status Ready, p50, p99", whole),
        ] {
            table.row(name, p50_and_p99(times));
        }
    }

    fn writes(&self, table: &mut Table) {
        let objects = self.run.objects;
        let runs = ("run", objects);
        let jobs = Writes::among(&self.ours, |r| r.concerns("jobs"));
        let (creates, patches) = (jobs.of("create"), jobs.of("patch"));
        jobs.row(
            table,
            "Job writes of ours",
            runs,
            "1 create, at most 1 patch",
            creates == objects && patches <= objects && jobs.done() == creates + patches,
        );
        let statuses = Writes::among(&self.ours, |r| r.resource == "reactivejobs/status");
        statuses.row(
            table,
            "status writes of ours",
            runs,
            &format!("at most {STATUSES}"),
            statuses.done() <= STATUSES * objects,
        );
        let events = Writes::among(&self.ours, |r| r.concerns("events"));
        events.row(
            table,
            "Events of ours",
            runs,
            &format!("at most {EVENTS}"),
            events.done() <= EVENTS * objects,
        );
        let all = report::writes(&self.ours);
        let counted = jobs.all() + statuses.all() + events.all();
        table.goal(
            "other writes of ours (the Lease's apart)",
            (all - counted).to_string(),
            "0",
            all == counted,
        );
    }

    /// What the host asked for because of the changes, grouped.
    pub(super) fn requests(&self) -> String {
        report::groups(&self.ours)
    }
}

/// How soon followed what had to follow, for each ReactiveJob, in seconds.
#[derive(Debug, Default, PartialEq)]
struct Reactions {
    /// From the answer to the change to the request that makes the Job.
    made: Vec<f64>,
    /// From the answer to the last write of the Job's status to the last write of the ReactiveJob's.
    concluded: Vec<f64>,
    /// From the answer to the change to the last write of the ReactiveJob's status.
    whole: Vec<f64>,
}

impl Reactions {
    /// Those to the changes, which began at this moment.
    fn of(requests: &[Request], begin: f64) -> Self {
        let requests: Vec<&Request> = requests
            .iter()
            .filter(|r| r.succeeded() && r.received >= begin)
            .collect();
        let last = |of: fn(&Request) -> bool| -> HashMap<&str, f64> {
            let found = requests.iter().filter(|r| of(r));
            found.map(|r| (r.name.as_str(), r.answered)).collect()
        };
        let (changes, statuses) = (last(is_change), last(is_status));
        let job_statuses = last(|r| r.resource == "jobs/status" && r.user != HOST);
        let made = requests
            .iter()
            .filter(|r| r.resource == "jobs" && r.verb == "create" && r.user == HOST);
        let mut reactions = Self::default();
        for job in made {
            // The Job's name is its ReactiveJob's, a dash, and five characters.
            let object = job.name.rsplit_once('-').map_or("", |(object, _)| object);
            let (Some(change), Some(status)) = (changes.get(object), statuses.get(object)) else {
                continue;
            };
            reactions.made.push(job.received - change);
            reactions.whole.push(status - change);
            let finished = job_statuses.get(job.name.as_str());
            reactions
                .concluded
                .extend(finished.map(|finished| status - finished));
        }
        reactions
    }
}

fn is_change(request: &Request) -> bool {
    request.resource == "reactivejobs"
        && request.verb == "patch"
        && request.user != HOST
        && request.succeeded()
}

fn is_status(request: &Request) -> bool {
    request.resource == "reactivejobs/status" && request.user == HOST && request.succeeded()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::answered as request;

    #[test]
    fn reactions_are_counted_from_the_change_and_from_the_end_of_its_job() {
        let requests = [
            request(
                "job-controller",
                "update",
                "jobs/status",
                "run-0-aaaaa",
                0.0,
            ),
            request("admin", "patch", "reactivejobs", "run-0", 10.0),
            request(HOST, "create", "jobs", "run-0-bbbbb", 11.0),
            request(HOST, "patch", "reactivejobs/status", "run-0", 11.5),
            request(
                "job-controller",
                "update",
                "jobs/status",
                "run-0-bbbbb",
                12.0,
            ),
            request(
                "job-controller",
                "update",
                "jobs/status",
                "run-0-bbbbb",
                13.0,
            ),
            request(HOST, "patch", "reactivejobs/status", "run-0", 14.0),
            request(HOST, "create", "jobs", "run-1-ccccc", 15.0),
        ];
        let expected = Reactions {
            made: vec![0.75],
            concluded: vec![1.0],
            whole: vec![4.0],
        };
        assert_eq!(Reactions::of(&requests, 10.0), expected);
    }
}
