//! Actions that take part in the PodOpsLifecycle: when the action is called, and that the pod always returns
//! to service. The PodOpsLifecycle controller's own decisions move the pod.

mod scene;

use operon_api::{keys, operation_job::Progress};
use serde_json::json;

use self::scene::Scene;
use super::world::*;
use crate::{
    action::OpsProgress,
    operation_job::{
        lifecycle::{Lifecycle, Service},
        plan::{Cause, TargetStep},
    },
    pod_lifecycle::labels::{GATE, PREPARING_TO_DELETE, SERVICE_AVAILABLE},
};

/// What the controller of traffic puts on a pod that it sends requests to.
const PROTECTED: &str = "prot.podopslifecycle.kusionstack.io/traffic";

#[test]
fn a_pod_leaves_service_before_the_action_is_called_and_returns_before_the_target_succeeds() {
    let mut scene = Scene::new();
    scene.pass(&[]);
    // It has started; the operation begins.
    assert_eq!(scene.waits().0, "LeavingService");
    scene.pass(&[]);
    assert!(scene.has("operating.podopslifecycle.kusionstack.io/opj-job"));
    assert!(scene.is_ready(), "nobody has closed the gate yet");
    assert_eq!(scene.waits().0, "LeavingService");

    scene.control();
    assert!(!scene.is_ready());
    assert_eq!(scene.world.step(), TargetStep::Operate);
    scene.pass(&[("a", report(OpsProgress::Processing, None))]);
    assert!(!scene.is_ready());
    scene.pass(&[("a", operated())]);
    let detail = scene.world.detail("a");
    assert_eq!(detail.progress, Progress::Processing);
    assert!(detail.operated_time.is_some());
    assert!(!scene.is_ready(), "the status says so first");

    assert_eq!(scene.waits().0, "ReturningToService");
    scene.pass(&[]);
    assert_eq!(scene.world.detail("a").progress, Progress::Processing);
    scene.control();
    assert!(scene.is_ready());
    scene.pass(&[]);
    let detail = scene.world.detail("a");
    assert_eq!(detail.progress, Progress::Succeeded);
    assert_eq!(detail.error, None);
    assert_eq!(detail.extra_info["NewPod"], "new");
    assert_eq!(scene.lifecycle_labels(), [SERVICE_AVAILABLE]);
}

/// A dry run changes nothing, whatever an earlier job of its name has left on the pod.
#[test]
fn a_dry_run_writes_no_pod() {
    let mut scene = Scene::allowed();
    scene.world.job.spec.dry_run = true;
    scene.world.lifecycle = Lifecycle::default();
    scene.world.job.spec.active_deadline_seconds = Some(1);
    scene.world.now += 10;
    let run = scene.world.run();
    assert!(matches!(run.targets[0].step, TargetStep::Fail(_)));
    assert_eq!(run.targets[0].write, None);
    scene.world.job.spec.dry_run = false;
    let run = scene.world.run();
    assert!(matches!(run.targets[0].step, TargetStep::Release(_)));
}

#[test]
fn a_pod_that_has_returned_is_not_operated_again_by_a_host_that_starts_anew() {
    let mut scene = Scene::allowed();
    scene.pass(&[("a", operated())]);
    scene.pass(&[]);
    scene.control();
    assert_eq!(scene.lifecycle_labels(), [SERVICE_AVAILABLE]);
    assert_eq!(scene.world.step(), TargetStep::Succeed);
}

#[test]
fn a_target_waits_for_protection_finalizers_and_names_them() {
    let mut scene = Scene::new();
    scene.pass(&[]);
    scene.pass(&[]);
    scene.edit(|pod| pod.metadata.finalizers = Some(vec![PROTECTED.to_owned()]));
    scene.control();
    assert!(!scene.is_ready());
    let (reason, message) = scene.waits();
    assert_eq!(reason, "LeavingService");
    assert!(message.contains(PROTECTED), "{message}");
    scene.edit(|pod| pod.metadata.finalizers = None);
    scene.control();
    assert_eq!(scene.world.step(), TargetStep::Operate);
}

/// A rule holds the pod in this stage.
fn hold(scene: &mut Scene, stage: &str) {
    let note = json!({"stage": stage, "passed": false,
        "rejectInfo": [{"ruleName": "most", "reason": "1 of 3 are out"}]});
    let key = "detail.podtransitionrule.kusionstack.io/web".to_owned();
    scene.edit(|pod| {
        let annotations = pod.metadata.annotations.get_or_insert_default();
        annotations.insert(key, note.to_string());
    });
}

