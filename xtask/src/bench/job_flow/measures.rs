//! What a run of the bench means: the measures that the audit log and the host's process give.

use std::collections::{BTreeSet, HashMap};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::flow::Flow;
use crate::bench::audit::Request;
use crate::bench::report::{self, HOST, Spent, Writes, count, p50_and_p99, percentile, seconds};
use crate::bench::table::Table;

/// In 99 of 100 cases a step follows within this time, in seconds.
const FOLLOW_GOAL: f64 = 0.1;

/// What was seen beside the audit log.
#[derive(Debug)]
pub(super) struct Run {
    /// The flows as they were made.
    pub(super) flows: Vec<Flow>,
    /// What the host spent on them.
    pub(super) spent: Spent,
    /// Begin and end of the time in which nothing happened.
    pub(super) idle: (f64, f64),
    /// The names of the Jobs that there are in the end.
    pub(super) jobs: Vec<String>,
    /// The flows as they are in the end.
    pub(super) objects: Vec<Value>,
}

/// The measures.
#[derive(Debug)]
pub(super) struct Measures {
    run: Run,
    /// From the first flow's creation to the last status, in seconds.
    wall: f64,
    /// All requests that the host sent because of the flows.
    ours: Vec<Request>,
    /// All successful writes from the first flow's creation to the last status, whoever sent them.
    all_writes: usize,
    /// What the host asked for while nothing happened.
    idle: Vec<Request>,
    reactions: Reactions,
}

impl Measures {
    /// Takes the measures.
    pub(super) fn take(requests: &[Request], run: Run) -> Result<Self> {
        let begin = requests
            .iter()
            .find(|r| is_creation(r))
            .context("the audit log has no creation of a JobFlow")?
            .received;
        let statuses = requests.iter().filter(|r| is_status(r));
        let end = statuses
            .map(|r| r.answered)
            .reduce(f64::max)
            .context("no status was written")?;
        Ok(Self {
            wall: end - begin,
            ours: report::ours(requests, begin, run.idle.0),
            all_writes: report::writes_of_all(requests, begin, end),
            idle: report::ours(requests, run.idle.0, run.idle.1),
            reactions: Reactions::of(requests, &run.flows),
            run,
        })
    }

    /// The table.
    pub(super) fn table(&self) -> Table {
        let mut table = Table::default();
        self.outcome(&mut table);
        self.time(&mut table);
        self.follow(&mut table);
        self.writes(&mut table);
        let Run {
            spent,
            idle,
            objects,
            ..
        } = &self.run;
        report::request_rows(&mut table, &self.ours, "step", self.steps());
        report::idle_rows(&mut table, &self.idle, *idle);
        report::size_row(&mut table, objects);
        table.row("passes over JobFlows, mean time of one", spent.passes());
        spent.process_rows(&mut table, "the flows", "step", self.steps());
        table
    }

    fn outcome(&self, table: &mut Table) {
        let Run {
            flows,
            jobs,
            objects,
            ..
        } = &self.run;
        let succeeded = objects
            .iter()
            .filter(|object| object["status"]["state"] == "Succeed")
            .count();
        table.goal(
            "flows that succeeded",
            succeeded.to_string(),
            "all",
            succeeded == flows.len(),
        );
        let there: BTreeSet<&str> = jobs.iter().map(String::as_str).collect();
        let wanted: Vec<String> = flows
            .iter()
            .flat_map(|flow| flow.steps.iter().map(|step| flow.job(&step.name)))
            .collect();
        let wanted: BTreeSet<&str> = wanted.iter().map(String::as_str).collect();
        table.goal(
            "steps, Jobs",
            format!("{}, {}", wanted.len(), jobs.len()),
            "one for each step",
            there == wanted && jobs.len() == wanted.len(),
        );
    }

    fn time(&self, table: &mut Table) {
        let steps = count(self.steps());
        table.row(
            "time from the first flow's creation to the last status",
            seconds(self.wall),
        );
        table.row("steps per second", format!("{:.1}", steps / self.wall));
        let writes = count(self.all_writes);
        table.row(
            "writes of everybody meanwhile, per step and per second",
            format!("{:.1}, {:.0}", writes / steps, writes / self.wall),
        );
    }

