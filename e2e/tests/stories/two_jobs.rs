//! Replace, when two jobs want the same pod, or one wants the new pod of the other: both end, and neither
//! undoes what is the other's.

use operon_e2e::{pods::identities, prelude::*};

#[tokio::test]
async fn two_jobs_on_one_pod_both_succeed_with_the_same_new_pod() {
    story(async |world: &World| {
        let before = Deployment::of("foo", 2).gated().up(world).await;
        let endpoints = world.service("foo", 2).await;
        let target = before[0].name_any();
        world
            .create(&Job::replace("one", &[&target]).object())
            .await;
        world
            .create(&Job::replace("two", &[&target]).object())
            .await;
        let new = world.another_pod("foo", &before).await;
        for name in ["one", "two"] {
            world
                .job_until(name, "knows the new pod", |found| {
                    job::new_pod(found, &target) == Some(new.name_any())
                })
                .await;
        }
        world.open(&new).await;
        for name in ["one", "two"] {
            let done = world.finished(name).await;
            assert_eq!(job::progress(&done), Progress::Succeeded);
            assert_eq!(job::new_pod(&done, &target), Some(new.name_any()));
        }
        world.settled("foo", 2).await;
        assert!(endpoints.least() >= 2, "{}", endpoints.least());
    })
    .await;
}

#[tokio::test]
async fn of_two_jobs_on_one_pod_either_can_be_deleted_and_the_other_goes_on() {
    story(async |world: &World| {
        let before = Deployment::of("foo", 2).gated().up(world).await;
        let endpoints = world.service("foo", 2).await;
        for (target, leaves, stays) in [(&before[0], "one", "two"), (&before[1], "four", "three")] {
            let name = target.name_any();
            let known = world.pods("foo").await.expect("pods");
            // The first to come has released the pod; either the first or the second is deleted.
            let (first, second) = if leaves < stays {
                (leaves, stays)
            } else {
                (stays, leaves)
            };
            world.create(&Job::replace(first, &[&name]).object()).await;
            let new = world.another_pod("foo", &known).await;
            world.create(&Job::replace(second, &[&name]).object()).await;
            for job in [first, second] {
                world
                    .job_until(job, "knows the new pod", |found| {
                        job::new_pod(found, &name) == Some(new.name_any())
                    })
                    .await;
            }
            world.delete::<OperationJob>(leaves).await;
            world.gone::<OperationJob>(leaves).await;
            let done = world.finished_when_all_open(stays, "foo").await;
            assert_eq!(
                job::progress(&done),
                Progress::Succeeded,
                "{:?}",
                done.status
            );
            world.pod_gone(target).await;
            let after = world.settled("foo", 2).await;
            assert!(names(&after).contains(&job::new_pod(&done, &name).unwrap_or_default()));
        }
        assert!(endpoints.least() >= 2, "{}", endpoints.least());
    })
    .await;
}

#[tokio::test]
async fn a_target_that_is_the_new_pod_of_another_replacement_waits_for_its_end() {
    story(async |world: &World| {
        let before = Deployment::of("foo", 1).gated().up(world).await;
        let target = before[0].name_any();
        world
            .create(&Job::replace("one", &[&target]).object())
            .await;
        let new = world.another_pod("foo", &before).await;
        world
            .job_until("one", "knows the new pod", |found| {
                job::new_pod(found, &target).is_some()
            })
            .await;
        world
            .create(&Job::replace("two", &[new.name_any()]).object())
            .await;
        let waiting = world
            .job_until("two", "waits and says why", |found| {
                job::detail(found, &new.name_any())
                    .extra_info
                    .contains_key("NotAllowedToReplaceNewPod")
            })
            .await;
        assert_eq!(job::progress(&waiting), Progress::Processing);
        world.open(&new).await;
        assert_eq!(
            job::progress(&world.finished("one").await),
            Progress::Succeeded
        );
        let known: Vec<Pod> = before.iter().cloned().chain([new.clone()]).collect();
        let last = world.another_pod("foo", &known).await;
        world.open(&last).await;
        let done = world.finished("two").await;
        assert_eq!(job::progress(&done), Progress::Succeeded);
        assert!(
            !job::detail(&done, &new.name_any())
                .extra_info
                .contains_key("NotAllowedToReplaceNewPod")
        );
        let after = world.settled("foo", 1).await;
        assert_eq!(identities(&after), identities([&last]));
    })
    .await;
}

#[tokio::test]
async fn a_job_deleted_beside_another_of_the_same_deployment_does_it_no_harm() {
    story(async |world: &World| {
        let before = Deployment::of("foo", 3).gated().up(world).await;
        let endpoints = world.service("foo", 3).await;
        let targets = names(&before);
        for (name, target) in ["one", "two", "three"].iter().zip(&targets) {
            world.create(&Job::replace(name, &[target]).object()).await;
            world
                .job_until(name, "knows the new pod", |found| {
                    job::new_pod(found, target).is_some()
                })
                .await;
        }
        // The ReplicaSet removes the surplus as it likes: the youngest, which is the third's new pod.
        world.delete::<OperationJob>("one").await;
        world.gone::<OperationJob>("one").await;
        for name in ["two", "three"] {
            let done = world.finished_when_all_open(name, "foo").await;
            assert_eq!(
                job::progress(&done),
                Progress::Succeeded,
                "{:?}",
                done.status
            );
        }
        let after = world.settled("foo", 3).await;
        let stays = |pod: &Pod| identities(&after).contains(&pod.identity());
        assert!(stays(&before[0]) && !stays(&before[1]) && !stays(&before[2]));
        assert!(endpoints.least() >= 3, "{}", endpoints.least());
    })
    .await;
}
