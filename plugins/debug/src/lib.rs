//! The action Debug: an ephemeral container runs once in the pod of a target, and the target has succeeded when that
//! container has ended with exit code 0.
//!
//! `parameters` says what the container is, `plan` decides from one snapshot what to do and how far the target is.
//! Kubernetes removes no ephemeral container, so a release undoes nothing.

pub mod parameters;
pub mod plan;

use operon_sdk::prelude::*;

use crate::{
    parameters::Parameters,
    plan::{Ended, Plan},
};

/// The container's name, in the extra-info of a target.
pub const CONTAINER: &str = "Container";
/// Its exit code.
pub const EXIT_CODE: &str = "ExitCode";
/// The begin of its termination message.
pub const MESSAGE: &str = "Message";

/// How many bytes of a termination message are kept.
const MESSAGE_BYTES: usize = 512;

/// The action.
#[derive(Debug)]
pub struct Debug;

impl Action for Debug {
    type Settings = NoSettings;

    fn new(_: NoSettings) -> Self {
        Self
    }

    fn setup(&self) -> Result<Registration, String> {
        Ok(Registration::default()
            .parameters(&Parameters::schema())
            .done_in_one_step())
    }

    fn operate_target(
        &self,
        target: &Target,
        job: &Job,
        cluster: &dyn Cluster,
    ) -> Result<Operation, ActionError> {
        let operation = Operation::of(target);
        Ok(match plan::plan(target, job, cluster)? {
            Plan::Add(add) => operation
                .patch(add.patch)
                .event("AddDebugContainer", add.event)
                .remember(CONTAINER, add.name),
            Plan::Wait(_) | Plan::Ended(_) | Plan::Fail(_) => operation,
        })
    }

    fn get_ops_progress(
        &self,
        target: &Target,
        job: &Job,
        cluster: &dyn Cluster,
    ) -> Result<ProgressReport, ActionError> {
        let failure = match plan::plan(target, job, cluster)? {
            Plan::Ended(ended) => return Ok(result(target, ended)),
            Plan::Fail(failure) => return Ok(ProgressReport::failed(target, failure)),
            Plan::Add(add) => add.waits,
            Plan::Wait(failure) => failure,
        };
        Ok(ProgressReport::processing(target).waiting_for(&failure.reason, failure.message))
    }
}

fn result(target: &Target, ended: Ended) -> ProgressReport {
    let Ended {
        container,
        exit_code,
        reason,
        message,
    } = ended;
    let report = if exit_code == 0 {
        ProgressReport::succeeded(target)
    } else {
        let reason = match reason.as_str() {
            "" | "Error" => String::new(),
            reason => format!(" ({reason})"),
        };
        let why = match message.as_str() {
            "" => "it left no termination message; see its log".to_owned(),
            message => shortened(message).to_owned(),
        };
        let message = format!("container {container:?} exited with {exit_code}{reason}: {why}");
        ProgressReport::failed(target, Failure::new("DebugFailed", message))
    };
    let report = report
        .remember(CONTAINER, container)
        .remember(EXIT_CODE, exit_code.to_string());
    match message.as_str() {
        "" => report,
        message => report.remember(MESSAGE, shortened(message)),
    }
}

/// The begin of a termination message, at most as long as a status has room for.
fn shortened(message: &str) -> &str {
    &message[..message.floor_char_boundary(MESSAGE_BYTES)]
}

operon_sdk::register!(Debug);
