//! How fast a job goes, and where it stops: `paused`, `maxConcurrent`, `maxUnavailable`, `onFailure` and
//! `maxFailures`.

use k8s_openapi::{
    api::policy::v1::PodDisruptionBudget, apimachinery::pkg::util::intstr::IntOrString,
};
use operon_api::operation_job::OnFailure;
use operon_e2e::{pods::identities, prelude::*};

fn percent(text: &str) -> IntOrString {
    IntOrString::String(text.to_owned())
}

/// Why the job does not go on.
fn message(found: &OperationJob) -> String {
    let status = job::status(found);
    let ready = status.conditions.into_iter().find(|c| c.type_ == "Ready");
    ready.map(|ready| ready.message).unwrap_or_default()
}

#[tokio::test]
async fn a_job_goes_at_the_pace_that_it_is_given_and_rests_while_it_is_paused() {
    story(async |world: &World| {
        let before = Deployment::of("foo", 3).gated().up(world).await;
        let mut job = Job::replace("opj", &names(&before)).object();
        job.spec.max_concurrent = Some(IntOrString::Int(1));
        job.spec.paused = Some(true);
        world.create(&job).await;
        world
            .job_until("opj", "is paused", |found| {
                job::reason(found, "Reconciling").as_deref() == Some("Paused")
            })
            .await;
        world
            .patch::<OperationJob>("opj", json!({"spec": {"paused": false}}))
            .await;
        let new = world.another_pod("foo", &before).await;
        world
            .job_until("opj", "says what holds the others back", |found| {
                message(found)
                    == "0 of 3 targets succeeded; targets in progress: 1; spec.maxConcurrent allows no more"
            })
            .await;
        world
            .for_a_while("no other pod is replaced", async || {
                let pods = world.pods("foo").await?.len();
                ensure!(pods == 4, "{pods} pods");
                Ok(())
            })
            .await;
        world
            .patch::<OperationJob>("opj", json!({"spec": {"paused": true}}))
            .await;
        world.open(&new).await;
        world
            .job_until("opj", "rests after the first", |found| {
                message(found) == "1 of 3 targets succeeded; spec.paused is true: no further target starts"
            })
            .await;
        world
            .patch::<OperationJob>("opj", json!({"spec": {"paused": null, "maxConcurrent": "100%"}}))
            .await;
        let done = world.finished_when_all_open("opj", "foo").await;
        assert_eq!(job::progress(&done), Progress::Succeeded, "{done:?}");
        world.settled("foo", 3).await;
    })
    .await;
}

#[tokio::test]
async fn a_job_pauses_after_a_failure_until_it_may_go_on() {
    story(async |world: &World| {
        let before = Deployment::of("foo", 1).up(world).await;
        let target = before[0].name_any();
        let mut job = Job::replace("opj", &["gone", &target])
            .partition(1)
            .object();
        job.spec.on_failure = Some(OnFailure::Pause);
        world.create(&job).await;
        world
            .job_until("opj", "has a failed target", |found| {
                job::error(found, "gone").reason == "PodNotFound"
            })
            .await;
        world
            .patch::<OperationJob>("opj", json!({"spec": {"partition": null}}))
            .await;
        world
            .job_until("opj", "needs its user", |found| {
                job::reason(found, "Stalled").as_deref() == Some("TooManyFailures")
            })
            .await;
        world.events_about("opj", &["Blocked"]).await;
        assert_eq!(
            identities(&world.settled("foo", 1).await),
            identities(&before)
        );

        world
            .patch::<OperationJob>("opj", json!({"spec": {"maxFailures": "50%"}}))
            .await;
        let done = world.finished("opj").await;
        assert_eq!(job::detail(&done, &target).progress, Progress::Succeeded);
        assert_eq!(job::progress(&done), Progress::Failed);
        world.pod_gone(&before[0]).await;
    })
    .await;
}