#[test]
fn a_target_names_the_rule_that_keeps_its_pod_in_service_or_out_of_it() {
    let words = "waiting for PodTransitionRule web, rule most: 1 of 3 are out";
    let mut scene = Scene::new();
    scene.pass(&[]);
    scene.pass(&[]);
    hold(&mut scene, "PreCheck");
    let (reason, message) = scene.waits();
    assert_eq!(reason, "LeavingService");
    assert!(message.ends_with(words), "{message}");

    let mut scene = Scene::allowed();
    scene.pass(&[("a", operated())]);
    scene.pass(&[]);
    let id = "podopslifecycle.kusionstack.io/opj-job";
    scene.label(&format!("operate.{id}"), None);
    scene.label(&format!("operated.{id}"), Some("1"));
    hold(&mut scene, "PostCheck");
    let (reason, message) = scene.waits();
    assert_eq!(reason, "ReturningToService");
    assert!(message.ends_with(words), "{message}");
}

#[test]
fn a_pod_that_is_still_ready_is_not_operated_though_its_gate_is_closed() {
    let mut scene = Scene::allowed();
    scene.condition(&json!({"type": "Ready", "status": "True"}));
    let (reason, message) = scene.waits();
    assert_eq!(reason, "LeavingService");
    assert!(message.contains("not Ready"), "{message}");
}

#[test]
fn the_action_is_called_the_delay_after_the_pod_left_service() {
    let mut scene = Scene::new();
    scene.world.job.spec.operation_delay_seconds = Some(30);
    scene.pass(&[]);
    scene.pass(&[]);
    scene.control();
    let (reason, message) = scene.waits();
    assert_eq!(reason, "OperationDelay");
    assert!(message.contains("30 s"), "{message}");
    assert_eq!(scene.world.due(), Some(30));
    scene.world.now += 30;
    assert_eq!(scene.world.step(), TargetStep::Operate);
}

#[test]
fn a_target_does_not_start_while_another_operation_is_on_its_pod() {
    let mut scene = Scene::new();
    scene.label(
        "operating.podopslifecycle.kusionstack.io/collaset",
        Some("1"),
    );
    scene.pass(&[]);
    let detail = scene.world.detail("a");
    assert_eq!(
        (detail.progress, &detail.start_time),
        (Progress::Pending, &None)
    );
    let error = detail.error.clone().expect("a reason");
    assert_eq!(error.reason, "BlockedByOperation");
    assert!(error.message.contains("collaset"), "{}", error.message);
    scene.label("operating.podopslifecycle.kusionstack.io/collaset", None);
    assert!(matches!(scene.world.step(), TargetStep::Start { .. }));
}

#[test]
fn without_the_controller_targets_wait_and_name_the_value_of_the_chart() {
    let mut scene = Scene::new();
    scene.world.lifecycle.is_enabled = false;
    for progress in [Progress::Pending, Progress::Processing] {
        if progress == Progress::Processing {
            scene.world = World {
                lifecycle: scene.world.lifecycle,
                ..World::with(&[processing("a")])
            };
        }
        scene.pass(&[]);
        let detail = scene.world.detail("a");
        assert_eq!(detail.progress, progress);
        let error = detail.error.clone().expect("a reason");
        assert_eq!(error.reason, "PodOpsLifecycleDisabled");
        let value = "controllers.podOpsLifecycle.enabled";
        assert!(error.message.contains(value), "{}", error.message);
    }
}

#[test]
fn a_pod_does_not_return_to_service_while_the_controller_is_disabled_and_the_target_says_so() {
    let mut scene = Scene::allowed();
    scene.pass(&[("a", operated())]);
    scene.world.lifecycle.is_enabled = false;
    assert_eq!(scene.waits().0, "PodOpsLifecycleDisabled");
}

#[test]
fn a_pod_that_takes_no_part_is_operated_in_service_and_the_job_says_so() {
    let label: fn(&mut Scene) = |scene| scene.label(keys::CONTROL, None);
    let gate: fn(&mut Scene) = |scene| scene.edit(Scene::remove_gate);
    for (change, named) in [
        (label, "kusionstack.io/control=true"),
        (gate, "pod.kusionstack.io/service-ready"),
    ] {
        let mut scene = Scene::new();
        change(&mut scene);
        let started = scene.pass(&[]);
        let told = events(&started);
        let told: Vec<_> = told.iter().filter(|e| e.0 == "StaysInService").collect();
        assert_eq!(told.len(), 1);
        assert!(told[0].1.contains(named), "{told:?}");
        for _ in 0..3 {
            if scene.world.step() != TargetStep::Operate {
                scene.pass(&[]);
                scene.control();
            }
        }
        assert!(scene.is_ready());
        scene.pass(&[("a", retry("not yet", None))]);
        let error = scene.world.detail("a").error.clone().expect("a reason");
        assert_eq!(error.reason, "Busy");
        assert!(error.message.contains(named), "{}", error.message);
    }
}

