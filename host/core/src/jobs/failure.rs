//! How a run failed: the container that failed last, and what there is to tell of it.

use std::sync::Arc;

use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ContainerStateTerminated, ContainerStatus, Pod},
};
use kube::ResourceExt;
use operon_api::reactive_job::RunFailure;

use super as job;
use crate::driver::LogSource;

/// How much of a log is kept, in bytes.
pub const LOG_BYTES: usize = 2048;

/// A container that failed.
struct Culprit<'a> {
    pod: &'a Pod,
    container: &'a ContainerStatus,
    end: &'a ContainerStateTerminated,
    previous: bool,
}

/// Where the log is of the container that failed last.
pub(crate) fn log_source(pods: &[Arc<Pod>]) -> Option<LogSource> {
    culprit(pods).map(|culprit| LogSource {
        pod: culprit.pod.name_any(),
        container: culprit.container.name.clone(),
        previous: culprit.previous,
    })
}

/// How a Job failed, as far as the Job and its pods tell. Without a log, what the container left as its
/// termination message takes its place.
pub(crate) fn failure(job: &Job, pods: &[Arc<Pod>], log: Option<&str>) -> RunFailure {
    let finish = job::finish(job);
    let mut failure = RunFailure {
        job_name: job.name_any(),
        ..RunFailure::default()
    };
    if let Some(finish) = finish {
        failure.reason = finish.reason;
        failure.message = finish.message;
        failure.time = finish.time;
    }
    if let Some(Culprit {
        pod,
        container,
        end,
        previous: _,
    }) = culprit(pods)
    {
        failure.pod_name = Some(pod.name_any());
        failure.container = Some(container.name.clone());
        failure.exit_code = Some(end.exit_code);
        failure.container_reason.clone_from(&end.reason);
        let said = [log, end.message.as_deref()].into_iter().flatten();
        let mut said = said.filter(|text| !text.trim().is_empty());
        failure.log = said.next().map(last_lines);
    }
    failure
}

/// The container that failed last.
fn culprit(pods: &[Arc<Pod>]) -> Option<Culprit<'_>> {
    let culprits = pods.iter().flat_map(|pod| {
        let status = pod.status.iter();
        let containers = status.flat_map(|status| {
            let init = status.init_container_statuses.iter().flatten();
            init.chain(status.container_statuses.iter().flatten())
        });
        containers.filter_map(move |container| {
            let now = container.state.as_ref().and_then(|s| s.terminated.as_ref());
            let before = container
                .last_state
                .as_ref()
                .and_then(|s| s.terminated.as_ref());
            let failed = |end: &&ContainerStateTerminated| end.exit_code != 0;
            let (end, previous) = match (now.filter(failed), before.filter(failed)) {
                (Some(end), _) => (end, false),
                (None, Some(end)) => (end, true),
                (None, None) => return None,
            };
            Some(Culprit {
                pod,
                container,
                end,
                previous,
            })
        })
    });
    culprits.max_by_key(|culprit| culprit.end.finished_at.as_ref().map(|time| time.0))
}

/// The end of a log, whole lines of at most [`LOG_BYTES`]; of a longer line its end.
fn last_lines(log: &str) -> String {
    let log = log.trim_end();
    let start = log.len().saturating_sub(LOG_BYTES);
    let start = (start..log.len())
        .find(|place| log.is_char_boundary(*place))
        .unwrap_or(log.len());
    let (before, end) = log.split_at(start);
    if before.is_empty() || before.ends_with('\n') {
        return end.to_owned();
    }
    end.split_once('\n')
        .map_or(end, |(_, lines)| lines)
        .to_owned()
}
