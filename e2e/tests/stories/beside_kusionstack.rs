//! A cluster with KusionStack: Operon stands down while KusionStack's controllers run, and takes over when they
//! go.
//!
//! These stories run hosts of their own, so they run alone, after most others.

use k8s_openapi::api::{
    admissionregistration::v1::MutatingWebhookConfiguration, apps::v1::ControllerRevision,
};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use operon_api::{CollaSet, ResourceContext, conditions::find, keys};
use operon_e2e::{
    colla_set::{colla_set, instance_ids, status},
    host::{Host, alone},
    prelude::*,
    workload::pod_spec,
    world::Kind,
};

const WEBHOOK: &str = "kusionstack-controller-manager-mutating";

const STANDING_DOWN: &str = "StandingDown";

fn webhooks(world: &World) -> Api<MutatingWebhookConfiguration> {
    Api::all(world.client.clone())
}

/// KusionStack is installed; its webhook has no rule, so it is never called.
async fn install(world: &World) {
    let configuration = serde_json::from_value(json!({"metadata": {"name": WEBHOOK}}));
    let configuration = configuration.expect("a MutatingWebhookConfiguration");
    // A story that failed may have left it.
    let _ = webhooks(world)
        .delete(WEBHOOK, &DeleteParams::default())
        .await;
    let created = webhooks(world)
        .create(&PostParams::default(), &configuration)
        .await;
    created.expect("the configuration of the webhook");
}

async fn uninstall(world: &World) {
    let deleted = webhooks(world)
        .delete(WEBHOOK, &DeleteParams::default())
        .await;
    deleted.expect("the configuration of the webhook");
}

/// The value of the metric for this controller.
fn metric(host: &Host, controller: &str) -> Result<String> {
    let text = host.metrics()?;
    let name = format!("operon_controller_standing_down{{controller=\"{controller}\"}} ");
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(&name));
    value.map(str::to_owned).context("no such metric")
}

/// The name, the uid and the restarts of pods.
fn identities(pods: &[Pod]) -> Vec<(String, Option<String>, i32)> {
    let restarts = |pod: &Pod| {
        let status = pod.status.as_ref();
        let containers = status.and_then(|status| status.container_statuses.as_ref());
        containers
            .into_iter()
            .flatten()
            .map(|one| one.restart_count)
            .sum()
    };
    let identity = |pod: &Pod| (pod.name_any(), pod.uid(), restarts(pod));
    pods.iter().map(identity).collect()
}

/// The status that KusionStack's controller wrote.
async fn write_status<K: Kind>(world: &World, name: &str, status: serde_json::Value) -> K {
    let (api, params) = (world.api::<K>(), PatchParams::default());
    let patch = Patch::Merge(json!({"status": status}));
    let written = api.patch_status(name, &params, &patch).await;
    written.expect("the status can be written")
}

#[tokio::test]
async fn while_kusionstacks_webhook_is_configured_operon_says_so_and_writes_nothing_else() {
    alone(async |world: &World| {
        install(world).await;
        let deployment = Deployment::of("other", 1).up(world).await;
        let host = Host::start(world, "beside");
        host.leads(world).await;
        world
            .make::<CollaSet>(colla_set("shop", 2, &pod_spec()))
            .await;
        world
            .create(&Job::replace("opj", &names(&deployment)).object())
            .await;
        world
            .eventually("the condition of the CollaSet", async || {
                let status = status(&world.get::<CollaSet>("shop").await?);
                let condition = find(&status.conditions, STANDING_DOWN).context("none")?;
                ensure!(condition.message.contains(WEBHOOK), "{condition:?}");
                Ok(())
            })
            .await;
        let job = world
            .job_until("opj", "has the condition", |job| {
                find(&job::status(job).conditions, STANDING_DOWN).is_some()
            })
            .await;
        assert_eq!(job::status(&job).progress, None);
        for controller in ["collaset", "podopslifecycle", "operationjob"] {
            let value = metric(&host, controller).expect("the metric");
            assert_eq!(value, "1", "{controller}");
        }
        let version = async || -> Result<Option<String>> {
            Ok(world.get::<CollaSet>("shop").await?.resource_version())
        };
        let before = version().await.expect("a version");
        world
            .for_a_while("no pods, and no other write", async || {
                ensure!(world.pods("shop").await?.is_empty());
                ensure!(version().await? == before);
                ensure!(world.job("opj").await?.resource_version() == job.resource_version());
                Ok(())
            })
            .await;
        uninstall(world).await;
        world.colla_set_serves("shop", 2).await;
        let done = world.finished("opj").await;
        let status_of_job = job::status(&done);
        assert_eq!(status_of_job.progress, Some(Progress::Succeeded));
        assert!(find(&status_of_job.conditions, STANDING_DOWN).is_none());
        let status = status(&world.get::<CollaSet>("shop").await.expect("it"));
        assert!(find(&status.conditions, STANDING_DOWN).is_none());
        assert_eq!(metric(&host, "collaset").expect("the metric"), "0");
        world.delete_what_hosts_hold().await;
        host.kill().await;
    })
    .await;
}

