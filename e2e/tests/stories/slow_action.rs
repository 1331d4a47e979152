//! An action that never answers keeps no other action from its work, and its own jobs end as always.

use std::time::Instant;

use operon_e2e::{plugin::Plugin, prelude::*, workload::pod_spec};

/// How many jobs of the slow action there are: as many as the host reconciles at the same time.
const JOBS: usize = 16;

/// How many targets each has.
const TARGETS: usize = 50;

/// Pods that no scheduler takes: it is enough that they exist.
async fn targets(world: &World) -> Vec<String> {
    let mut spec = pod_spec();
    spec["schedulingGates"] = json!([{"name": "e2e.operon.dev/never"}]);
    let names: Vec<_> = (0..TARGETS).map(|n| format!("endless-loop-{n}")).collect();
    for name in &names {
        world
            .make::<Pod>(json!({"metadata": {"name": name}, "spec": spec}))
            .await;
    }
    names
}

/// Replaces a pod of the Deployment `foo`; how long that took.
async fn replace(world: &World, name: &str) -> Duration {
    let pods = world.pods("foo").await.expect("listed");
    let target = pods.iter().find(|pod| pod.is_live()).expect("a pod");
    let begin = Instant::now();
    world
        .create(&Job::replace(name, &[target.name_any()]).object())
        .await;
    let limit = Duration::from_secs(5);
    world
        .eventually_within(limit, &format!("{name} has a status"), async || {
            let job = world.job(name).await?;
            ensure!(job::is_observed(&job), "{:?}", job.status);
            Ok(())
        })
        .await;
    let done = world.finished(name).await;
    assert_eq!(job::progress(&done), Progress::Succeeded);
    let took = begin.elapsed();
    world.settled("foo", 2).await;
    took
}

#[tokio::test]
async fn an_action_that_never_answers_holds_up_neither_others_nor_its_jobs_end() {
    story(async |world: &World| {
        let plugin = Plugin::hostile(world)
            .with("limits", json!({"callTimeout": "30s"}))
            .up(world)
            .await;
        Deployment::of("foo", 2).up(world).await;
        let alone = replace(world, "alone").await;
        let targets = targets(world).await;
        let slow = |number: usize| format!("slow-{number}");
        for number in 0..JOBS {
            let job = Job::of(&slow(number), &plugin.action, &targets);
            let job = if number == 1 { job.deadline(10) } else { job };
            world.create(&job.object()).await;
        }
        let beside = replace(world, "beside").await;
        eprintln!("a Replace takes {alone:?} alone, {beside:?} beside the slow jobs");
        assert!(
            beside < 3 * alone + Duration::from_secs(5),
            "{alone:?} alone, {beside:?} beside the slow jobs"
        );
        for number in 0..JOBS {
            world
                .job_until(&slow(number), "has started", |found| {
                    job::progress(found) != Progress::Pending
                })
                .await;
        }

        let deleted = Instant::now();
        world.delete::<OperationJob>(&slow(0)).await;
        world.gone::<OperationJob>(&slow(0)).await;
        let took = deleted.elapsed();
        eprintln!("a slow job is deleted within {took:?}");
        assert!(took < Duration::from_secs(10), "deleted within {took:?}");

        let late = world.finished(&slow(1)).await;
        for target in &targets {
            assert_eq!(job::error(&late, target).reason, "DeadlineExceeded");
        }
    })
    .await;
}
