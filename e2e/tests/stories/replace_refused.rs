//! What the API server refuses for a while, by a quota or a policy: the target waits and reports the
//! refusal, and goes on by itself.

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use kube::{
    Api,
    api::{DeleteParams, EvictParams, PostParams},
};
use operon_e2e::{prelude::*, workload::pod_spec};

#[tokio::test]
async fn a_standalone_pod_waits_for_a_quota_and_is_replaced_when_there_is_room() {
    story(async |world: &World| {
        let pod = json!({"metadata": {"name": "alone"}, "spec": pod_spec()});
        world.make::<Pod>(pod).await;
        world.pod_until("alone", "is ready", Pod::is_ready).await;
        world.set_quota(1).await;
        world
            .create(&Job::replace("opj", &["alone"]).object())
            .await;
        world
            .job_until("opj", "quotes the quota", |found| {
                let error = job::detail(found, "alone").error;
                error.is_some_and(|error| {
                    error.reason == "Forbidden" && error.message.contains("exceeded quota")
                })
            })
            .await;
        world.lift_quota().await;
        let done = world.finished("opj").await;
        assert_eq!(job::progress(&done), Progress::Succeeded);
    })
    .await;
}

#[tokio::test]
async fn a_replacement_that_is_ready_waits_for_a_policy_that_refuses_to_remove_the_old_pod() {
    story(async |world: &World| {
        let before = Deployment::of("foo", 1).up(world).await;
        let target = before[0].name_any();
        refuse_evictions(world, &target).await;
        world
            .create(&Job::replace("opj", &[&target]).object())
            .await;
        world
            .job_until("opj", "quotes the policy", |found| {
                let error = job::detail(found, &target).error;
                error.is_some_and(|error| error.message.contains("no evictions today"))
            })
            .await;
        let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(world.client.clone());
        let delete = DeleteParams::default();
        let deleted = bindings.delete(&world.namespace, &delete).await;
        deleted.expect("the binding is deleted");
        let done = world.finished("opj").await;
        assert_eq!(job::progress(&done), Progress::Succeeded);
        world.pod_gone(&before[0]).await;
        let policies: Api<ValidatingAdmissionPolicy> = Api::all(world.client.clone());
        let deleted = policies.delete(&world.namespace, &delete).await;
        deleted.expect("the policy is deleted");
    })
    .await;
}

/// Refuses evictions in the story's namespace with a 403, and waits until the API server does so.
async fn refuse_evictions(world: &World, pod: &str) {
    let namespace = &world.namespace;
    let policy = json!({
        "metadata": {"name": namespace},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                "resourceRules": [{
                    "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
                    "resources": ["pods/eviction"],
                }],
            },
            "validations": [{
                "expression": "false", "message": "no evictions today", "reason": "Forbidden",
            }],
        },
    });
    let binding = json!({
        "metadata": {"name": namespace},
        "spec": {"policyName": namespace, "validationActions": ["Deny"]},
    });
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(world.client.clone());
    let policy = serde_json::from_value(policy).expect("a policy");
    let made = policies.create(&PostParams::default(), &policy).await;
    made.expect("the policy is created");
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(world.client.clone());
    let binding = serde_json::from_value(binding).expect("a binding");
    let made = bindings.create(&PostParams::default(), &binding).await;
    made.expect("the binding is created");
    let params = EvictParams {
        post_options: PostParams {
            dry_run: true,
            ..PostParams::default()
        },
        ..EvictParams::default()
    };
    world
        .eventually("the policy is in force", async || {
            let answer = world.api::<Pod>().evict(pod, &params).await;
            let refused = matches!(&answer, Err(kube::Error::Api(status)) if status.code == 403);
            ensure!(refused, "{answer:?}");
            Ok(())
        })
        .await;
}
