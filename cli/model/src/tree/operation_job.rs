//! An OperationJob: its targets, and below each the pod that replaces it.

use std::collections::BTreeMap;

use operon_api::{
    OperationJob,
    operation_job::{Progress, TargetDetail},
};

use super::{Mark, Row};
use crate::{Related, Wanted, pod, text::count};

/// What an action that replaces pods records: the name of the new pod.
const NEW_POD: &str = "NewPod";

/// The new pods of the first targets that are in progress.
pub(crate) fn wanted(job: &OperationJob) -> Wanted {
    let details = job.status.iter().flat_map(|status| &status.target_details);
    let in_progress = details.filter(|detail| detail.progress == Progress::Processing);
    let new_pods = in_progress.filter_map(|detail| detail.extra_info.get(NEW_POD));
    Wanted {
        pod_names: new_pods.take(super::MOST).cloned().collect(),
        ..Wanted::default()
    }
}

pub(super) fn rows(job: &OperationJob, related: &Related) -> Vec<Row> {
    let details = job.status.iter().flat_map(|status| &status.target_details);
    let details: BTreeMap<_, _> = details.map(|one| (one.name.as_str(), one)).collect();
    let mut rows = Vec::new();
    let (mut waiting, mut succeeded) = (0, 0);
    for target in job.targets() {
        let detail = details.get(target.name.as_str());
        match detail.map(|detail| (detail.progress, *detail)) {
            None => waiting += 1,
            Some((Progress::Pending, detail)) if detail.error.is_none() => waiting += 1,
            Some((Progress::Succeeded, _)) => succeeded += 1,
            Some((progress, detail)) => rows.push(row(progress, detail, related)),
        }
    }
    if waiting > 0 {
        let is_one = waiting == 1;
        let waits = if is_one { "waits" } else { "wait" };
        let name = format!("{} {waits}", count(waiting, "target"));
        rows.push(held_back(job, Row::new(Mark::Waiting, name, "")));
    }
    if succeeded > 0 {
        let name = format!("{} succeeded", count(succeeded, "target"));
        rows.push(Row::new(Mark::Done, name, ""));
    }
    rows
}

fn row(progress: Progress, detail: &TargetDetail, related: &Related) -> Row {
    let error = detail.error.as_ref();
    let (mark, state) = match progress {
        Progress::Failed => (Mark::Failed, "Failed"),
        Progress::Pending => (Mark::Blocked, "Pending"),
        Progress::Processing if error.is_some() => (Mark::Blocked, "Processing"),
        Progress::Processing => (Mark::Running, "Processing"),
        Progress::Succeeded => (Mark::Done, "Succeeded"),
    };
    let new_pod = detail
        .extra_info
        .get(NEW_POD)
        .and_then(|name| related.pod(name));
    let row = Row {
        since: detail.start_time.as_ref().map(|time| time.0),
        until: detail.end_time.as_ref().map(|time| time.0),
        children: new_pod.map(pod::row).into_iter().collect(),
        ..Row::new(mark, detail.name.clone(), state)
    };
    match error {
        Some(error) => row.because(&error.reason, &error.message),
        None => row,
    }
}

/// The row of a target by itself, also of one that the rows only count.
pub(crate) fn target(job: &OperationJob, name: &str, related: &Related) -> Option<Row> {
    let mut details = job.status.iter().flat_map(|status| &status.target_details);
    let detail = details.find(|detail| detail.name == name);
    match detail {
        Some(detail) if has_begun(detail) => Some(row(detail.progress, detail, related)),
        _ => {
            let mut targets = job.targets().iter();
            targets.find(|target| target.name == name)?;
            Some(held_back(job, Row::new(Mark::Waiting, name, "Pending")))
        }
    }
}

/// All targets, each as [`target`] has it.
pub(super) fn targets(job: &OperationJob, related: &Related) -> Vec<Row> {
    let details = job.status.iter().flat_map(|status| &status.target_details);
    let details: BTreeMap<_, _> = details.map(|one| (one.name.as_str(), one)).collect();
    // What holds targets back is the same for all.
    let waiting = held_back(job, Row::new(Mark::Waiting, "", "Pending"));
    let targets = job.targets().iter();
    let each = targets.map(|target| match details.get(target.name.as_str()) {
        Some(detail) if has_begun(detail) => row(detail.progress, detail, related),
        _ => Row {
            name: target.name.clone(),
            ..waiting.clone()
        },
    });
    each.collect()
}

/// Whether there is something to say about the target itself.
fn has_begun(detail: &TargetDetail) -> bool {
    detail.progress != Progress::Pending || detail.error.is_some()
}

/// Adds what holds back the targets that have not started, as the spec says it.
fn held_back(job: &OperationJob, row: Row) -> Row {
    let name = job.metadata.name.as_deref().unwrap_or_default();
    if job.spec.paused == Some(true) {
        return Row {
            reason: "Paused".to_owned(),
            text: "the job is paused".to_owned(),
            next: Some(format!("kubectl operon resume opj/{name}")),
            ..row
        };
    }
    let started = job.status.iter().flat_map(|status| &status.target_details);
    let started = started
        .filter(|detail| detail.progress != Progress::Pending)
        .count();
    match job
        .spec
        .partition
        .map(|partition| (partition, usize::try_from(partition)))
    {
        Some((partition, Ok(may_start))) if started >= may_start => Row {
            reason: "WaitingForPartition".to_owned(),
            text: format!("partition is {partition}"),
            next: Some(format!("kubectl operon promote opj/{name}")),
            ..row
        },
        _ => row,
    }
}