    /// How soon follows what has to follow.
    fn follow(&self, table: &mut Table) {
        let Reactions {
            first,
            asked,
            made,
            creation,
            early,
            concluded,
        } = &self.reactions;
        table.row(
            "flow created → its first Jobs' creation, p50, p99",
            p50_and_p99(first),
        );
        table.goal(
            "last dependency's Job Complete → the request that makes the step's Job, p50, p99",
            p50_and_p99(asked),
            "p99 below 100 ms",
            percentile(asked, 99) < FOLLOW_GOAL,
        );
        table.row(
            "the same, until the API server has made it, p50, p99",
            p50_and_p99(made),
        );
        table.row(
            "the API server's time for one creation of a Job, p50, p99",
            p50_and_p99(creation),
        );
        let flows = self.run.flows.iter();
        let dependents = flows.flat_map(|flow| &flow.steps);
        let dependents = dependents.filter(|step| !step.dependencies.is_empty());
        let dependents = dependents.count();
        table.goal(
            "steps with dependencies, made too early",
            format!("{} of {dependents}, {early}", asked.len()),
            "all, 0",
            asked.len() == dependents && *early == 0,
        );
        table.row(
            "last Job Complete → the flow's last status, p50, p99",
            p50_and_p99(concluded),
        );
    }

    fn writes(&self, table: &mut Table) {
        let steps = self.steps();
        let per_step = ("step", steps);
        let jobs = Writes::among(&self.ours, |r| r.concerns("jobs"));
        jobs.row(
            table,
            "Job writes of ours",
            per_step,
            "1 create",
            jobs.of("create") == steps && jobs.done() == steps,
        );
        let is_status = |r: &Request| r.resource == "jobflows/status";
        let statuses = Writes::among(&self.ours, is_status);
        statuses.row(
            table,
            "status writes of ours",
            per_step,
            "fewer than 2: made, over",
            statuses.done() < 2 * steps,
        );
        let gap = report::shortest_interval(self.ours.iter().filter(|r| is_status(r)));
        table.goal(
            "status writes of one flow on average, shortest interval",
            format!(
                "{:.1}, {}",
                count(statuses.done()) / count(self.run.flows.len()),
                gap.map_or("none".to_owned(), seconds)
            ),
            "at most one a second",
            gap.is_none_or(|gap| gap >= 1.0),
        );
        let events = Writes::among(&self.ours, |r| r.concerns("events"));
        let (number, flows) = (events.done(), count(self.run.flows.len()));
        table.row(
            "Events, per step and per flow",
            format!(
                "{number}, {:.2}, {:.1}",
                count(number) / count(steps),
                count(number) / flows
            ),
        );
        let all = report::writes(&self.ours);
        let told = jobs.all() + statuses.all() + events.all();
        table.goal(
            "other writes of ours (the Lease's apart)",
            (all - told).to_string(),
            "0",
            all == told,
        );
    }

    /// What the host asked for because of the flows, grouped.
    pub(super) fn requests(&self) -> String {
        report::groups(&self.ours)
    }

    fn steps(&self) -> usize {
        self.run.flows.iter().map(|flow| flow.steps.len()).sum()
    }
}

/// How soon followed what had to follow, in seconds. A Job is Complete by the last write of its status.
#[derive(Debug, Default, PartialEq)]
struct Reactions {
    /// From the answer to a flow's creation to the request that makes the Job of a step that depends on
    /// nothing.
    first: Vec<f64>,
    /// From the answer to the write by which the last of a step's dependencies is Complete to the request
    /// that makes its Job.
    asked: Vec<f64>,
    /// The same, to the answer.
    made: Vec<f64>,
    /// From the request that makes a Job to its answer.
    creation: Vec<f64>,
    /// How many Jobs were asked for before the write by which the last dependency is Complete.
    early: usize,
    /// From the answer to the write by which the last Job of a flow is Complete to the answer to the last
    /// write of the flow's status.
    concluded: Vec<f64>,
}

