//! The plugin of kubectl, as a user runs it: what it shows of a job that waits, what it writes, and how it ends.

use operon_api::{
    CollaSet, ReactiveJob,
    reactive_job::{Outcome, RunReason, State},
};
use operon_e2e::{
    kubectl::operon,
    prelude::*,
    reactive_job::{Reactive, run, status},
    workload::pod_spec,
};

/// A job that waits until its pods have a label.
fn waiting_job(name: &str, targets: &[String]) -> Job {
    Job::of(name, "Check", targets)
        .parameters(&json!({"label": {"key": "checked", "value": "yes"}}))
}

#[tokio::test]
async fn a_user_sees_what_a_job_waits_for_promotes_it_and_waits_for_its_end() {
    story(async |world: &World| {
        let targets = names(&Deployment::of("foo", 2).up(world).await);
        let job = waiting_job("opj", &targets).partition(1).object();
        world.create(&job).await;
        let waits =
            |found: &OperationJob| job::error(found, &targets[0]).reason == "WaitingForLabel";
        world.job_until("opj", "waits for the label", waits).await;

        let (code, tree, error) = operon(world, &["get", "opj/opj"]).await;
        assert_eq!((code, error.as_str()), (Some(0), ""));
        let title = format!("OperationJob {}/opj  Check  ░░░░░░░░  0/2", world.namespace);
        assert!(tree.starts_with(&title), "{tree}");
        assert!(
            tree.contains(&format!("├─ ! {}  Processing", targets[0])),
            "{tree}"
        );
        assert!(tree.contains("WaitingForLabel: "), "{tree}");
        let next = "└─ ○ 1 target waits  partition is 1. Next: kubectl operon promote opj/opj\n";
        assert!(tree.ends_with(next), "{tree}");
        let (code, why, error) = operon(world, &["why", "opj/opj"]).await;
        assert_eq!((code, error.as_str()), (Some(0), ""));
        let waits = format!("{} of opj/opj has been Processing for ", targets[0]);
        assert!(why.starts_with(&waits), "{why}");
        assert!(why.contains("\nWaitingForLabel: "), "{why}");
        let next = format!(
            "\nNext: kubectl describe pod {} -n {}\n",
            targets[0], world.namespace
        );
        assert!(why.ends_with(&next), "{why}");
        let (_, why, _) = operon(world, &["why", "opj/opj", &targets[1]]).await;
        let next = format!(
            "\npartition is 1\nNext: kubectl operon promote opj/opj -n {}\n",
            world.namespace
        );
        assert!(why.ends_with(&next), "{why}");
        let (_, unfinished, _) = operon(world, &["status"]).await;
        assert!(unfinished.contains("opj/opj  Processing"), "{unfinished}");

        let wait = ["get", "opj/opj", "--wait", "--timeout", "1s"];
        let (code, _, error) = operon(world, &wait).await;
        assert_eq!(code, Some(3), "{error}");

        let (code, said, error) = operon(world, &["promote", "opj", "opj"]).await;
        assert_eq!((code, error.as_str()), (Some(0), ""));
        assert_eq!(said, "opj/opj: 2 of 2 targets may start\n");
        let (code, _, error) = operon(world, &["promote", "opj/opj"]).await;
        assert_eq!(code, Some(1));
        assert!(error.contains("has 2 targets only"), "{error}");
        for target in &targets {
            let label = json!({"metadata": {"labels": {"checked": "yes"}}});
            world.patch::<Pod>(target, label).await;
        }
        let (code, lines, error) =
            operon(world, &["get", "opj/opj", "--wait", "--timeout", "2m"]).await;
        assert_eq!(code, Some(0), "{lines}{error}");
        assert!(lines.contains("2 targets succeeded"), "{lines}");
        let (_, unfinished, _) = operon(world, &["status"]).await;
        assert_eq!(unfinished, "Everything has finished.\n");
    })
    .await;
}

