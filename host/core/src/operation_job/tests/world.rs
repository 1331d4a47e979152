//! A world that tests observe: a job, its pods, its action and a clock.

use std::{collections::HashMap, sync::Arc, time::Duration};

use k8s_openapi::{
    api::core::v1::Pod,
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};
use operon_api::{
    OperationJob,
    conditions::{COMPLETE, FAILED, find},
    operation_job::{
        OperationJobSpec, OperationJobStatus, PodTarget, Progress, TargetDetail, TargetError,
    },
};

use crate::{
    action::{ActionError, Attributes, Failure, OpsProgress, ProgressReport, Unfinished},
    operation_job::{
        ActionState, Observed, Suspended,
        availability::Availability,
        conclude::{Answer, Answers, Conclusion, conclude},
        lifecycle::Lifecycle,
        parameters::Parameters,
        plan::{Plan, TargetPlans, TargetStep, plan},
    },
};

/// The second at which every world begins.
pub(super) const START: i64 = 1_000_000;

/// No ActionPlugin has served the action for long.
pub(super) fn not_found() -> ActionState {
    deleted_at(START - 3600)
}

/// The ActionPlugin of the action was deleted at that second.
pub(super) fn deleted_at(second: i64) -> ActionState {
    let since = Timestamp::from_second(second).expect("a time");
    ActionState::NotFound { since }
}

pub(super) struct World {
    pub(super) job: OperationJob,
    pub(super) pods: HashMap<String, Arc<Pod>>,
    pub(super) unready_nodes: HashMap<String, String>,
    pub(super) action: ActionState,
    pub(super) suspended: Option<Suspended>,
    pub(super) lacking: Option<Failure>,
    pub(super) lifecycle: Lifecycle,
    pub(super) parameters: Parameters,
    pub(super) availability: Availability,
    /// For how many seconds the deleted job's action has not been loaded.
    pub(super) blocked: u64,
    pub(super) now: i64,
}

impl World {
    /// A new job without deadline or TTL, whose targets all have a pod, of an action that is loaded.
    pub(super) fn new(names: &[&str]) -> Self {
        let targets = names
            .iter()
            .map(|name| PodTarget {
                name: (*name).to_owned(),
                containers: None,
            })
            .collect();
        let spec = OperationJobSpec {
            action: "Replace".to_owned(),
            targets,
            ..Default::default()
        };
        let mut job = OperationJob::new("job", spec);
        job.metadata.namespace = Some("default".to_owned());
        job.metadata.generation = Some(1);
        let mut world = Self {
            job,
            pods: HashMap::new(),
            unready_nodes: HashMap::new(),
            action: ActionState::Loaded,
            suspended: None,
            lacking: None,
            lifecycle: Lifecycle::default(),
            parameters: Parameters::Accepted,
            availability: Availability::Unlimited,
            blocked: 0,
            now: START,
        };
        for name in names {
            world.add_pod(name, &format!("uid-{name}"));
        }
        world
    }

    /// The same with these details of its targets, in a status as old as the world.
    pub(super) fn with(details: &[TargetDetail]) -> Self {
        let names: Vec<&str> = details.iter().map(|detail| detail.name.as_str()).collect();
        let mut world = Self::new(&names);
        world.job.status = Some(OperationJobStatus {
            start_time: Some(time(START)),
            target_details: details.to_vec(),
            ..Default::default()
        });
        world
    }

    pub(super) fn add_pod(&mut self, name: &str, uid: &str) {
        let mut pod = Pod::default();
        pod.metadata.name = Some(name.to_owned());
        pod.metadata.uid = Some(uid.to_owned());
        self.pods.insert(name.to_owned(), Arc::new(pod));
    }

    pub(super) fn delete_job(&mut self) {
        self.job.metadata.deletion_timestamp = Some(time(self.now));
    }

    pub(super) fn observed(&self) -> Observed<'_> {
        Observed {
            job: &self.job,
            pods: &self.pods,
            unready_nodes: &self.unready_nodes,
            action: &self.action,
            suspended: self.suspended.as_ref(),
            lacking: self.lacking.as_ref(),
            lifecycle: self.lifecycle,
            parameters: &self.parameters,
            blocked: Duration::from_secs(self.blocked),
            now: time(self.now).0,
        }
    }

    pub(super) fn plan(&self) -> Plan {
        plan(&self.observed(), &self.availability)
    }

    /// What this pass does, which is not to delete the job.
    pub(super) fn run(&self) -> TargetPlans {
        match self.plan() {
            Plan::Run(run) => run,
            Plan::Expire => unreachable!("the job expires"),
        }
    }

    /// The steps in the order of the plan.
    pub(super) fn steps(&self) -> Vec<TargetStep> {
        self.run()
            .targets
            .into_iter()
            .map(|target| target.step)
            .collect()
    }

    /// The step of the only target.
    pub(super) fn step(&self) -> TargetStep {
        self.steps().remove(0)
    }

    /// In how many seconds time alone changes the plan.
    pub(super) fn due(&self) -> Option<u64> {
        self.run().requeue_after.map(|after| after.as_secs())
    }

    /// One pass in which the action answers so by target; nothing is written.
    pub(super) fn conclude(&self, answers: &[(&str, Answer)]) -> Conclusion {
        self.conclude_with(answers, &[])
    }

    /// The same where the answers about some targets come later.
    pub(super) fn conclude_with(&self, answers: &[(&str, Answer)], later: &[&str]) -> Conclusion {
        let run = self.run();
        let place = |name: &str| {
            self.job
                .spec
                .targets
                .iter()
                .position(|t| t.name == name)
                .expect("a target of the job")
        };
        let given = answers.iter();
        let answers = Answers {
            given: given
                .map(|(name, answer)| (place(name), answer.clone()))
                .collect(),
            later: later.iter().map(|name| place(name)).collect(),
        };
        conclude(&self.observed(), &run, &answers)
    }

    /// One reconcile, whose status is written.
    pub(super) fn pass(&mut self, answers: &[(&str, Answer)]) -> Conclusion {
        let conclusion = self.conclude(answers);
        self.job.status = Some(conclusion.status.clone());
        conclusion
    }

    pub(super) fn status(&self) -> &OperationJobStatus {
        self.job.status.as_ref().expect("a status")
    }

    /// The entry of a target in the written status.
    pub(super) fn detail(&self, name: &str) -> &TargetDetail {
        self.status()
            .target_details
            .iter()
            .find(|d| d.name == name)
            .expect("a detail")
    }
}

