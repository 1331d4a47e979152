//! How ReactiveJobs and their Jobs end: what they wait for, what is reported meanwhile, and that nothing is
//! left behind that can't be deleted.

use k8s_openapi::api::batch::v1::Job as BatchJob;
use operon_api::{
    ReactiveJob, keys,
    reactive_job::{Outcome, RunReason, State},
};
use operon_e2e::{
    prelude::*,
    reactive_job::{Reactive, is_held, run, said, status},
};

/// A finalizer of somebody else.
const FOREIGN: &str = "e2e.operon.dev/hold";

#[tokio::test]
async fn a_job_that_somebody_else_holds_is_named_until_it_goes() {
    story(async |world: &World| {
        Reactive::of("test").apply(world).await;
        world.comes_to("test", State::Ready).await;
        world.edit("test", "2").await;
        world.comes_to("test", State::Ready).await;
        let jobs = world.jobs_have("test", &["1", "2"]).await;
        let held = jobs[0].name_any();
        let foreign = json!({"metadata": {"finalizers": [FOREIGN]}});
        world.patch::<BatchJob>(&held, foreign).await;
        world.delete::<ReactiveJob>("test").await;
        let object = world
            .reactive_until("test", "says what it waits for", |object| {
                said(object, "Ready").contains(FOREIGN)
            })
            .await;
        let ready = said(&object, "Ready");
        assert!(
            ready.starts_with("Unknown Deleting: ") && ready.contains(&held),
            "{ready}"
        );
        assert_eq!(status(&object).state, Some(State::Deleting));
        world.gone::<BatchJob>(&jobs[1].name_any()).await;
        let object = world.reactive("test").await.expect("it is still there");
        world.nothing_is_written(&object).await;
        let release = json!({"metadata": {"finalizers": null}});
        world.patch::<BatchJob>(&held, release).await;
        world.gone::<ReactiveJob>("test").await;
        world.gone::<BatchJob>(&held).await;
    })
    .await;
}

#[tokio::test]
async fn an_object_that_somebody_else_holds_keeps_its_jobs_until_it_is_let_go() {
    story(async |world: &World| {
        Reactive::of("test").endless().apply(world).await;
        world.comes_to("test", State::Processing).await;
        let job = world.jobs_are("test", 1).await.remove(0);
        let finalizers = |finalizers: &[&str]| json!({"metadata": {"finalizers": finalizers}});
        let both = finalizers(&[keys::REACTIVE_JOB_FINALIZER, FOREIGN]);
        world.patch::<ReactiveJob>("test", both).await;
        world.delete::<ReactiveJob>("test").await;
        let object = world
            .reactive_until("test", "is blocked", |object| {
                status(object).state == Some(State::DeletionBlocked)
            })
            .await;
        let ready = said(&object, "Ready");
        assert!(
            ready.starts_with("Unknown DeletionBlocked: ") && ready.contains(FOREIGN),
            "{ready}"
        );
        world.nothing_is_written(&object).await;
        let kept: BatchJob = world.get(&job.name_any()).await.expect("the Job");
        assert!(kept.metadata.deletion_timestamp.is_none() && is_held(&kept));
        let ours = finalizers(&[keys::REACTIVE_JOB_FINALIZER]);
        world.patch::<ReactiveJob>("test", ours).await;
        world.gone::<ReactiveJob>("test").await;
        world.gone::<BatchJob>(&job.name_any()).await;
    })
    .await;
}

#[tokio::test]
async fn an_object_deleted_with_its_orphans_kept_leaves_jobs_that_anybody_can_delete() {
    story(async |world: &World| {
        for (name, cascade) in [("kept", "orphan"), ("whole", "foreground")] {
            Reactive::of(name).apply(world).await;
            let object = world.comes_to(name, State::Ready).await;
            let job = status(&object).current_job_name.expect("a Job");
            let cascaded = format!("--cascade={cascade}");
            world
                .kubectl_says(&["delete", "reactivejob", name, &cascaded])
                .await;
            if cascade == "foreground" {
                world.gone::<BatchJob>(&job).await;
                continue;
            }
            let kept: BatchJob = world.get(&job).await.expect("the Job is kept");
            assert!(kept.metadata.deletion_timestamp.is_none());
            assert!(!is_held(&kept) && kept.owner_references().is_empty());
            world.delete::<BatchJob>(&job).await;
            world.gone::<BatchJob>(&job).await;
        }
    })
    .await;
}

