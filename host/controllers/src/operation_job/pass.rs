//! What all calls of one reconcile of an OperationJob share, and what the action sees of a target.

use std::sync::{Arc, atomic::AtomicUsize};

use k8s_openapi::api::core::v1::Pod;
use kube::{Resource, ResourceExt};
use operon_core::{
    action::{ContainerKind, Failure, JobView, PodView, Target},
    operation_job::{Observed, lifecycle::Service, plan::TargetPlan, turns::CallCause},
};

use super::{OperationJobs, PodEntries};
use crate::{
    book::Ticket,
    call::Call,
    catalogue::Loaded,
    digests::digest,
    existing_jobs::ExistingJobs,
    reads::{Recorder, Seen},
    view::{View, ViewOfTarget},
};

/// What all calls of one reconcile share.
pub(super) struct Pass<'p> {
    pub(super) observed: &'p Observed<'p>,
    pods: &'p PodEntries,
    loaded: Arc<Loaded>,
    pub(super) job: Arc<JobView>,
    pub(super) view: Arc<View>,
    pub(super) changed: Arc<AtomicUsize>,
}

impl<'p> Pass<'p> {
    /// The pass of this reconcile.
    pub(super) fn new(
        observed: &'p Observed<'p>,
        pods: &'p PodEntries,
        loaded: Arc<Loaded>,
        existing: &Arc<ExistingJobs>,
    ) -> Self {
        let job = Arc::new(job_view(observed, &loaded));
        let (declared, existing) = (loaded.watch.declared.clone(), Arc::clone(existing));
        let view = Arc::new(View::new(&job.namespace, declared, existing));
        Self {
            observed,
            pods,
            loaded,
            job,
            view,
            changed: Arc::default(),
        }
    }

    /// The call about one target.
    pub(super) fn call(
        &self,
        plan: &TargetPlan,
        controller: &OperationJobs,
        ticket: &Ticket,
        cause: CallCause,
        recorder: &Arc<Recorder>,
    ) -> Call {
        let pod = self.observed.own_pod(&plan.detail);
        let target = self.target(plan, pod.as_deref());
        let subject = pod.as_ref().map_or_else(
            || self.observed.job.object_ref(&()),
            |pod| pod.object_ref(&()),
        );
        Call {
            loaded: Arc::clone(&self.loaded),
            job: Arc::clone(&self.job),
            progress: plan.detail.progress,
            step: plan.step.clone(),
            view: Arc::new(ViewOfTarget {
                view: Arc::clone(recorder),
                name: plan.detail.name.clone(),
                pod,
            }),
            target,
            recorder: Arc::clone(recorder),
            subject,
            changed: Arc::clone(&self.changed),
            pods: controller.pods.clone(),
            service: Service::of(self.observed.job, self.observed.lifecycle),
            writer: controller.pod_writer.clone(),
            events: controller.action_events.clone(),
            effects: controller.effects.clone(),
            metrics: controller.metrics.clone(),
            cause,
            has_to_report: ticket.has_to_report,
            stop: ticket.stop.clone(),
        }
    }

    /// The target as the action sees it, with the version of the action in its digest. Its pod is not unpacked if the
    /// digest of the pod is known.
    pub(super) fn seen(&self, plan: &TargetPlan) -> Seen {
        let detail = &plan.detail;
        let pod = self.pods.own(detail);
        let declared = &self.loaded.watch.declared;
        let value = pod.map(|pod| declared.digests.typed_entry(pod));
        let deadline = self.observed.job.spec.active_deadline_seconds;
        let target = (&detail.pod_uid, &detail.extra_info, value);
        let asked = (self.named(plan), deadline);
        let version = &self.loaded.version;
        let action = (
            &version.digest,
            &version.settings,
            self.observed.lifecycle.is_wanted,
            declared.absent.len(),
        );
        Seen {
            target: digest((target, asked, action)),
            last_failure: detail.error.as_ref().map(|error| error.reason.clone()),
            pod: pod.cloned(),
        }
    }

    /// The containers that the job names of a target.
    fn named(&self, plan: &TargetPlan) -> Option<&Vec<String>> {
        let job = self.observed.job;
        let selector = job.spec.target_selector.as_ref();
        let named = job.targets().get(plan.index);
        named
            .and_then(|target| target.containers.as_ref())
            .or_else(|| selector.and_then(|selector| selector.containers.as_ref()))
    }

    /// The target as the action sees it, and its pod.
    fn target(&self, plan: &TargetPlan, pod: Option<&Pod>) -> Target {
        let detail = &plan.detail;
        let pod = pod.map(PodView::from);
        let named = self.named(plan).cloned();
        let containers = named.filter(|names| !names.is_empty()).unwrap_or_else(|| {
            let all = pod.iter().flat_map(|pod| &pod.containers);
            let ordinary = all.filter(|container| container.kind == ContainerKind::Ordinary);
            ordinary.map(|container| container.name.clone()).collect()
        });
        let started = detail.start_time.as_ref().map(|start| start.0.as_second());
        let deadline = self.observed.job.spec.active_deadline_seconds;
        let last_failure = detail.error.as_ref();
        Target {
            name: detail.name.clone(),
            uid: detail.pod_uid.clone(),
            containers,
            pod,
            extra_info: detail.extra_info.clone(),
            started_at: started,
            deadline: started
                .zip(deadline)
                .map(|(started, seconds)| started + i64::from(seconds)),
            last_failure: last_failure.map(|error| Failure::new(&error.reason, &error.message)),
        }
    }
}

fn job_view(observed: &Observed<'_>, loaded: &Loaded) -> JobView {
    let job = observed.job;
    JobView {
        namespace: job.namespace().unwrap_or_default(),
        name: job.name_any(),
        uid: job.uid().unwrap_or_default(),
        action: job.spec.action.clone(),
        ending: false,
        dry_run: job.spec.dry_run,
        lifecycle: loaded.version.lifecycle,
        now: observed.now.as_second(),
        settings: loaded.version.settings.clone(),
        parameters: serde_json::Value::Object(job.spec.parameters.clone()).to_string(),
    }
}