#[test]
fn a_pod_that_is_gone_before_it_was_operated_fails_its_target() {
    let mut scene = Scene::new();
    scene.pass(&[]);
    scene.pass(&[]);
    scene.world.pods.clear();
    scene.pass(&[]);
    let detail = scene.world.detail("a");
    assert_eq!(detail.progress, Progress::Failed);
    let error = detail.error.as_ref().expect("an error");
    assert_eq!(error.reason, "PodNotFound");
    assert_eq!(scene.world.step(), TargetStep::Release(Cause::Failed));
}

#[test]
fn a_pod_that_is_gone_after_it_was_operated_has_nothing_to_return_to() {
    let mut scene = Scene::allowed();
    scene.pass(&[("a", operated())]);
    scene.world.pods.clear();
    assert_eq!(scene.world.step(), TargetStep::Succeed);
}

#[test]
fn a_job_that_is_deleted_after_the_action_succeeded_gives_the_pod_back() {
    let mut scene = Scene::allowed();
    scene.pass(&[("a", operated())]);
    scene.world.delete_job();
    let conclusion = scene.pass(&[]);
    assert!(conclusion.released);
    assert_eq!(scene.world.detail("a").progress, Progress::Succeeded);
    scene.control();
    assert_eq!(scene.lifecycle_labels(), [SERVICE_AVAILABLE]);
}

#[test]
fn the_finalizer_stays_until_the_pod_is_given_back_but_not_for_ever() {
    let failed = [("a", retry("the API server is away", None))];
    let mut operated_pod = Scene::allowed();
    operated_pod.pass(&[("a", operated())]);
    let mut lost = Scene::allowed();
    lost.world.action = not_found();
    for mut scene in [operated_pod, lost] {
        scene.world.delete_job();
        let conclusion = scene.world.pass(&failed);
        assert!(!conclusion.released && conclusion.retry);
        scene.world.now += 60;
        assert!(scene.world.pass(&failed).released);
        let error = scene.world.detail("a").error.clone().expect("an error");
        assert_eq!(error.reason, "ReleaseAbandoned");
    }
}

#[test]
fn the_pod_is_given_back_when_nobody_can_release_the_target() {
    // The action has gone, or its deadline passes while it has.
    for is_deleted in [true, false] {
        let mut scene = Scene::allowed();
        scene.world.action = not_found();
        if is_deleted {
            scene.world.delete_job();
        } else {
            scene.world.job.spec.active_deadline_seconds = Some(10);
            scene.world.now += 10;
        }
        scene.pass(&[]);
        assert_eq!(scene.world.detail("a").progress, Progress::Failed);
        scene.control();
        assert!(scene.is_ready());
        assert_eq!(scene.lifecycle_labels(), [SERVICE_AVAILABLE]);
    }
}

#[test]
fn a_pod_that_does_not_return_to_service_fails_its_target_at_the_deadline_and_is_not_released() {
    let mut scene = Scene::allowed();
    scene.world.job.spec.active_deadline_seconds = Some(10);
    scene.pass(&[("a", operated())]);
    scene.pass(&[]);
    scene.is_broken = true;
    scene.control();
    assert!(scene.waits().1.contains("Ready"));
    scene.pass(&[]);
    scene.world.now += 10;
    scene.pass(&[]);
    let detail = scene.world.detail("a");
    assert_eq!(detail.progress, Progress::Failed);
    let error = detail.error.as_ref().expect("an error");
    assert_eq!(error.reason, "DeadlineExceeded");
    assert!(error.message.contains("ReturningToService"));
    // The action has done its work: there is nothing to clean up.
    assert_eq!(scene.world.step(), TargetStep::Keep);
}

#[test]
fn a_pod_is_given_back_after_every_stage_and_no_label_stays() {
    for (has_acted, stage) in [false, true].into_iter().flat_map(|acted| {
        let stages = ["begun", "preparing", "allowed"];
        stages.map(|stage| (acted, stage))
    }) {
        let mut scene = Scene::new();
        scene.pass(&[]);
        scene.pass(&[]);
        if stage == "preparing" {
            scene.edit(|pod| pod.metadata.finalizers = Some(vec![PROTECTED.to_owned()]));
        }
        if stage != "begun" {
            scene.control();
        }
        scene.give_back(has_acted);
        scene.edit(|pod| pod.metadata.finalizers = None);
        scene.control();
        assert!(scene.is_ready(), "{stage}");
        assert_eq!(scene.lifecycle_labels(), [SERVICE_AVAILABLE], "{stage}");
    }
}

#[test]
fn a_pod_that_takes_no_part_any_more_loses_the_labels_all_the_same() {
    let mut scene = Scene::allowed();
    scene.label(keys::CONTROL, None);
    scene.give_back(false);
    let left = scene.lifecycle_labels();
    assert!(
        left.iter().all(|label| !label.ends_with("/opj-job")),
        "{left:?}"
    );
}