pub(super) fn time(second: i64) -> Time {
    Time(Timestamp::from_second(second).expect("a time"))
}

pub(super) fn pending(name: &str) -> TargetDetail {
    TargetDetail {
        name: name.to_owned(),
        ..TargetDetail::default()
    }
}

/// Started when the world began.
pub(super) fn processing(name: &str) -> TargetDetail {
    started_at(name, START)
}

pub(super) fn started_at(name: &str, second: i64) -> TargetDetail {
    TargetDetail {
        progress: Progress::Processing,
        pod_uid: Some(format!("uid-{name}")),
        start_time: Some(time(second)),
        ..pending(name)
    }
}

pub(super) fn succeeded(name: &str) -> TargetDetail {
    TargetDetail {
        progress: Progress::Succeeded,
        end_time: Some(time(START)),
        ..processing(name)
    }
}

/// Failed after it started; not released.
pub(super) fn failed(name: &str, reason: &str) -> TargetDetail {
    TargetDetail {
        progress: Progress::Failed,
        end_time: Some(time(START)),
        error: Some(said(reason, "it went wrong")),
        ..processing(name)
    }
}

pub(super) fn released(name: &str, reason: &str) -> TargetDetail {
    TargetDetail {
        extra_info: attributes(&[("Released", "true")]),
        ..failed(name, reason)
    }
}

pub(super) fn said(reason: &str, message: &str) -> TargetError {
    TargetError {
        reason: reason.to_owned(),
        message: message.to_owned(),
    }
}

pub(super) fn attributes(pairs: &[(&str, &str)]) -> Attributes {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

/// The action's report, with `NewPod` as its extra-info.
pub(super) fn report(progress: OpsProgress, failure: Option<Failure>) -> Answer {
    Answer::Report(ProgressReport {
        progress,
        failure,
        extra_info: attributes(&[("NewPod", "new")]),
        recheck_after: None,
    })
}

/// Effects, with `NewPod` as the extra-info.
pub(super) fn acted() -> Answer {
    Answer::Acted {
        extra_info: attributes(&[("NewPod", "new")]),
    }
}

pub(super) fn retry(message: &str, after: Option<u64>) -> Answer {
    error(ActionError::Retry(
        Failure::new("Busy", message),
        after.map(Duration::from_secs),
    ))
}

pub(super) fn terminal(message: &str) -> Answer {
    error(ActionError::Terminal(Failure::new("Forbidden", message)))
}

pub(super) fn plugin(message: &str) -> Answer {
    error(ActionError::Plugin(Failure::new("Trap", message)))
}

fn error(error: ActionError) -> Answer {
    Answer::Error {
        error,
        extra_info: None,
    }
}

pub(super) fn clean() -> Answer {
    Answer::Released {
        extra_info: attributes(&[("NewPod", "new")]),
    }
}

/// A release that needs further calls, the next after so many seconds.
pub(super) fn releasing(message: &str, after: u64) -> Answer {
    Answer::Releasing {
        unfinished: Unfinished {
            failure: Failure::new("Waiting", message),
            recheck_after: Some(Duration::from_secs(after)),
        },
        extra_info: attributes(&[("NewPod", "new")]),
    }
}

pub(super) fn condition<'a>(status: &'a OperationJobStatus, type_: &str) -> Option<&'a Condition> {
    find(&status.conditions, type_)
}

/// The conditions of its standing that are true, with their reasons.
pub(super) fn standing(status: &OperationJobStatus) -> Vec<(&str, &str)> {
    let is_true = |c: &&Condition| c.status == "True" && ![COMPLETE, FAILED].contains(&&*c.type_);
    status
        .conditions
        .iter()
        .filter(is_true)
        .map(|c| (c.type_.as_str(), c.reason.as_str()))
        .collect()
}

/// The conditions that say how it has finished, with their reasons.
pub(super) fn end(status: &OperationJobStatus) -> Vec<(&str, &str)> {
    let conditions = status.conditions.iter();
    let ends = conditions.filter(|c| [COMPLETE, FAILED].contains(&&*c.type_));
    ends.map(|c| (c.type_.as_str(), c.reason.as_str()))
        .collect()
}

/// The reasons and messages of a pass's Events.
pub(super) fn events(conclusion: &Conclusion) -> Vec<(&str, &str)> {
    conclusion
        .events
        .iter()
        .map(|event| (event.reason, event.message.as_str()))
        .collect()
}