impl Reactions {
    fn of(requests: &[Request], flows: &[Flow]) -> Self {
        let log = Log::of(requests);
        let mut reactions = Self::default();
        for flow in flows {
            let Some(created) = log.created.get(flow.name.as_str()) else {
                continue;
            };
            for step in &flow.steps {
                let Some(job) = log.made.get(flow.job(&step.name).as_str()) else {
                    continue;
                };
                reactions.creation.push(job.answered - job.received);
                if step.dependencies.is_empty() {
                    reactions.first.push(job.received - created.answered);
                } else if let Some(last) = log.last_complete(flow, &step.dependencies) {
                    reactions.asked.push(job.received - last.answered);
                    reactions.made.push(job.answered - last.answered);
                    reactions.early += usize::from(job.received < last.received);
                }
            }
            let names = flow.steps.iter().map(|step| &step.name);
            let status = log.statuses.get(flow.name.as_str());
            if let (Some(last), Some(status)) = (log.last_complete(flow, names), status) {
                reactions.concluded.push(status.answered - last.answered);
            }
        }
        reactions
    }
}

/// The requests that count, by the name of their object: the last of each kind.
struct Log<'a> {
    created: HashMap<&'a str, &'a Request>,
    statuses: HashMap<&'a str, &'a Request>,
    made: HashMap<&'a str, &'a Request>,
    complete: HashMap<&'a str, &'a Request>,
}

impl<'a> Log<'a> {
    fn of(requests: &'a [Request]) -> Self {
        let last = |of: fn(&Request) -> bool| -> HashMap<&str, &Request> {
            let found = requests.iter().filter(|r| of(r) && r.succeeded());
            found.map(|r| (r.name.as_str(), r)).collect()
        };
        Self {
            created: last(is_creation),
            statuses: last(is_status),
            made: last(|r| r.resource == "jobs" && r.verb == "create" && r.user == HOST),
            complete: last(|r| r.resource == "jobs/status" && r.user != HOST),
        }
    }

    /// The write by which the last of these steps is Complete, if the log has one of each.
    fn last_complete(
        &self,
        flow: &Flow,
        steps: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Option<&'a Request> {
        let writes = steps
            .into_iter()
            .map(|step| self.complete.get(flow.job(step.as_ref()).as_str()).copied());
        let writes: Option<Vec<_>> = writes.collect();
        writes?
            .into_iter()
            .max_by(|a, b| a.answered.total_cmp(&b.answered))
    }
}

fn is_creation(request: &Request) -> bool {
    request.resource == "jobflows" && request.verb == "create" && request.succeeded()
}

fn is_status(request: &Request) -> bool {
    request.resource == "jobflows/status" && request.user == HOST && request.succeeded()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(user: &str, verb: &str, resource: &str, name: &str, received: f64) -> Request {
        Request {
            user: user.to_owned(),
            acting_as: None,
            verb: verb.to_owned(),
            resource: resource.to_owned(),
            name: name.to_owned(),
            code: 200,
            received,
            answered: received + 0.25,
        }
    }

    #[test]
    fn a_step_follows_the_last_of_its_dependencies() {
        let flow = Flow::of_five(0);
        let complete = |name, at| request("job-controller", "update", "jobs/status", name, at);
        let make = |name, at| request(HOST, "create", "jobs", name, at);
        let mut requests = vec![
            request("admin", "create", "jobflows", "flow-000", 1.0),
            make("flow-000-job1", 1.5),
            make("flow-000-job4", 1.75),
            complete("flow-000-job1", 2.0),
            complete("flow-000-job1", 3.0),
            make("flow-000-job2", 4.0),
            complete("flow-000-job2", 5.0),
            make("flow-000-job5", 5.5),
            make("flow-000-job3", 5.75),
            complete("flow-000-job4", 6.0),
            complete("flow-000-job3", 7.0),
            complete("flow-000-job5", 7.5),
            request(HOST, "patch", "jobflows/status", "flow-000", 9.0),
        ];
        requests.sort_by(|a, b| a.received.total_cmp(&b.received));
        let expected = Reactions {
            first: vec![0.25, 0.5],
            // job2 after job1, job3 after job2, and job5 although job4 was not Complete.
            asked: vec![0.75, 0.5, -0.75],
            made: vec![1.0, 0.75, -0.5],
            creation: vec![0.25; 5],
            early: 1,
            concluded: vec![1.5],
        };
        assert_eq!(Reactions::of(&requests, &[flow]), expected);
    }
}
