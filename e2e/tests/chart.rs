//! What the installed chart gives: CRDs that an upgrade brings up to date without touching what is there,
//! and an account for the host that may do what the host does, and no more.

use std::{fs, path::Path, process::Command};

use k8s_openapi::{
    api::authorization::v1::{
        ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, Config,
    api::PostParams,
    config::{KubeConfigOptions, Kubeconfig},
};
use operon_e2e::{environment, prelude::*};

/// The CRD that the upgrade changes, and the words in it that become others.
const CRD: &str = "operationjobs.apps.kusionstack.io";
const BEFORE: &str = "What is done to each target";
const AFTER: &str = "What shall be done to each target";

#[tokio::test]
async fn an_upgrade_brings_a_changed_crd_and_keeps_the_jobs() {
    story(async |world: &World| {
        let job = Job::replace("kept", &["absent"]).partition(0).object();
        let before = world.create(&job).await;
        let changed = std::env::temp_dir().join(world.named("chart"));
        copy(&environment::chart(), &changed);
        let file = changed.join("crds").join(format!("{CRD}.yaml"));
        let text = fs::read_to_string(&file).expect("the staged chart has its CRDs");
        assert!(
            text.contains(BEFORE),
            "{} says something else now",
            file.display()
        );
        fs::write(&file, text.replace(BEFORE, AFTER)).expect("a folder of our own");
        upgrade(&changed);
        world
            .eventually("the CRD to be the new one", async || {
                says(world, AFTER).await
            })
            .await;
        upgrade(&environment::chart());
        world
            .eventually("the CRD to be as before", async || {
                says(world, BEFORE).await
            })
            .await;
        let after = world.job("kept").await.expect("the job is still there");
        assert_eq!(after.metadata.uid, before.metadata.uid);
        fs::remove_dir_all(&changed).expect("a folder of our own");
    })
    .await;
}

async fn says(world: &World, words: &str) -> Result<()> {
    let crds: Api<CustomResourceDefinition> = Api::all(world.client.clone());
    let text = serde_json::to_string(&crds.get(CRD).await?)?;
    ensure!(text.contains(words), "the CRD does not say {words:?}");
    Ok(())
}

fn upgrade(chart: &Path) {
    let upgraded = Command::new(environment::helm())
        .args([
            "upgrade",
            "operon",
            "--namespace",
            "operon-system",
            "--reuse-values",
        ])
        .arg(chart)
        .output()
        .expect("helm can be started");
    let said = String::from_utf8_lossy(&upgraded.stderr);
    assert!(upgraded.status.success(), "helm upgrade failed: {said}");
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-r").args([from, to]).status();
    assert!(
        copied.is_ok_and(|status| status.success()),
        "{} can't be copied",
        from.display()
    );
}

#[tokio::test]
async fn the_hosts_account_may_do_what_the_host_does_and_no_more() {
    let client = host_client()
        .await
        .expect("the chart's account has a kubeconfig");
    let table = [
        ("apps.kusionstack.io", "operationjobs", "watch", None, true),
        (
            "apps.kusionstack.io",
            "operationjobs/status",
            "patch",
            None,
            true,
        ),
        (
            "apps.kusionstack.io",
            "operationjobs",
            "create",
            None,
            false,
        ),
        ("", "pods", "watch", None, true),
        ("", "pods", "patch", None, false),
        ("", "pods", "delete", None, false),
        ("", "secrets", "get", Some("operon-system"), false),
        ("", "configmaps", "watch", Some("operon-system"), true),
        ("", "configmaps", "get", Some("default"), true),
        ("", "configmaps", "patch", Some("default"), false),
        ("", "secrets", "watch", Some("default"), false),
        ("", "pods/log", "get", None, true),
        ("batch.cs.sap.com", "reactivejobs", "watch", None, true),
        ("batch.cs.sap.com", "reactivejobs", "patch", None, true),
        (
            "batch.cs.sap.com",
            "reactivejobs/status",
            "patch",
            None,
            true,
        ),
        ("batch.cs.sap.com", "reactivejobs", "delete", None, false),
        ("batch", "jobs", "create", None, true),
        ("batch", "jobs", "deletecollection", None, false),
        ("batch", "cronjobs", "create", None, false),
        (
            "",
            "serviceaccounts",
            "impersonate",
            Some("operon-system"),
            true,
        ),
        (
            "",
            "serviceaccounts",
            "impersonate",
            Some("kube-system"),
            false,
        ),
        ("", "users", "impersonate", None, false),
        ("", "groups", "impersonate", None, false),
    ];
    for (group, resource, verb, namespace, expected) in table {
        let allowed = may(&client, group, resource, verb, namespace).await;
        assert_eq!(allowed, expected, "{verb} {resource} in {namespace:?}");
    }
}

async fn host_client() -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(environment::host_kubeconfig())?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

async fn may(
    client: &Client,
    group: &str,
    resource: &str,
    verb: &str,
    namespace: Option<&str>,
) -> bool {
    let (resource, subresource) = match resource.split_once('/') {
        Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
        None => (resource, None),
    };
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                group: Some(group.to_owned()),
                resource: Some(resource.to_owned()),
                subresource,
                verb: Some(verb.to_owned()),
                namespace: namespace.map(str::to_owned),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let answer = reviews.create(&PostParams::default(), &review).await;
    answer
        .expect("any account may ask this")
        .status
        .is_some_and(|status| status.allowed)
}
