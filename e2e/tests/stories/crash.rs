//! The host itself dies, sleeps or is asked to go in the middle of a Replace; another takes over and
//! finishes. There is never a serving pod less than there should be, and in the end none too many.
//!
//! These stories run hosts of their own, so they run alone, after all others.

use operon_e2e::{
    host::{Host, alone, pair},
    pods::identities,
    prelude::*,
};
use rustix::process::Signal;

const RELEASED: &str = "replace.operon.dev/released-from";
const HOLD: &str = "e2e.operon.dev/hold";

#[tokio::test]
async fn a_leader_killed_when_it_has_accepted_a_job_is_followed_by_another() {
    alone(async |world: &World| {
        let before = Deployment::of("foo", 2).up(world).await;
        let endpoints = world.service("foo", 2).await;
        let (first, second) = pair(world).await;
        world
            .create(&Job::replace("opj", &names(&before)).object())
            .await;
        world
            .job_until("opj", "is accepted", job::is_observed)
            .await;
        first.kill().await;
        second.leads(world).await;
        let done = world.finished("opj").await;
        assert_eq!(
            job::progress(&done),
            Progress::Succeeded,
            "{:?}",
            done.status
        );
        world.settled("foo", 2).await;
        assert!(endpoints.least() >= 2, "{}", endpoints.least());
    })
    .await;
}

#[tokio::test]
async fn a_leader_killed_when_the_old_pod_is_released_is_followed_by_another() {
    alone(async |world: &World| {
        let before = Deployment::of("foo", 2).up(world).await;
        let endpoints = world.service("foo", 2).await;
        world.set_quota(2).await;
        let (first, second) = pair(world).await;
        world
            .create(&Job::replace("opj", &names(&before)).object())
            .await;
        for pod in &before {
            world
                .pod_until(&pod.name_any(), "is released", |pod| {
                    pod.labels().contains_key(RELEASED)
                })
                .await;
        }
        first.kill().await;
        world.lift_quota().await;
        second.leads(world).await;
        let done = world.finished("opj").await;
        assert_eq!(
            job::progress(&done),
            Progress::Succeeded,
            "{:?}",
            done.status
        );
        world.settled("foo", 2).await;
        assert!(endpoints.least() >= 2, "{}", endpoints.least());
    })
    .await;
}

#[tokio::test]
async fn a_leader_killed_when_the_new_pod_is_claimed_is_followed_by_another() {
    alone(async |world: &World| {
        let before = Deployment::of("foo", 2).gated().up(world).await;
        let endpoints = world.service("foo", 2).await;
        let (first, second) = pair(world).await;
        let target = before[0].name_any();
        world
            .create(&Job::replace("opj", &[&target]).object())
            .await;
        let claimed = world
            .job_until("opj", "knows the new pod", |found| {
                job::new_pod(found, &target).is_some()
            })
            .await;
        let new = world.another_pod("foo", &before).await;
        first.kill().await;
        world.open(&new).await;
        second.leads(world).await;
        let done = world.finished("opj").await;
        assert_eq!(
            job::progress(&done),
            Progress::Succeeded,
            "{:?}",
            done.status
        );
        assert_eq!(
            job::new_pod(&done, &target),
            job::new_pod(&claimed, &target)
        );
        world.settled("foo", 2).await;
        assert!(endpoints.least() >= 2, "{}", endpoints.least());
    })
    .await;
}

#[tokio::test]
async fn a_leader_killed_when_the_old_pod_goes_is_followed_by_another() {
    alone(async |world: &World| {
        let before = Deployment::of("foo", 2).up(world).await;
        let endpoints = world.service("foo", 2).await;
        let target = before[0].name_any();
        let hold = |finalizers: serde_json::Value| json!({"metadata": {"finalizers": finalizers}});
        world.patch::<Pod>(&target, hold(json!([HOLD]))).await;
        let (first, second) = pair(world).await;
        world
            .create(&Job::replace("opj", &[&target]).object())
            .await;
        world
            .pod_until(&target, "is on its way out", |pod| !pod.is_live())
            .await;
        first.kill().await;
        world.patch::<Pod>(&target, hold(json!(null))).await;
        world.pod_gone(&before[0]).await;
        second.leads(world).await;
        let done = world.finished("opj").await;
        assert_eq!(
            job::progress(&done),
            Progress::Succeeded,
            "{:?}",
            done.status
        );
        assert!(job::new_pod(&done, &target).is_some());
        world.settled("foo", 2).await;
        assert!(endpoints.least() >= 2, "{}", endpoints.least());
    })
    .await;
}