/// The name of the revision, as KusionStack writes it.
const REVISION: &str = "shop-7bdb974bc7";

/// The ids of its pods.
const IDS: [u32; 4] = [0, 1, 5, 3];

/// The label of a pod that serves.
const AVAILABLE: &str = "podopslifecycle.kusionstack.io/service-available";

/// KusionStack's finalizer on a pod that an OperationJob replaces.
const PROTECTED: &str = "finalizer.operationjob.kusionstack.io/replace-protected";

/// A CollaSet, its revision and its pods as KusionStack left them: one pod is being replaced, and its new pod is
/// not Ready yet. The first pod is the one that is replaced, the last the new one.
async fn leave_colla_set(world: &World) -> Vec<Pod> {
    let mut object = colla_set("shop", 3, &pod_spec());
    object["metadata"]["finalizers"] = json!(["apps.kusionstack.io/pre-reclaim"]);
    object["spec"]["template"]["metadata"]["creationTimestamp"] = json!(null);
    object["spec"]["template"]["spec"]["containers"][0]["resources"] = json!({});
    let set = world.make::<CollaSet>(object).await;
    let owner = json!({
        "apiVersion": "apps.kusionstack.io/v1alpha1", "kind": "CollaSet", "name": "shop",
        "uid": set.uid(), "controller": true, "blockOwnerDeletion": true,
    });
    let mut template = json!(set.spec.template);
    template["$patch"] = json!("replace");
    template["metadata"]["creationTimestamp"] = json!(null);
    template["spec"]["containers"][0]["resources"] = json!({});
    template["spec"]["containers"][0]["terminationMessagePath"] = json!("/dev/termination-log");
    template["spec"]["securityContext"] = json!({});
    template["spec"]["dnsPolicy"] = json!("ClusterFirst");
    let revision = json!({
        "metadata": {
            "name": REVISION, "ownerReferences": [owner],
            "labels": {"app": "shop", "controller.kubernetes.io/hash": "7bdb974bc7"},
        },
        "revision": 1,
        "data": {"spec": {"template": template}},
    });
    world.make::<ControllerRevision>(revision).await;
    let data = json!({"Owner": "shop", "Revision": REVISION});
    let entries: Vec<_> = IDS
        .iter()
        .map(|id| json!({"id": id, "data": data}))
        .collect();
    let context = json!({
        "metadata": {"name": "shop", "ownerReferences": [owner]},
        "spec": {"contexts": entries},
    });
    world.make::<ResourceContext>(context).await;
    let mut pods = Vec::new();
    let names = ["shop-jttd5", "shop-752sz", "shop-9x2kd", "shop-mpl7n"];
    for (id, name) in IDS.into_iter().zip(names) {
        let mut spec = pod_spec();
        spec["readinessGates"] = json!([{"conditionType": "pod.kusionstack.io/service-ready"}]);
        let pod = json!({
            "metadata": {
                "name": name, "ownerReferences": [owner],
                "labels": {
                    "app": "shop", "kusionstack.io/control": "true",
                    (keys::INSTANCE_ID): id.to_string(), (keys::CONTROLLER_REVISION): REVISION,
                },
            },
            "spec": spec,
        });
        let mut pod = pod;
        let labels = &mut pod["metadata"]["labels"];
        match id {
            0 => {
                labels[keys::TO_REPLACE] = json!("true");
                labels[keys::PAIR_NEW_ID] = json!("3");
                pod["metadata"]["finalizers"] = json!([PROTECTED]);
            }
            3 => {
                labels[keys::PAIR_ORIGIN_NAME] = json!("shop-jttd5");
                labels["podopslifecycle.kusionstack.io/creating"] = json!("1700000000000000000");
            }
            _ => {}
        }
        let made = world.make::<Pod>(pod).await;
        if id != 3 {
            serve(world, name).await;
        }
        pods.push(made);
    }
    let status = json!({
        "observedGeneration": 1, "currentRevision": REVISION, "updatedRevision": REVISION,
        "replicas": 4, "scheduledReplicas": 4, "readyReplicas": 3, "availableReplicas": 3,
        "updatedReplicas": 4, "updatedReadyReplicas": 3, "updatedAvailableReplicas": 3,
        "conditions": [{
            "type": "Terminating", "status": "False", "reason": "", "message": "",
            "lastTransitionTime": "2024-01-01T00:00:00Z",
        }],
    });
    write_status::<CollaSet>(world, "shop", status).await;
    pods
}

