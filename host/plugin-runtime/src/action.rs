//! A loaded component as the core's `Action`: three questions, each one call.

use futures::future::BoxFuture;
use operon_core::action::{
    Action, ActionError, LoadError, Operation, ProgressReport, Registration, Request,
};
use serde_json::Value;

use crate::{
    answer,
    call::{Callable, Context, Lane},
    convert,
    log::LogLines,
    observer::Function,
    values::Checker,
};

/// A component that has set up.
pub(crate) struct LoadedAction {
    pub(crate) component: Callable,
    pub(crate) registration: Registration,
    pub(crate) checker: Checker,
}

impl LoadedAction {
    fn context<'a>(&self, request: &Request<'a>) -> Context<'a> {
        let log = LogLines::of_target(&self.component.name, request.job, request.target);
        Context {
            cluster: Some(request.cluster.clone()),
            log,
            job: request.job.uid.clone(),
            lane: if request.job.ending {
                Lane::Release
            } else {
                Lane::Operate
            },
            admit: request.admit,
        }
    }
}

impl Action for LoadedAction {
    fn registration(&self) -> &Registration {
        &self.registration
    }

    fn check_parameters<'a>(
        &'a self,
        parameters: &'a Value,
    ) -> BoxFuture<'a, Result<(), LoadError>> {
        let schema = &self.registration.parameters_schema;
        Box::pin(self.checker.check_parameters(schema, parameters))
    }

    fn operate_target<'a>(
        &'a self,
        request: Request<'a>,
    ) -> BoxFuture<'a, Result<Operation, ActionError>> {
        let (target, job) = (convert::target(request.target), convert::job(request.job));
        Box::pin(self.component.ask(
            Function::OperateTarget,
            self.context(&request),
            move |store, action| {
                Box::pin(async move {
                    let handler = action.operon_action_handler();
                    handler.call_operate_target(store, &target, &job).await
                })
            },
            |answer| answer.map_err(answer::error).and_then(answer::operation),
        ))
    }

    fn get_ops_progress<'a>(
        &'a self,
        request: Request<'a>,
    ) -> BoxFuture<'a, Result<ProgressReport, ActionError>> {
        let (target, job) = (convert::target(request.target), convert::job(request.job));
        Box::pin(self.component.ask(
            Function::GetOpsProgress,
            self.context(&request),
            move |store, action| {
                Box::pin(async move {
                    let handler = action.operon_action_handler();
                    handler.call_get_ops_progress(store, &target, &job).await
                })
            },
            |answer| answer.map_err(answer::error).and_then(answer::progress),
        ))
    }

    fn release_target<'a>(
        &'a self,
        request: Request<'a>,
    ) -> BoxFuture<'a, Result<Operation, ActionError>> {
        let (target, job) = (convert::target(request.target), convert::job(request.job));
        Box::pin(self.component.ask(
            Function::ReleaseTarget,
            self.context(&request),
            move |store, action| {
                Box::pin(async move {
                    let handler = action.operon_action_handler();
                    handler.call_release_target(store, &target, &job).await
                })
            },
            |answer| answer.map_err(answer::error).and_then(answer::operation),
        ))
    }
}