#[tokio::test]
async fn a_failure_cancels_a_job_and_what_it_has_begun_is_undone() {
    story(async |world: &World| {
        let before = Deployment::of("foo", 2).gated().up(world).await;
        let names = names(&before);
        let mut job = Job::replace("opj", &["gone", &names[0], &names[1]]).object();
        job.spec.on_failure = Some(OnFailure::Cancel);
        job.spec.max_concurrent = Some(IntOrString::Int(1));
        // The pod that does not exist fails three seconds after the job was first seen.
        world.create(&job).await;
        let done = world.finished("opj").await;
        let status = job::status(&done);
        assert!(status.canceled_time.is_some(), "{status:?}");
        assert_eq!(status.failed_pod_count, Some(3));
        assert_eq!(
            job::reason(&done, "Stalled").as_deref(),
            Some("PodNotFound")
        );
        for name in &names {
            assert_eq!(job::error(&done, name).reason, "Canceled");
        }
        let after = world.settled("foo", 2).await;
        assert_eq!(identities(&after), identities(&before));
        for pod in &before {
            world.assert_untouched(pod).await;
        }
        world.events_about("opj", &["Canceled"]).await;
        // Nothing starts a canceled job again.
        world
            .patch::<OperationJob>(
                "opj",
                json!({"spec": {"maxFailures": 3, "onFailure": "Continue"}}),
            )
            .await;
        world
            .for_a_while("the pods stay", async || {
                let now = identities(&world.pods("foo").await?);
                ensure!(now == identities(&before), "{now:?}");
                Ok(())
            })
            .await;
    })
    .await;
}

#[tokio::test]
async fn no_target_starts_while_too_few_pods_of_its_deployment_are_available() {
    story(async |world: &World| {
        let before = Deployment::of("foo", 3).gated().up(world).await;
        let named = names(&before);
        let mut job = Job::of("opj", "Recreate", &named[..2]).object();
        job.spec.max_unavailable = Some(IntOrString::Int(1));
        world.create(&job).await;
        let new = world.another_pod("foo", &before).await;
        let waits = "targets that wait: 1; deployment/foo: 2 of 3 pods are available and not in operation, and \
                     spec.maxUnavailable allows 1 to be missing";
        world
            .job_until("opj", "waits for the first pod", |found| {
                message(found) == format!("0 of 2 targets succeeded; {waits}")
            })
            .await;
        // Another job does not take more either.
        let mut other = Job::of("other", "Recreate", &named[2..]).object();
        other.spec.max_unavailable = Some(percent("50%"));
        world.create(&other).await;
        world
            .job_until("other", "waits too", |found| {
                job::reason(found, "Reconciling").as_deref() == Some("WaitingForAvailability")
            })
            .await;
        world
            .for_a_while("one pod is recreated", async || {
                let mut present = world.pods("foo").await?;
                present.retain(operon_e2e::pods::PodExt::is_live);
                let (before, present) = (identities(&before), identities(&present));
                let left = before.iter().filter(|old| present.contains(old));
                ensure!(left.count() == 2, "{present:?}");
                Ok(())
            })
            .await;
        world.open(&new).await;
        for name in ["opj", "other"] {
            let done = world.finished_when_all_open(name, "foo").await;
            assert_eq!(job::progress(&done), Progress::Succeeded, "{done:?}");
        }
        world.settled("foo", 3).await;
    })
    .await;
}

#[tokio::test]
async fn a_job_with_max_unavailable_waits_for_pod_disruption_budgets() {
    story(async |world: &World| {
        let before = Deployment::of("foo", 2).up(world).await;
        world
            .make::<PodDisruptionBudget>(json!({"metadata": {"name": "keep"},
                "spec": {"minAvailable": 2, "selector": {"matchLabels": {"app": "foo"}}}}))
            .await;
        world
            .eventually("the budget is computed", async || {
                let budget: PodDisruptionBudget = world.get("keep").await?;
                let status = budget.status.unwrap_or_default();
                ensure!(status.desired_healthy == 2, "{status:?}");
                Ok(())
            })
            .await;
        // Restart does not ask PodDisruptionBudgets.
        let mut job = Job::of("opj", "Restart", &names(&before)).object();
        job.spec.max_unavailable = Some(IntOrString::Int(2));
        world.create(&job).await;
        world
            .job_until("opj", "names the budget", |found| {
                message(found).contains(
                    "PodDisruptionBudget keep: 2 pods are available and not in operation, and 2 are required",
                )
            })
            .await;
        world.delete::<PodDisruptionBudget>("keep").await;
        let done = world.finished("opj").await;
        assert_eq!(job::progress(&done), Progress::Succeeded, "{done:?}");
    })
    .await;
}