/// What KusionStack's lifecycle does for a pod that serves.
async fn serve(world: &World, name: &str) {
    let patch = json!({"status": {"conditions": [
        {"type": "pod.kusionstack.io/service-ready", "status": "True"},
    ]}});
    let (api, params) = (world.api::<Pod>(), PatchParams::default());
    let patch = Patch::Strategic(patch);
    let patched = api.patch_status(name, &params, &patch).await;
    patched.expect("the gate can be opened");
    world
        .eventually("the pod is Ready", async || {
            let pod = world.get::<Pod>(name).await?;
            ensure!(pod.is_ready());
            Ok(())
        })
        .await;
    let label = json!({"metadata": {"labels": {(AVAILABLE): "1700000000000000000"}}});
    world.patch::<Pod>(name, label).await;
}

/// An OperationJob that KusionStack's controller has begun.
async fn leave_job(world: &World) {
    let mut job = Job::replace("opj", &["shop-jttd5"]).object();
    job.finalizers_mut()
        .push("finalizer.operating.kusionstack.io/protected".to_owned());
    let job = world.create(&job).await;
    let started = job.metadata.creation_timestamp.clone();
    let status = json!({
        "observedGeneration": 1, "progress": "Processing", "startTime": started, "totalPodCount": 1,
        "targetDetails": [{
            "name": "shop-jttd5", "progress": "Processing", "startTime": started,
            "extraInfo": {"NewPod": "shop-mpl7n"},
        }],
    });
    write_status::<OperationJob>(world, "opj", status).await;
}

#[tokio::test]
async fn what_kusionstack_left_is_taken_over_and_no_pod_restarts() {
    alone(async |world: &World| {
        let left = leave_colla_set(world).await;
        leave_job(world).await;
        let host = Host::start(world, "taking-over");
        host.leads(world).await;
        let done = world.finished("opj").await;
        let status_of_job = job::status(&done);
        assert_eq!(
            status_of_job.progress,
            Some(Progress::Succeeded),
            "{status_of_job:?}"
        );
        assert_eq!(
            status_of_job.target_details[0].extra_info["NewPod"],
            "shop-mpl7n"
        );
        let pods = world.colla_set_serves("shop", 3).await;
        let mut expected = identities(&left[1..]);
        expected.sort();
        assert_eq!(identities(&pods), expected);
        let set = world.get::<CollaSet>("shop").await.expect("the CollaSet");
        assert_eq!(set.finalizers(), [keys::COLLA_SET_FINALIZER]);
        assert_eq!(status(&set).updated_revision.as_deref(), Some(REVISION));
        // An edit that does not concern the template restarts nothing either.
        world
            .kubectl_says(&["scale", "cls/shop", "--replicas=4"])
            .await;
        let pods = world.colla_set_serves("shop", 4).await;
        // The id of the pod that was replaced is free.
        assert_eq!(instance_ids(&pods), [0, 1, 3, 5]);
        let kept = identities(&pods);
        for pod in &expected {
            assert!(kept.contains(pod), "{pod:?} is not among {kept:?}");
        }
        let revisions = world.list::<ControllerRevision>().await.expect("revisions");
        assert_eq!(revisions.len(), 1);
        let set = world.get::<CollaSet>("shop").await.expect("the CollaSet");
        let version = set.resource_version();
        world
            .for_a_while("nothing is written", async || {
                let set = world.get::<CollaSet>("shop").await?;
                ensure!(set.resource_version() == version);
                Ok(())
            })
            .await;
        world.delete_what_hosts_hold().await;
        host.kill().await;
    })
    .await;
}
