//! What the installed chart gives: CRDs that an upgrade brings up to date without touching what is there,
//! and an account for the host that may do what the host does, and no more.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

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
use tokio::io::{AsyncBufReadExt as _, BufReader};

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
        ("", "configmaps", "get", Some("default"), false),
        ("", "configmaps", "patch", Some("default"), false),
        ("", "secrets", "watch", Some("default"), false),
        ("", "pods/log", "get", None, false),
        ("batch.cs.sap.com", "reactivejobs", "watch", None, true),
        ("batch.cs.sap.com", "reactivejobs", "patch", None, false),
        (
            "batch.cs.sap.com",
            "reactivejobs/status",
            "patch",
            None,
            true,
        ),
        ("batch.cs.sap.com", "reactivejobs", "delete", None, false),
        ("api.practice.com", "jobflows", "watch", None, true),
        ("api.practice.com", "jobflows", "delete", None, false),
        ("api.practice.com", "jobflows", "patch", None, false),
        ("api.practice.com", "jobflows/status", "patch", None, true),
        ("api.practice.com", "jobtemplates", "list", None, true),
        ("api.practice.com", "jobtemplates", "watch", None, true),
        (
            "api.practice.com",
            "jobtemplates/status",
            "patch",
            None,
            true,
        ),
        ("api.practice.com", "daemonjobs", "watch", None, true),
        ("api.practice.com", "daemonjobs", "delete", None, false),
        ("api.practice.com", "daemonjobs/status", "patch", None, true),
        ("", "nodes", "watch", None, true),
        ("", "nodes", "patch", None, false),
        ("batch", "jobs", "watch", None, true),
        ("batch", "jobs", "create", None, false),
        ("batch", "jobs", "delete", None, false),
        ("batch", "jobs", "deletecollection", None, false),
        ("batch", "cronjobs", "create", None, false),
        ("", "serviceaccounts", "list", Some("operon-system"), true),
        ("", "serviceaccounts", "watch", Some("operon-system"), true),
        ("", "serviceaccounts", "list", Some("kube-system"), false),
        ("", "serviceaccounts", "watch", Some("kube-system"), false),
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

#[tokio::test]
async fn a_controller_that_is_disabled_has_no_account_and_no_rights() {
    let render = |value: &str| {
        let rendered = Command::new(environment::helm())
            .args(["template", "operon", "--kube-version", "1.34.0"])
            .args(["--set", value])
            .arg(environment::chart())
            .output()
            .expect("helm can be started");
        assert!(rendered.status.success(), "{rendered:?}");
        let text = String::from_utf8(rendered.stdout).expect("UTF-8");
        let is_about = |what: &str| text.contains(what);
        (
            is_about("name: operon-jobflow\n"),
            is_about("resources: [jobflows/"),
            is_about("--controllers=collaset,podopslifecycle,reactivejob,jobflow,daemonjob\n"),
        )
    };
    assert_eq!(
        render("controllers.jobFlow.enabled=true"),
        (true, true, true)
    );
    let disabled = render("controllers.jobFlow.enabled=false");
    assert_eq!(disabled, (false, false, false));
    // The values of an older release do not have it.
    assert_eq!(render("controllers.jobFlow=null"), (true, true, true));
}

#[tokio::test]
async fn a_host_talks_to_no_server_of_another_authority() {
    let mut kubeconfig = kubeconfig().expect("the chart's account has a kubeconfig");
    for cluster in &mut kubeconfig.clusters {
        let cluster = cluster.cluster.as_mut().expect("a cluster");
        cluster.certificate_authority = None;
        cluster.certificate_authority_data = None;
    }
    let file = std::env::temp_dir().join(format!("operon-e2e-{}-no-ca", std::process::id()));
    let yaml = serde_yaml_ng::to_string(&kubeconfig).expect("YAML");
    fs::write(&file, yaml).expect("a kubeconfig");
    let mut host = tokio::process::Command::new(environment::binary())
        .args(["run", "--listen=127.0.0.1:0", "--log-format=text"])
        .arg("--no-leader-election")
        .env("KUBECONFIG", &file)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("a host");
    let mut lines = BufReader::new(host.stderr.take().expect("its log")).lines();
    let mut log = String::new();
    let refused = tokio::time::timeout(Duration::from_mins(1), async {
        while let Ok(Some(line)) = lines.next_line().await {
            log.push_str(&line);
            if line.contains("certificate") {
                return true;
            }
        }
        false
    })
    .await;
    fs::remove_file(&file).expect("the kubeconfig");
    assert_eq!(refused, Ok(true), "{log}");
}

fn kubeconfig() -> Result<Kubeconfig> {
    Ok(Kubeconfig::read_from(environment::host_kubeconfig())?)
}

async fn host_client() -> Result<Client> {
    let kubeconfig = kubeconfig()?;
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