#[tokio::test]
async fn jobs_of_an_object_whose_finalizers_were_forced_off_go_too() {
    story(async |world: &World| {
        Reactive::of("test").apply(world).await;
        let object = world.comes_to("test", State::Ready).await;
        let job = status(&object).current_job_name.expect("a Job");
        let finalizers = [keys::REACTIVE_JOB_FINALIZER, FOREIGN];
        let both = json!({"metadata": {"finalizers": finalizers}});
        world.patch::<ReactiveJob>("test", both).await;
        world.delete::<ReactiveJob>("test").await;
        let none = json!({"metadata": {"finalizers": null}});
        world.patch::<ReactiveJob>("test", none).await;
        world.gone::<ReactiveJob>("test").await;
        world.gone::<BatchJob>(&job).await;
    })
    .await;
}

#[tokio::test]
async fn a_copy_of_a_job_with_all_its_marks_does_not_outlive_their_object() {
    story(async |world: &World| {
        let reactive = Reactive::of("test");
        reactive.apply(world).await;
        world.comes_to("test", State::Ready).await;
        let job = world.jobs_are("test", 1).await.remove(0);
        let mut copy = json!({
            "metadata": {"name": "copy"}, "spec": reactive.job("suspend", json!(true)).job_spec()
        });
        let marks = json!(job.metadata);
        for field in ["labels", "annotations", "finalizers", "ownerReferences"] {
            copy["metadata"][field] = marks[field].clone();
        }
        // Kubernetes makes those anew.
        copy["metadata"]["labels"] = json!({
            keys::CONTROLLER_UID: job.labels()[keys::CONTROLLER_UID],
            keys::CONTROLLER_NAME: "test",
        });
        world.make::<BatchJob>(copy).await;
        world.delete::<ReactiveJob>("test").await;
        world.gone::<ReactiveJob>("test").await;
        world.gone::<BatchJob>("copy").await;
    })
    .await;
}

#[tokio::test]
async fn a_namespace_goes_with_its_reactive_jobs() {
    story(async |world: &World| {
        Reactive::of("done").apply(world).await;
        world.comes_to("done", State::Ready).await;
        Reactive::of("runs").endless().apply(world).await;
        world.jobs_are("runs", 1).await;
        world.delete_namespace().await;
    })
    .await;
}

#[tokio::test]
async fn a_job_that_somebody_deletes_while_it_runs_is_followed_by_another() {
    story(async |world: &World| {
        Reactive::of("test").gated().apply(world).await;
        world.comes_to("test", State::Processing).await;
        let lost = world.jobs_are("test", 1).await.remove(0);
        world.delete::<BatchJob>(&lost.name_any()).await;
        world.gone::<BatchJob>(&lost.name_any()).await;
        let next = world.jobs_are("test", 1).await.remove(0);
        assert_ne!(next.uid(), lost.uid());
        world.let_run(&next).await;
        let object = world.comes_to("test", State::Ready).await;
        assert_eq!(run(&object, 0).reason, RunReason::JobLost);
        assert_eq!(run(&object, 1).outcome, Some(Outcome::Lost));
        world
            .no_other_job("test", std::slice::from_ref(&next))
            .await;
    })
    .await;
}

#[tokio::test]
async fn the_newest_job_is_still_there_after_somebody_deleted_it_when_it_was_finished() {
    story(async |world: &World| {
        Reactive::of("test").apply(world).await;
        world.comes_to("test", State::Ready).await;
        let job = world.jobs_are("test", 1).await;
        world.delete::<BatchJob>(&job[0].name_any()).await;
        world.no_other_job("test", &job).await;
        world.comes_to("test", State::Ready).await;
    })
    .await;
}
