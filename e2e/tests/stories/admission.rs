//! What the API server refuses, changes or lets pass before the host sees it: schema, defaults and rules of
//! the CustomResourceDefinition, no webhook.

use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use operon_e2e::prelude::*;
use serde_json::Value;

/// A job that no action serves: nothing but the API server acts on it.
fn valid() -> Value {
    json!({
        "apiVersion": "apps.kusionstack.io/v1alpha1",
        "kind": "OperationJob",
        "metadata": {"name": "opj"},
        "spec": {"action": "Nothing", "partition": 0, "targets": [{"name": "a"}, {"name": "b"}]}
    })
}

/// What the API server says of creating this.
async fn creating(world: &World, object: Value) -> Result<OperationJob, String> {
    let object: kube::core::DynamicObject = serde_json::from_value(object).expect("an object");
    let resource = kube::core::ApiResource::erase::<OperationJob>(&());
    let api = kube::Api::namespaced_with(world.client.clone(), &world.namespace, &resource);
    let created: Result<kube::core::DynamicObject, _> =
        api.create(&PostParams::default(), &object).await;
    match created {
        Ok(created) => Ok(created.try_parse().expect("an OperationJob")),
        Err(error) => Err(error.to_string()),
    }
}

async fn patching(world: &World, patch: Value) -> Result<(), String> {
    let jobs = world.api::<OperationJob>();
    let patched = jobs
        .patch("opj", &PatchParams::default(), &Patch::Merge(patch))
        .await;
    patched.map(drop).map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_job_that_makes_no_sense_is_refused_with_the_field_at_fault() {
    story(async |world: &World| {
        let targets = |count: usize| -> Value {
            (0..count)
                .map(|n| json!({"name": format!("pod-{n}")}))
                .collect()
        };
        let table = [
            ("action", Value::Null, "spec.action"),
            ("action", json!(""), "spec.action"),
            ("action", json!("x".repeat(1000)), "spec.action"),
            ("action", json!("two words"), "spec.action"),
            ("targets", Value::Null, "spec.targets"),
            ("targets", json!([]), "spec.targets"),
            ("targets", targets(10_001), "spec.targets"),
            (
                "targets",
                json!([{"name": "a"}, {"name": "a"}]),
                "Duplicate value",
            ),
            ("targets", json!([{"name": ""}]), "spec.targets[0].name"),
            (
                "targets",
                json!([{"name": "No_Pod"}]),
                "spec.targets[0].name",
            ),
            (
                "targets",
                json!([{"name": "a", "containers": ["x", "x"]}]),
                "spec.targets[0].containers[1]",
            ),
            (
                "targetSelector",
                json!({"nodeName": "n"}),
                "exactly one of targets and targetSelector is required",
            ),
            ("maxConcurrent", json!(0), "spec.maxConcurrent"),
            ("maxConcurrent", json!("0%"), "spec.maxConcurrent"),
            // The host could not read it.
            (
                "maxConcurrent",
                json!(3_000_000_000_u32),
                "spec.maxConcurrent",
            ),
            ("maxUnavailable", json!(0), "spec.maxUnavailable"),
            ("maxUnavailable", json!("0%"), "spec.maxUnavailable"),
            ("maxFailures", json!(3_000_000_000_u32), "spec.maxFailures"),
            ("maxConcurrent", json!("ten"), "spec.maxConcurrent"),
            ("maxFailures", json!(-1), "spec.maxFailures"),
            ("maxFailures", json!("ten"), "spec.maxFailures"),
            ("onFailure", json!("Stop"), "spec.onFailure"),
            ("partition", json!(-1), "spec.partition"),
            ("partition", json!("1"), "spec.partition"),
            (
                "activeDeadlineSeconds",
                json!(0),
                "spec.activeDeadlineSeconds",
            ),
            (
                "TTLSecondsAfterFinished",
                json!(0),
                "spec.TTLSecondsAfterFinished",
            ),
            (
                "TTLSecondsAfterFinished",
                json!(-2),
                "spec.TTLSecondsAfterFinished",
            ),
            (
                "operationDelaySeconds",
                json!(-1),
                "spec.operationDelaySeconds",
            ),
        ];
        for (field, value, fault) in table {
            let mut object = valid();
            object["spec"][field] = value;
            let refusal = creating(world, object).await.expect_err(field);
            assert!(
                refusal.contains(fault),
                "{field}: {}",
                &refusal[..refusal.len().min(500)]
            );
        }
    })
    .await;
}

#[tokio::test]
async fn a_selector_of_targets_selects_something_and_does_not_change() {
    story(async |world: &World| {
        let selecting = |selector: Value| {
            let mut object = valid();
            object["spec"]["targets"] = Value::Null;
            object["spec"]["targetSelector"] = selector;
            object
        };
        for (selector, fault) in [
            (
                Value::Null,
                "exactly one of targets and targetSelector is required",
            ),
            (
                json!({}),
                "at least one of labelSelector, owner and nodeName is required",
            ),
            (
                json!({"containers": ["main"]}),
                "at least one of labelSelector, owner and nodeName is required",
            ),
            (
                json!({"labelSelector": {}}),
                "an empty selector would select all pods",
            ),
            (
                json!({"labelSelector": {"matchLabels": {}}}),
                "an empty selector would select all pods",
            ),
            (
                json!({"labelSelector": {"matchExpressions": [{"key": "a", "operator": "NotIn", "values": []}]}}),
                "In and NotIn need values",
            ),
            (
                json!({"labelSelector": {"matchExpressions": [{"key": "a", "operator": "Like"}]}}),
                "there are no other operators",
            ),
            (json!({"owner": "web"}), "spec.targetSelector.owner"),
            (json!({"owner": "pod/web"}), "spec.targetSelector.owner"),
            (json!({"nodeName": ""}), "spec.targetSelector.nodeName"),
        ] {
            let refusal = creating(world, selecting(selector.clone())).await;
            let refusal = refusal.expect_err("a refusal");
            assert!(refusal.contains(fault), "{selector}: {refusal}");
        }
        creating(world, selecting(json!({"owner": "deployment/web"})))
            .await
            .expect("valid");
        for (patch, fault) in [
            (
                json!({"targetSelector": {"owner": "deployment/other"}}),
                "targetSelector can't be changed",
            ),
            (
                json!({"targetSelector": null, "targets": [{"name": "a"}]}),
                "targets can't be replaced by targetSelector, nor the other way",
            ),
        ] {
            let refusal = patching(world, json!({"spec": patch}))
                .await
                .expect_err("a refusal");
            assert!(refusal.contains(fault), "{refusal}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_dry_run_does_not_become_a_real_one_nor_the_other_way() {
    story(async |world: &World| {
        creating(world, valid()).await.expect("valid");
        let refusal = patching(world, json!({"spec": {"dryRun": true}})).await;
        assert!(
            refusal
                .expect_err("a refusal")
                .contains("dryRun can't be changed")
        );
        patching(world, json!({"spec": {"dryRun": false}}))
            .await
            .expect("no change");
        let mut dry = valid();
        dry["metadata"]["name"] = json!("dry");
        dry["spec"]["dryRun"] = json!(true);
        creating(world, dry).await.expect("valid");
        for value in [json!(false), Value::Null] {
            let patch = Patch::Merge(json!({"spec": {"dryRun": value}}));
            let jobs = world.api::<OperationJob>();
            let patched = jobs.patch("dry", &PatchParams::default(), &patch).await;
            let refusal = patched.expect_err("a refusal").to_string();
            assert!(refusal.contains("dryRun can't be changed"), "{refusal}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_misspelt_field_is_refused_by_kubectl_with_its_name() {
    story(async |world: &World| {
        let mut object = valid();
        object["spec"]["ttlSecondsAfterFinished"] = json!(60);
        let applied = world.kubectl_apply(&object.to_string()).await;
        let said = String::from_utf8_lossy(&applied.stderr);
        assert!(
            !applied.status.success() && said.contains("spec.ttlSecondsAfterFinished"),
            "{said}"
        );
    })
    .await;
}

#[tokio::test]
async fn what_is_left_out_is_filled_in() {
    story(async |world: &World| {
        let mut object = valid();
        object["spec"]["partition"] = Value::Null;
        let created = creating(world, object).await.expect("valid");
        assert_eq!(created.spec.active_deadline_seconds, Some(10_800));
        assert_eq!(created.spec.ttl_seconds_after_finished, Some(1800));
        assert_eq!(
            (created.spec.partition, created.spec.operation_delay_seconds),
            (None, None)
        );
    })
    .await;
}

#[tokio::test]
async fn what_a_job_does_can_not_be_changed_and_its_partition_only_grows() {
    story(async |world: &World| {
        let mut object = valid();
        object["spec"]["partition"] = json!(1);
        creating(world, object).await.expect("valid");
        let refused = [
            (json!({"action": "Other"}), "action can't be changed"),
            (
                json!({"targets": [{"name": "a"}]}),
                "targets can't be changed",
            ),
            (
                json!({"targets": [{"name": "b"}, {"name": "a"}]}),
                "targets can't be changed",
            ),
            (json!({"partition": 0}), "partition may only grow"),
            (json!({"partition": -1}), "spec.partition"),
        ];
        for (spec, fault) in refused {
            let refusal = patching(world, json!({"spec": spec}))
                .await
                .expect_err(fault);
            assert!(refusal.contains(fault), "{refusal}");
        }
        patching(world, json!({"spec": {"partition": 2}}))
            .await
            .expect("it grows");
        patching(world, json!({"spec": {"activeDeadlineSeconds": 5}}))
            .await
            .expect("it may change");
        patching(world, json!({"spec": {"TTLSecondsAfterFinished": 5}}))
            .await
            .expect("it may change");
        patching(world, json!({"spec": {"TTLSecondsAfterFinished": -1}}))
            .await
            .expect("it may be kept");
        patching(world, json!({"spec": {"partition": null}}))
            .await
            .expect("all is more than two");
        let refusal = patching(world, json!({"spec": {"partition": 2}}))
            .await
            .expect_err("it shrinks");
        assert!(refusal.contains("partition can't be set"), "{refusal}");
    })
    .await;
}

#[tokio::test]
async fn ten_thousand_targets_are_let_pass_and_looked_at() {
    story(async |world: &World| {
        let mut object = valid();
        object["spec"]["targets"] = (0..10_000)
            .map(|n| json!({"name": format!("pod-{n}")}))
            .collect();
        creating(world, object).await.expect("valid");
        world
            .job_until("opj", "is counted", |found| {
                job::status(found).total_pod_count == Some(10_000)
            })
            .await;
    })
    .await;
}

/// Everything about OperationJobs, and nothing of actions.
fn jobs_only() -> Value {
    json!([{"apiGroups": ["apps.kusionstack.io"], "resources": ["operationjobs", "operationjobs/status"],
        "verbs": ["*"]}])
}

/// The OperationJobs of the world, as this user sees them.
fn jobs_of(world: &World, user: &Client) -> Api<OperationJob> {
    Api::namespaced(user.clone(), &world.namespace)
}

/// What the API server says to this user of creating a job of an action, on a pod that does not exist.
async fn using(world: &World, user: &Client, name: &str, action: &str) -> Result<(), String> {
    let job = Job::of(name, action, &["absent"]).partition(0).object();
    let created = jobs_of(world, user)
        .create(&PostParams::default(), &job)
        .await;
    created.map(drop).map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_user_with_edit_uses_the_built_in_actions_but_not_debug_nor_the_actions_of_others() {
    story(async |world: &World| {
        let editor = world.user_with("editor", "edit").await;
        let admin = world.user_with("admin", "admin").await;
        world
            .eventually("the role edit has the verb use", async || {
                using(world, &editor, "first", "Replace")
                    .await
                    .map_err(anyhow::Error::msg)
            })
            .await;
        for action in [
            "Restart", "Recreate", "Evict", "Resize", "Label", "Annotate", "Check",
        ] {
            let name = action.to_lowercase();
            let used = using(world, &editor, &name, action).await;
            assert_eq!(used, Ok(()), "{action}");
        }
        assert_eq!(using(world, &admin, "second", "Replace").await, Ok(()));
        for action in ["Debug", "Nothing"] {
            let refusal = using(world, &editor, "refused", action).await;
            let refusal = refusal.expect_err(action);
            let said = format!("{} may not use the action {action}", world.named("editor"));
            assert!(refusal.contains(&said), "{refusal}");
        }
        // An administrator of the cluster may use every action.
        let used = using(world, &world.client, "any", "Nothing").await;
        assert_eq!(used, Ok(()));
        // Who has `edit` raises the partition, and the host ends the job: it changes no spec.
        let patch = Patch::Merge(json!({"spec": {"partition": 1}}));
        let patched = jobs_of(world, &editor)
            .patch("first", &PatchParams::default(), &patch)
            .await;
        patched.expect("an editor changes a job");
        let done = world.finished("first").await;
        assert_eq!(job::progress(&done), Progress::Failed);
    })
    .await;
}

#[tokio::test]
async fn a_user_without_use_neither_creates_jobs_nor_continues_those_of_others() {
    story(async |world: &World| {
        let user = world.user_of("user", jobs_only()).await;
        let jobs = jobs_of(world, &user);
        world
            .eventually("the user has its role", async || {
                jobs.list(&ListParams::default()).await?;
                Ok(())
            })
            .await;
        let refusal = using(world, &user, "own", "Replace").await;
        let said = "may not use the action Replace";
        assert!(refusal.is_err_and(|error| error.contains(said)));
        let pods = Deployment::of("foo", 1).up(world).await;
        let job = Job::replace("opj", &names(&pods)).partition(0).object();
        world.create(&job).await;
        let params = PatchParams::default();
        for spec in [json!({"partition": 1}), json!({"partition": null})] {
            let patch = Patch::Merge(json!({"spec": spec}));
            let refusal = jobs.patch("opj", &params, &patch).await;
            let refusal = refusal.expect_err("a refusal").to_string();
            let said = "may not change a job of the action Replace";
            assert!(refusal.contains(said), "{refusal}");
        }
        // What starts no target passes.
        let patch = Patch::Merge(json!({
            "metadata": {"annotations": {"example.com/a": "b"}, "labels": {"a": "b"}}
        }));
        let patched = jobs.patch("opj", &params, &patch).await;
        patched.expect("metadata can be changed");
        assert_eq!(names(&world.settled("foo", 1).await), names(&pods));
        let deleted = jobs.delete("opj", &DeleteParams::default()).await;
        deleted.expect("a job can be deleted");
        world
            .eventually("the job is gone", async || {
                ensure!(
                    world.find::<OperationJob>("opj").await.is_none(),
                    "it is there"
                );
                Ok(())
            })
            .await;
        // The right to use one action is that action's only, and the case of its name does not matter.
        let mut rules = jobs_only();
        rules.as_array_mut().expect("rules").push(json!({
            "apiGroups": ["operon.dev"], "resources": ["actionplugins"],
            "resourceNames": ["replace"], "verbs": ["use"]
        }));
        let granted = world.user_of("granted", rules).await;
        world
            .eventually("the other user may use Replace", async || {
                using(world, &granted, "replace", "Replace")
                    .await
                    .map_err(anyhow::Error::msg)
            })
            .await;
        let refusal = using(world, &granted, "restart", "Restart").await;
        assert!(refusal.is_err_and(|said| said.contains("may not use the action Restart")));
    })
    .await;
}

#[tokio::test]
async fn a_user_without_use_adds_no_pods_to_a_job_by_its_status() {
    story(async |world: &World| {
        let user = world.user_of("user", jobs_only()).await;
        let mut rules = jobs_only();
        rules.as_array_mut().expect("rules").push(json!({
            "apiGroups": ["operon.dev"], "resources": ["actionplugins"],
            "resourceNames": ["replace"], "verbs": ["use"]
        }));
        let granted = world.user_of("granted", rules).await;
        let pods = Deployment::of("foo", 1).up(world).await;
        let other = Deployment::of("bar", 1).up(world).await;
        let mut object = valid();
        object["spec"] = json!({"action": "Replace", "partition": 0, "targetSelector": {"owner": "deployment/foo"}});
        creating(world, object).await.expect("valid");
        // The host writes the status although it was not granted the action.
        let targets = |job: &OperationJob| {
            let targets = job.targets().iter();
            targets.map(|target| target.name.clone()).collect::<Vec<_>>()
        };
        let has_selected = |job: &OperationJob| targets(job) == names(&pods);
        world.job_until("opj", "has selected", has_selected).await;
        let writing = async |user: &Client, status: Value| {
            let jobs = jobs_of(world, user);
            let patch = Patch::Merge(json!({"status": status}));
            let patched = jobs.patch_status("opj", &PatchParams::default(), &patch).await;
            patched.map(drop).map_err(|error| error.to_string())
        };
        world
            .eventually("the other user has its role", async || {
                let written = writing(&granted, json!({"progress": "Pending"})).await;
                written.map_err(anyhow::Error::msg)
            })
            .await;
        let added: Vec<_> = names(&other).iter().map(|name| json!({"name": name})).collect();
        for status in [json!({"targets": added}), json!({"targetDetails": null})] {
            let refusal = writing(&user, status.clone()).await;
            let said = "may not change a job of the action Replace";
            assert!(
                refusal.as_ref().is_err_and(|error| error.contains(said)),
                "{status}: {refusal:?}"
            );
        }
        let job = world.job("opj").await.expect("the job");
        assert_eq!(targets(&job), names(&pods));
    })
    .await;
}
