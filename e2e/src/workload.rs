//! Deployments, Services and the like, and ways to hold their pods back that work on real and simulated
//! nodes alike: a readiness gate keeps a pod from being ready, a quota keeps it from being made.

use anyhow::{Result, bail, ensure};
use k8s_openapi::api::{
    apps::v1::Deployment as DeploymentObject,
    core::v1::{Pod, ResourceQuota, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    ResourceExt as _,
    api::{Patch, PatchParams},
};
use operon_api::OperationJob;
use serde_json::{Value, json};

use crate::{
    endpoints::Endpoints,
    job,
    pods::{self, PodExt as _},
    world::World,
};

/// The readiness gate of gated pods.
pub const GATE: &str = "e2e.operon.dev/open";

/// The specification of a pod that does nothing for long, and ends quickly.
pub fn pod_spec() -> Value {
    json!({
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": false,
        "containers": [{
            "name": "main",
            "image": "localhost/busybox:1.35",
            "imagePullPolicy": "IfNotPresent",
            "command": ["sleep", "1000000"]
        }]
    })
}

/// The same, not ready until somebody opens the gate.
pub fn gated_pod_spec() -> Value {
    let mut spec = pod_spec();
    spec["readinessGates"] = json!([{"conditionType": GATE}]);
    spec
}

/// A Deployment in the making; its pods have the label `app=<its name>`.
#[derive(Clone, Debug)]
pub struct Deployment {
    name: String,
    replicas: usize,
    gated: bool,
    min_ready_seconds: i32,
}

impl Deployment {
    /// A Deployment.
    pub fn of(name: &str, replicas: usize) -> Self {
        Self {
            name: name.to_owned(),
            replicas,
            gated: false,
            min_ready_seconds: 0,
        }
    }

    /// Its pods are not ready until their gate is opened; that of its first pods is.
    #[must_use]
    pub fn gated(mut self) -> Self {
        self.gated = true;
        self
    }

    /// With `spec.minReadySeconds`.
    #[must_use]
    pub fn min_ready_seconds(mut self, seconds: i32) -> Self {
        self.min_ready_seconds = seconds;
        self
    }

    fn object(&self) -> Value {
        json!({
            "metadata": {"name": self.name},
            "spec": {
                "replicas": self.replicas,
                "minReadySeconds": self.min_ready_seconds,
                "selector": {"matchLabels": {"app": self.name}},
                "template": {
                    "metadata": {"labels": {"app": self.name}},
                    "spec": if self.gated { gated_pod_spec() } else { pod_spec() }
                }
            }
        })
    }

    /// Creates it, and waits until its pods are ready. Returns them, sorted by name.
    pub async fn up(self, world: &World) -> Vec<Pod> {
        world.make::<DeploymentObject>(self.object()).await;
        if self.gated {
            let pods = world.exactly(&self.name, self.replicas, |_| true).await;
            for pod in &pods {
                world.open(pod).await;
            }
        }
        world
            .exactly(&self.name, self.replicas, Pod::is_ready)
            .await
    }
}

impl World {
    /// Waits until an app has exactly so many pods, terminating ones included, all as they should be.
    pub async fn exactly(
        &self,
        app: &str,
        count: usize,
        wanted: impl Fn(&Pod) -> bool,
    ) -> Vec<Pod> {
        self.eventually(&format!("{app} has exactly {count} pods"), async || {
            let pods = self.pods(app).await?;
            let described: Vec<_> = pods.iter().map(pods::describe).collect();
            ensure!(
                pods.len() == count && pods.iter().all(&wanted),
                "{described:#?}"
            );
            Ok(pods)
        })
        .await
    }

    /// Waits until an app has exactly so many pods, all ready, all of one ReplicaSet, and none with a
    /// trace of a replacement under way.
    pub async fn settled(&self, app: &str, count: usize) -> Vec<Pod> {
        let settled = |pod: &Pod| {
            pod.is_ready() && pod.is_live() && pod.controller().is_some() && pod.marks().is_empty()
        };
        let pods = self.exactly(app, count, settled).await;
        assert!(
            pods::by_controller(&pods).len() <= 1,
            "of several owners: {pods:#?}"
        );
        pods
    }

    /// Waits for a pod of an app that is not among these, and is live.
    pub async fn another_pod(&self, app: &str, known: &[Pod]) -> Pod {
        let known = pods::identities(known);
        self.eventually(
            &format!("{app} gets another pod than {known:?}"),
            async || {
                let pods = self.pods(app).await?;
                let new = pods
                    .iter()
                    .find(|pod| pod.is_live() && !known.contains(&pod.identity()));
                match new {
                    Some(pod) => Ok(pod.clone()),
                    None => bail!("{:#?}", pods.iter().map(pods::describe).collect::<Vec<_>>()),
                }
            },
        )
        .await
    }

    /// Waits until a pod is as it should be.
    pub async fn pod_until(&self, name: &str, what: &str, wanted: impl Fn(&Pod) -> bool) -> Pod {
        self.eventually(&format!("pod {name} {what}"), async || {
            let pod: Pod = self.get(name).await?;
            ensure!(wanted(&pod), "{}", pods::describe(&pod));
            Ok(pod)
        })
        .await
    }

    /// Waits until the pod with this uid is gone.
    pub async fn pod_gone(&self, pod: &Pod) {
        self.eventually(&format!("pod {} is gone", pod.name_any()), async || {
            let found: Option<Pod> = self.api().get_opt(&pod.name_any()).await?;
            let left = found.filter(|found| found.uid() == pod.uid());
            ensure!(
                left.is_none(),
                "it is still there: {:?}",
                left.as_ref().map(pods::describe)
            );
            Ok(())
        })
        .await;
    }

    /// Asserts that the pod is there, untouched by anything: the same, with no trace of a replacement.
    pub async fn assert_untouched(&self, pod: &Pod) {
        let found: Option<Pod> = self.find(&pod.name_any()).await;
        let found = found.unwrap_or_else(|| panic!("pod {} is gone", pod.name_any()));
        assert_eq!(found.uid(), pod.uid(), "another pod {}", pod.name_any());
        assert!(
            found.metadata.deletion_timestamp.is_none(),
            "{}",
            pods::describe(&found)
        );
        assert_eq!(found.labels(), pod.labels());
        assert_eq!(found.annotations(), pod.annotations());
        let owner = |pod: &Pod| pod.controller().map(|owner| owner.uid.clone());
        assert_eq!(owner(&found), owner(pod));
    }

    /// Opens a pod's readiness gate.
    pub async fn open(&self, pod: &Pod) {
        let patch = Patch::Strategic(json!({
            "metadata": {"uid": pod.uid()},
            "status": {"conditions": [{"type": GATE, "status": "True"}]}
        }));
        let name = pod.name_any();
        let opened = self
            .api::<Pod>()
            .patch_status(&name, &PatchParams::default(), &patch)
            .await;
        match opened {
            Ok(_) => {}
            // It went meanwhile.
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(error) => panic!("failed to open the gate of pod {name}: {error}"),
        }
    }

    /// Waits until a job is finished, while every pod of the app is let be ready, whichever comes.
    pub async fn finished_when_all_open(&self, name: &str, app: &str) -> OperationJob {
        self.eventually(&format!("job {name} is finished"), async || {
            for pod in &self.pods(app).await? {
                if pod.is_live() && !pod.is_ready() {
                    self.open(pod).await;
                }
            }
            let found = self.job(name).await?;
            ensure!(job::progress(&found).is_finished(), "{:?}", found.status);
            Ok(found)
        })
        .await
    }

    /// A Service of an app, watched from when all these endpoints are ready.
    pub async fn service(&self, app: &str, endpoints: usize) -> Endpoints {
        self.make::<Service>(json!({
            "metadata": {"name": app},
            "spec": {"selector": {"app": app}, "ports": [{"port": 80}]}
        }))
        .await;
        self.endpoints_of(app, endpoints).await
    }

    /// The endpoints of a Service of an app, watched from when so many are ready.
    pub async fn endpoints_of(&self, app: &str, endpoints: usize) -> Endpoints {
        let watch = Endpoints::watch(self.api::<EndpointSlice>(), app);
        self.eventually(
            &format!("Service {app} has {endpoints} ready endpoints"),
            async || {
                ensure!(watch.now() == endpoints, "{}", watch.now());
                Ok(())
            },
        )
        .await;
        watch.reset();
        watch
    }

    /// Lets no more than these pods be in the namespace, until [`World::lift_quota`].
    pub async fn set_quota(&self, pods: usize) {
        self.set_quota_of("count/pods", pods).await;
    }

    /// Lets no more of this be in the namespace, until [`World::lift_quota`].
    pub async fn set_quota_of(&self, what: &str, count: usize) {
        let quota =
            json!({"metadata": {"name": "quota"}, "spec": {"hard": {what: count.to_string()}}});
        self.make::<ResourceQuota>(quota).await;
        self.eventually("the quota counts", async || {
            let quota: ResourceQuota = self.get("quota").await?;
            let used = quota.status.and_then(|status| status.used);
            ensure!(used.is_some_and(|used| used.contains_key(what)), "not yet");
            Ok(())
        })
        .await;
    }

    /// Lets everything be made again.
    pub async fn lift_quota(&self) {
        self.delete::<ResourceQuota>("quota").await;
    }

    /// Sets the number of replicas of a Deployment.
    pub async fn scale(&self, name: &str, replicas: usize) -> Result<()> {
        let output = self
            .kubectl(&[
                "scale",
                &format!("deployment/{name}"),
                &format!("--replicas={replicas}"),
            ])
            .await;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }
}
