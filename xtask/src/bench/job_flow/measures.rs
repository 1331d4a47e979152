//! What a run of the bench means: the measures that the audit log and the host's process give.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::flow::Flow;
use super::reactions::{Reactions, is_creation, is_status};
use crate::audit::Request;
use crate::bench::report::{self, Spent, Writes, count, p50_and_p99, percentile, seconds};
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
            undisturbed,
            made,
            creation,
            writing,
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
            format!(
                "the same, of the {} whose flow's status is not written meanwhile, p50, p99",
                undisturbed.len()
            ),
            p50_and_p99(undisturbed),
        );
        table.row(
            "the same of all, until the API server has made it, p50, p99",
            p50_and_p99(made),
        );
        table.row(
            "the API server's time for one creation of a Job, p50, p99",
            p50_and_p99(creation),
        );
        table.row(
            "the API server's time for one write of a status, p50, p99",
            p50_and_p99(writing),
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
        let counted = jobs.all() + statuses.all() + events.all();
        table.goal(
            "other writes of ours (the Lease's apart)",
            (all - counted).to_string(),
            "0",
            all == counted,
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
