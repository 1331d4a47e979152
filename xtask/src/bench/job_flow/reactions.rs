//! How soon a flow goes on, read off the audit log.

use std::collections::HashMap;

use super::flow::Flow;
use crate::audit::Request;
use crate::bench::report::HOST;

/// How soon followed what had to follow, in seconds. A Job is Complete by the last write of its status.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Reactions {
    /// From the answer to a flow's creation to the request that makes the Job of a step that depends on
    /// nothing.
    pub(super) first: Vec<f64>,
    /// From the answer to the write by which the last of a step's dependencies is Complete to the request
    /// that makes its Job.
    pub(super) asked: Vec<f64>,
    /// The same, where no write of the flow's status was under way within that time.
    pub(super) undisturbed: Vec<f64>,
    /// As `asked`, but to the answer.
    pub(super) made: Vec<f64>,
    /// From the request that makes a Job to its answer.
    pub(super) creation: Vec<f64>,
    /// From the request that writes a flow's status to its answer.
    pub(super) writing: Vec<f64>,
    /// How many Jobs were asked for before the write by which the last dependency is Complete.
    pub(super) early: usize,
    /// From the answer to the write by which the last Job of a flow is Complete to the answer to the last
    /// write of the flow's status.
    pub(super) concluded: Vec<f64>,
}

impl Reactions {
    /// Those of these flows.
    pub(super) fn of(requests: &[Request], flows: &[Flow]) -> Self {
        let log = Log::of(requests);
        let mut reactions = Self::default();
        for flow in flows {
            let Some(created) = log.created.get(flow.name.as_str()) else {
                continue;
            };
            let statuses = log.statuses.get(flow.name.as_str());
            let statuses = statuses.map(Vec::as_slice).unwrap_or_default();
            let times = statuses.iter().map(|r| r.answered - r.received);
            reactions.writing.extend(times);
            for step in &flow.steps {
                let Some(job) = log.made.get(flow.job(&step.name).as_str()) else {
                    continue;
                };
                reactions.creation.push(job.answered - job.received);
                if step.dependencies.is_empty() {
                    reactions.first.push(job.received - created.answered);
                } else if let Some(last) = log.last_complete(flow, &step.dependencies) {
                    let asked = job.received - last.answered;
                    reactions.asked.push(asked);
                    let is_meanwhile =
                        |r: &&Request| r.received < job.received && r.answered > last.answered;
                    if !statuses.iter().any(is_meanwhile) {
                        reactions.undisturbed.push(asked);
                    }
                    reactions.made.push(job.answered - last.answered);
                    reactions.early += usize::from(job.received < last.received);
                }
            }
            let names = flow.steps.iter().map(|step| &step.name);
            if let (Some(last), Some(status)) = (log.last_complete(flow, names), statuses.last()) {
                reactions.concluded.push(status.answered - last.answered);
            }
        }
        reactions
    }
}

/// The requests that count, by the name of their object: the last of each kind, of statuses all.
struct Log<'a> {
    created: HashMap<&'a str, &'a Request>,
    statuses: HashMap<&'a str, Vec<&'a Request>>,
    made: HashMap<&'a str, &'a Request>,
    complete: HashMap<&'a str, &'a Request>,
}

impl<'a> Log<'a> {
    fn of(requests: &'a [Request]) -> Self {
        let last = |of: fn(&Request) -> bool| -> HashMap<&str, &Request> {
            let found = requests.iter().filter(|r| of(r) && r.succeeded());
            found.map(|r| (r.name.as_str(), r)).collect()
        };
        let mut statuses: HashMap<&str, Vec<&Request>> = HashMap::new();
        for status in requests.iter().filter(|r| is_status(r)) {
            statuses.entry(&status.name).or_default().push(status);
        }
        Self {
            created: last(is_creation),
            statuses,
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

/// Whether it made a flow.
pub(super) fn is_creation(request: &Request) -> bool {
    request.resource == "jobflows" && request.verb == "create" && request.succeeded()
}

/// Whether the host wrote a flow's status by it.
pub(super) fn is_status(request: &Request) -> bool {
    request.resource == "jobflows/status" && request.user == HOST && request.succeeded()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::answered as request;

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
            request(HOST, "patch", "jobflows/status", "flow-000", 5.125),
            request(HOST, "patch", "jobflows/status", "flow-000", 9.0),
        ];
        requests.sort_by(|a, b| a.received.total_cmp(&b.received));
        let expected = Reactions {
            first: vec![0.25, 0.5],
            // job2 after job1, job3 after job2, and job5 although job4 was not Complete.
            asked: vec![0.75, 0.5, -0.75],
            // The status was being written when job2 was Complete.
            undisturbed: vec![0.75, -0.75],
            made: vec![1.0, 0.75, -0.5],
            creation: vec![0.25; 5],
            writing: vec![0.25; 2],
            early: 1,
            concluded: vec![1.5],
        };
        assert_eq!(Reactions::of(&requests, &[flow]), expected);
    }
}