#[tokio::test]
async fn what_happened_while_no_host_ran_is_found_afterwards() {
    alone(async |world: &World| {
        let before = Deployment::of("foo", 3).gated().up(world).await;
        let first = Host::start_with(world, "first", &["--no-leader-election"]);
        for (name, pod) in ["deleted", "origin-deleted", "goes-on"].iter().zip(&before) {
            world
                .create(&Job::replace(name, &[pod.name_any()]).object())
                .await;
            world
                .job_until(name, "knows the new pod", |found| {
                    job::new_pod(found, &pod.name_any()).is_some()
                })
                .await;
        }
        let goes_on = world.job("goes-on").await.expect("the job");
        let first_new = job::new_pod(&goes_on, &before[2].name_any()).unwrap_or_default();
        first.kill().await;
        world.delete::<OperationJob>("deleted").await;
        world.delete_pod(&before[1]).await;
        world
            .delete_pod(&world.get::<Pod>(&first_new).await.expect("the new pod"))
            .await;
        world.pod_gone(&before[1]).await;
        let second = Host::start_with(world, "second", &["--no-leader-election"]);
        world.gone::<OperationJob>("deleted").await;
        for name in ["origin-deleted", "goes-on"] {
            let done = world.finished_when_all_open(name, "foo").await;
            assert_eq!(
                job::progress(&done),
                Progress::Succeeded,
                "{:?}",
                done.status
            );
        }
        let after = world.settled("foo", 3).await;
        assert!(!identities(&after).contains(&before[2].uid().unwrap_or_default()));
        second.kill().await;
    })
    .await;
}

#[tokio::test]
async fn a_host_that_is_killed_again_and_again_gets_there() {
    alone(async |world: &World| {
        let before = Deployment::of("foo", 6).up(world).await;
        let endpoints = world.service("foo", 6).await;
        world
            .create(&Job::replace("opj", &names(&before)).partition(2).object())
            .await;
        for round in 0..16_u64 {
            let host = Host::start_with(world, &format!("host-{round}"), &["--no-leader-election"]);
            tokio::time::sleep(Duration::from_millis(300 + 90 * round)).await;
            host.kill().await;
            if round == 8 {
                world
                    .patch::<OperationJob>("opj", json!({"spec": {"partition": 6}}))
                    .await;
            }
        }
        let last = Host::start_with(world, "host-last", &["--no-leader-election"]);
        let done = world.finished("opj").await;
        assert_eq!(
            job::progress(&done),
            Progress::Succeeded,
            "{:?}",
            done.status
        );
        let after = world.settled("foo", 6).await;
        assert!(
            identities(&before)
                .iter()
                .all(|old| !identities(&after).contains(old))
        );
        assert!(endpoints.least() >= 6, "{}", endpoints.least());
        last.kill().await;
    })
    .await;
}

#[tokio::test]
async fn a_leader_that_is_asked_to_end_hands_over_at_once() {
    alone(async |world: &World| {
        let before = Deployment::of("foo", 2).gated().up(world).await;
        let (mut first, second) = pair(world).await;
        let target = before[0].name_any();
        world
            .create(&Job::replace("opj", &[&target]).object())
            .await;
        let new = world.another_pod("foo", &before).await;
        world
            .job_until("opj", "knows the new pod", |found| {
                job::new_pod(found, &target).is_some()
            })
            .await;
        let asked = std::time::Instant::now();
        first.signal(Signal::TERM);
        let status = first.ended(Duration::from_secs(10)).await;
        assert!(status.success(), "{status}\n{}", first.log());
        second.leads(world).await;
        assert!(
            asked.elapsed() < Duration::from_secs(8),
            "after {:?}",
            asked.elapsed()
        );
        world.open(&new).await;
        let done = world.finished("opj").await;
        assert_eq!(
            job::progress(&done),
            Progress::Succeeded,
            "{:?}",
            done.status
        );
        world.settled("foo", 2).await;
    })
    .await;
}

#[tokio::test]
async fn a_leader_that_slept_until_another_led_writes_no_more() {
    alone(async |world: &World| {
        let before = Deployment::of("foo", 2).gated().up(world).await;
        let (mut first, second) = pair(world).await;
        let target = before[0].name_any();
        world
            .create(&Job::replace("opj", &[&target]).object())
            .await;
        let new = world.another_pod("foo", &before).await;
        world
            .job_until("opj", "knows the new pod", |found| {
                job::new_pod(found, &target).is_some()
            })
            .await;
        first.signal(Signal::STOP);
        second.leads(world).await;
        world.open(&new).await;
        let done = world.finished("opj").await;
        assert_eq!(
            job::progress(&done),
            Progress::Succeeded,
            "{:?}",
            done.status
        );
        first.signal(Signal::CONT);
        let status = first.ended(Duration::from_secs(10)).await;
        assert!(
            !status.success(),
            "it says that it lost the leadership: {status}"
        );
        second.leads(world).await;
        let after = world.job("opj").await.expect("the job");
        assert_eq!(
            after.resource_version(),
            done.resource_version(),
            "nothing was written since"
        );
        world.settled("foo", 2).await;
    })
    .await;
}
