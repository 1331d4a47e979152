//! Replace on a CollaSet: the documents' transcript from top to bottom, and what happens when something gets
//! in its way.

use std::collections::BTreeSet;

use operon_api::CollaSet;
use operon_e2e::{
    colla_set::{colla_set, instance_ids, status},
    kubectl::rows,
    prelude::*,
    workload::gated_pod_spec,
};

const COLLA_SET: &str = include_str!("../../../examples/collaset/collaset.yaml");
const JOB: &str = include_str!("../../../examples/replace/operationjob.yaml");

/// The first words of a row of `kubectl get` whose name is this.
fn row<'a>(rows: &'a [Vec<&str>], name: &str) -> &'a [&'a str] {
    let row = rows.iter().find(|row| row[0] == name);
    row.expect("a row of this name")
}

#[tokio::test]
async fn the_transcript_of_the_documents_plays_from_top_to_bottom() {
    story(async |world: &World| {
        world.kubectl_apply(COLLA_SET).await;
        let pods = names(&world.colla_set_serves("foo", 2).await);
        let table = world.kubectl_says(&["get", "cls"]).await;
        assert_eq!(row(&rows(&table), "foo")[1..7], ["2"; 6]);
        let table = world.kubectl_says(&["get", "pod"]).await;
        let printed = rows(&table);
        assert_eq!(printed[0], ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]);
        for pod in &pods {
            assert_eq!(row(&printed, pod)[1..4], ["1/1", "Running", "0"]);
        }
        let endpoints = world.endpoints_of("foo", 2).await;

        let (first, second) = (&pods[0], &pods[1]);
        let job = JOB.replace("foo-jttd5", first).replace("foo-752sz", second);
        let job = job.replace(
            "namespace: default",
            &format!("namespace: {}", world.namespace),
        );
        let applied = world.kubectl_apply(&job).await;
        let said = String::from_utf8_lossy(&applied.stdout).into_owned();
        assert_eq!(
            said.trim(),
            "operationjob.apps.kusionstack.io/opj-replace created"
        );
        world
            .eventually("three pods, the new one not Ready", async || {
                let table = world.kubectl_says(&["get", "pod"]).await;
                let printed = rows(&table);
                ensure!(printed.len() == 4, "{printed:?}");
                ensure!(
                    row(&printed, first)[1..3] == ["1/1", "Running"],
                    "{printed:?}"
                );
                let new = printed[1..]
                    .iter()
                    .find(|row| !pods.contains(&row[0].to_owned()));
                ensure!(new.is_some_and(|new| new[1] == "0/1"), "{printed:?}");
                Ok(())
            })
            .await;
        let table = world.kubectl_says(&["get", "opj"]).await;
        let printed = rows(&table);
        assert_eq!(printed[0], ["NAME", "PROGRESS", "AGE"]);
        assert_eq!(row(&printed, "opj-replace")[1], "Processing");

        let half = world
            .job_until("opj-replace", "the first target has succeeded", |found| {
                job::status(found).succeeded_pod_count == Some(1)
            })
            .await;
        half_is_as_documented(&half, first, second);
        world
            .patch::<OperationJob>("opj-replace", json!({"spec": {"partition": 2}}))
            .await;
        let whole = world.finished("opj-replace").await;
        let status = job::status(&whole);
        assert_eq!(status.progress, Some(Progress::Succeeded));
        assert_eq!(
            (status.succeeded_pod_count, status.total_pod_count),
            (Some(2), Some(2))
        );
        assert!(status.end_timestamp.is_some());
        let new: BTreeSet<_> = status
            .target_details
            .iter()
            .map(|one| one.extra_info["NewPod"].clone())
            .collect();
        let serving = world.colla_set_serves("foo", 2).await;
        assert_eq!(names(&serving).into_iter().collect::<BTreeSet<_>>(), new);
        let table = world.kubectl_says(&["get", "opj"]).await;
        assert_eq!(row(&rows(&table), "opj-replace")[1], "Succeeded");
        // The last label goes a moment after the old pod.
        world
            .eventually("no label of a replacement is left", async || {
                for pod in world.pods("foo").await? {
                    let mut left = pod.labels().keys().filter(|key| {
                        key.contains("pair")
                            || key.contains("to-replace")
                            || key.contains("replace.operon.dev")
                    });
                    ensure!(left.next().is_none(), "{:?}", pod.labels());
                }
                Ok(())
            })
            .await;
        assert!(
            endpoints.least() >= 2,
            "{} endpoints for a while",
            endpoints.least()
        );
    })
    .await;
}

/// The status at the midpoint of the transcript.
fn half_is_as_documented(job: &OperationJob, first: &str, second: &str) {
    let status = job::status(job);
    assert_eq!(status.observed_generation, Some(1));
    assert_eq!(status.progress, Some(Progress::Processing));
    assert_eq!(
        (status.succeeded_pod_count, status.total_pod_count),
        (Some(1), Some(2))
    );
    let [done, pending] = &*status.target_details else {
        unreachable!("two targets, not {:?}", status.target_details)
    };
    assert_eq!(
        (done.name.as_str(), done.progress),
        (first, Progress::Succeeded)
    );
    assert!(done.extra_info["NewPod"].starts_with("foo-"));
    assert_eq!(
        (pending.name.as_str(), pending.progress),
        (second, Progress::Pending)
    );
    assert!(pending.extra_info.is_empty());
}

#[tokio::test]
async fn a_job_that_is_deleted_before_the_new_pod_serves_leaves_the_old_one_alone() {
    story(async |world: &World| {
        // The first pods are made Ready by hand; the new one never is.
        world
            .make::<CollaSet>(colla_set("shop", 1, &gated_pod_spec()))
            .await;
        let old = world.another_pod("shop", &[]).await;
        world.open(&old).await;
        let serving = world.colla_set_serves("shop", 1).await;
        world
            .create(&Job::replace("opj", &names(&serving)).object())
            .await;
        world
            .eventually("the new pod", async || {
                let pods = world.pods("shop").await?;
                ensure!(pods.len() == 2);
                Ok(())
            })
            .await;
        world.delete::<OperationJob>("opj").await;
        world.gone::<OperationJob>("opj").await;
        let left = world
            .eventually("the new pod to be gone", async || {
                let pods = world.pods("shop").await?;
                ensure!(pods.len() == 1);
                Ok(pods)
            })
            .await;
        assert_eq!(left[0].uid(), serving[0].uid());
        let set = world.colla_set_serves("shop", 1).await;
        assert_eq!(instance_ids(&set), [0]);
    })
    .await;
}

#[tokio::test]
async fn all_pods_of_a_set_are_replaced_side_by_side_while_it_is_scaled() {
    story(async |world: &World| {
        let pods = world.colla_set_up("shop", 4).await;
        let job = Job::replace("opj", &names(&pods)).object();
        world.create(&job).await;
        world
            .kubectl_says(&["scale", "cls/shop", "--replicas=6"])
            .await;
        let job = world.finished("opj").await;
        assert_eq!(job::status(&job).succeeded_pod_count, Some(4));
        let after = world.colla_set_serves("shop", 6).await;
        let before = names(&pods);
        assert!(names(&after).iter().all(|name| !before.contains(name)));
        let ids: BTreeSet<_> = instance_ids(&after).into_iter().collect();
        assert_eq!(ids.len(), 6);
        let object = world.get::<CollaSet>("shop").await.expect("the set");
        assert_eq!(status(&object).created_pods, 10);
    })
    .await;
}