#[tokio::test]
async fn a_user_sees_a_job_fail_and_retries_it_and_cancels_another() {
    story(async |world: &World| {
        let job = waiting_job("opj", &["not-there".to_owned()]).object();
        world.create(&job).await;
        let (code, lines, error) =
            operon(world, &["get", "opj/opj", "--wait", "--timeout", "1m"]).await;
        assert_eq!(code, Some(2), "{lines}{error}");
        assert!(lines.contains("not-there  Failed  PodNotFound"), "{lines}");
        let (code, _, error) = operon(world, &["retry", "opj/opj"]).await;
        assert_eq!((code, error.as_str()), (Some(0), ""));
        let again = world.finished("opj-retry").await;
        assert_eq!(job::progress(&again), Progress::Failed);

        let targets = names(&Deployment::of("foo", 1).up(world).await);
        world.create(&waiting_job("waits", &targets).object()).await;
        let (code, _, error) = operon(world, &["cancel", "opj/waits"]).await;
        assert_eq!(code, Some(1));
        assert!(error.contains("add --yes"), "{error}");
        let (code, _, error) = operon(world, &["cancel", "opj/waits", "--yes"]).await;
        assert_eq!((code, error.as_str()), (Some(0), ""));
        world.gone::<OperationJob>("waits").await;
    })
    .await;
}

#[tokio::test]
async fn a_user_runs_a_reactive_job_again_and_waits_for_that_run() {
    story(async |world: &World| {
        Reactive::of("test").apply(world).await;
        world.comes_to("test", State::Ready).await;
        let rerun = ["rerun", "reactivejob/test", "--wait", "--timeout", "2m"];
        for runs in [2, 3] {
            let (code, lines, error) = operon(world, &rerun).await;
            assert_eq!((code, error.as_str()), (Some(0), ""), "{lines}");
            let object = world.get::<ReactiveJob>("test").await;
            let object = object.expect("the ReactiveJob");
            assert_eq!(status(&object).runs.len(), runs, "{lines}");
            let last = run(&object, 0);
            assert_eq!(last.reason, RunReason::RerunRequested);
            assert_eq!(last.outcome, Some(Outcome::Succeeded));
        }
    })
    .await;
}

#[tokio::test]
async fn a_user_promotes_an_edited_template_of_a_colla_set_pod_by_pod() {
    story(async |world: &World| {
        world.colla_set_up("shop", 2).await;
        let mut pod = pod_spec();
        pod["containers"][0]["env"] = json!([{"name": "A", "value": "1"}]);
        let partition = json!({"rollingUpdate": {"byPartition": {"partition": 2}}});
        let spec = json!({"template": {"spec": pod}, "updateStrategy": partition});
        world.patch::<CollaSet>("shop", json!({"spec": spec})).await;
        let wait = ["get", "cls/shop", "--wait", "--timeout", "2m"];
        for (kept, said) in [
            ("2 pods keep", "cls/shop: 1 of 2 pods may be updated\n"),
            ("1 pod keeps", "cls/shop: all pods may be updated\n"),
        ] {
            let (code, lines, error) = operon(world, &wait).await;
            assert_eq!(code, Some(0), "{lines}{error}");
            let (_, tree, _) = operon(world, &["get", "cls/shop"]).await;
            let expected = format!("○ {kept} the previous revision");
            assert!(tree.contains(&expected), "{tree}");
            assert!(
                tree.contains("Next: kubectl operon promote cls/shop\n"),
                "{tree}"
            );
            let (code, promoted, error) = operon(world, &["promote", "cls/shop"]).await;
            assert_eq!((code, error.as_str()), (Some(0), ""));
            assert_eq!(promoted, said);
        }
        let (code, lines, error) = operon(world, &wait).await;
        assert_eq!(code, Some(0), "{lines}{error}");
        let (_, tree, _) = operon(world, &["get", "cls/shop"]).await;
        assert!(tree.ends_with("└─ ✓ 2 pods are Ready\n"), "{tree}");
        let (code, _, error) = operon(world, &["promote", "cls/shop"]).await;
        assert_eq!(code, Some(1));
        assert!(error.contains("has no partition"), "{error}");
    })
    .await;
}