#[test]
fn an_operation_that_has_begun_is_ended_when_the_plugin_asks_for_it_no_more() {
    let mut scene = Scene::allowed();
    scene.world.lifecycle.is_wanted = false;
    assert_eq!(scene.world.step(), TargetStep::Operate);
    scene.pass(&[("a", operated())]);
    scene.pass(&[]);
    scene.control();
    assert_eq!(scene.world.step(), TargetStep::Succeed);
    assert_eq!(scene.lifecycle_labels(), [SERVICE_AVAILABLE]);
}

#[test]
fn an_action_that_removes_pods_is_called_at_once_and_its_removal_waits() {
    let mut scene = Scene::removing();
    scene.pass(&[]);
    assert_eq!(scene.world.step(), TargetStep::Operate);
    assert!(scene.service().holds_removals());
    let (reason, _) = scene.removal().expect_err("it begins");
    assert_eq!(reason, "LeavingService");
    assert!(scene.has(PREPARING_TO_DELETE));
    scene.control();
    assert!(!scene.is_ready());
    scene.removal().expect("it is out of service");
    // Its pod may be gone at any time.
    scene.world.pods.clear();
    assert_eq!(scene.world.step(), TargetStep::Operate);
}

#[test]
fn a_removal_that_is_given_up_leaves_no_label() {
    let mut scene = Scene::removing();
    scene.pass(&[]);
    scene.removal().expect_err("it begins");
    scene.control();
    scene.give_back(false);
    scene.control();
    assert_eq!(scene.lifecycle_labels(), [SERVICE_AVAILABLE]);
}

#[test]
fn a_target_of_an_action_that_removes_pods_is_released_once_its_pod_is_back_in_service() {
    let waits = |scene: &Scene| {
        let service = scene.service();
        service.before_release(&scene.pod(), scene.now()).is_some()
    };
    let mut scene = Scene::removing();
    assert!(!waits(&scene), "it serves");
    scene.pass(&[]);
    scene.removal().expect_err("it begins");
    assert!(waits(&scene));
    scene.control();
    scene.give_back(false);
    assert!(waits(&scene));
    scene.control();
    assert!(!waits(&scene));

    // The kubelet makes it Ready soon after the gate opened, or never.
    let opened = scene.now().to_string();
    scene.condition(&json!({"type": GATE, "status": "True", "lastTransitionTime": opened}));
    scene.condition(&json!({"type": "ContainersReady", "status": "True"}));
    scene.condition(&json!({"type": "Ready", "status": "False"}));
    assert!(waits(&scene));
    scene.world.now += 10;
    assert!(!waits(&scene));
    scene.world.now -= 10;
    scene.condition(&json!({"type": "ContainersReady", "status": "False"}));
    assert!(!waits(&scene));
}

#[test]
fn progress_is_not_asked_before_the_action_may_have_acted() {
    let mut scene = Scene::new();
    scene.pass(&[]);
    scene.pass(&[]);
    let asks = |scene: &Scene| {
        let service = scene.service();
        service.may_have_acted(Some(&scene.pod()), scene.now())
    };
    assert!(!asks(&scene));
    scene.control();
    assert!(asks(&scene));
    assert!(asks(&Scene::removing()));
    let mut serving = Scene::new();
    serving.world.lifecycle = Lifecycle::default();
    assert!(asks(&serving));
}

#[test]
fn no_jobs_name_makes_an_id_of_another_controller_or_one_that_is_too_long() {
    let id = |name: &str| {
        let mut scene = Scene::new();
        scene.world.job.metadata.name = Some(name.to_owned());
        scene.pass(&[]);
        scene.pass(&[]);
        scene.operation_id()
    };
    assert_eq!(id("collaset"), "opj-collaset");
    assert_eq!(id("pod-delete"), "opj-pod-delete");
    assert_eq!(id(&"x".repeat(59)), format!("opj-{}", "x".repeat(59)));
    let (one, other) = ("x".repeat(252) + "a", "x".repeat(252) + "b");
    assert_eq!(id(&one).len(), 63);
    assert!(id(&one).starts_with("opj-xxx"));
    assert_ne!(id(&one), id(&other));
    let dots = format!("{}.{}", "x".repeat(47), "y".repeat(100));
    let dots = id(&dots);
    assert!(dots.len() <= 63 && dots.ends_with(|c: char| c.is_ascii_alphanumeric()));
}

/// What became of a call about a pod whose action has succeeded.
fn operated() -> crate::operation_job::conclude::Answer {
    crate::operation_job::conclude::Answer::Operated {
        extra_info: attributes(&[("NewPod", "new")]),
    }
}

impl Scene {
    fn service(&self) -> Service {
        Service::of(&self.world.job, self.world.lifecycle)
    }
}
