//! A story's own world: a namespace named after the test, deleted at the end, and what is asked of it.

use std::{
    any::type_name,
    fmt::Write as _,
    panic::{AssertUnwindSafe, resume_unwind},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail, ensure};
use futures::FutureExt as _;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        batch::v1::Job as BatchJob,
        core::v1::{Namespace, Pod, ServiceAccount},
        events::v1::Event,
    },
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions},
};
use operon_api::{CollaSet, DaemonJob, JobFlow, OperationJob, PodTransitionRule, ReactiveJob};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{job, plugin, pods};

/// How long a story waits for something that is on its way.
pub const PATIENCE: Duration = Duration::from_mins(2);

/// How often it looks.
const INTERVAL: Duration = Duration::from_millis(100);

/// A kind that stories read and write.
pub trait Kind:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + std::fmt::Debug
    + Serialize
    + DeserializeOwned
{
}

impl<K> Kind for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + Serialize
        + DeserializeOwned
{
}

/// A namespace of a story's own.
pub struct World {
    /// An administrator's client.
    pub client: Client,
    /// The namespace's name.
    pub namespace: String,
}

/// Tells a story in a world of its own. When it ends, well or not, what it made is deleted; a story
/// that ends badly prints what its world looked like. In the end nothing may be held by a finalizer.
pub async fn story<S: AsyncFnOnce(&World)>(story: S) {
    story_named(test_name::<S>(), story).await;
}

/// As [`story`], where the story does not give the name of the test.
pub async fn story_named(name: &str, story: impl AsyncFnOnce(&World)) {
    let world = World::begin(name).await;
    let told = AssertUnwindSafe(story(&world)).catch_unwind().await;
    if told.is_err() {
        eprintln!("{}", world.state().await);
    }
    let ended = AssertUnwindSafe(world.end()).catch_unwind().await;
    for result in [told, ended] {
        if let Err(panic) = result {
            resume_unwind(panic);
        }
    }
}

/// The name of the test function that an async closure was written in.
pub fn test_name<S>() -> &'static str {
    let path = type_name::<S>();
    let function = path.split("::{").next().unwrap_or(path);
    function.rsplit("::").next().unwrap_or(function)
}

async fn make_namespace(client: &Client, name: &str) {
    let object = Namespace {
        metadata: serde_json::from_value(json!({"name": name})).unwrap_or_default(),
        ..Namespace::default()
    };
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let made = namespaces.create(&PostParams::default(), &object).await;
    made.unwrap_or_else(|error| panic!("failed to create namespace {name}: {error}"));
}

impl World {
    async fn begin(test: &str) -> Self {
        let client = Client::try_default().await.unwrap_or_else(|error| {
            panic!("no cluster ({error}); run `cargo xtask test`");
        });
        let namespace = unique(test);
        make_namespace(&client, &namespace).await;
        let world = Self { client, namespace };
        world
            .eventually("the namespace has its ServiceAccount", async || {
                world.get::<ServiceAccount>("default").await.map(drop)
            })
            .await;
        world
    }

    async fn end(&self) {
        self.delete_what_hosts_hold().await;
        plugin::remove_all(self).await;
        self.delete_nodes().await;
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        // The namespace controller ends it; no story waits for that.
        let _ = namespaces
            .delete(&self.namespace, &DeleteParams::default())
            .await;
    }

    /// Another namespace of the story, which the story deletes.
    pub async fn another(&self, name: &str) -> Self {
        let namespace = self.named(name);
        make_namespace(&self.client, &namespace).await;
        Self {
            client: self.client.clone(),
            namespace,
        }
    }

    /// Deletes the namespace of the story as a user does, and waits until it is gone.
    pub async fn delete_namespace(&self) {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        namespaces
            .delete(&self.namespace, &DeleteParams::default())
            .await
            .expect("a namespace of our own");
        self.eventually("the namespace is gone", async || {
            match namespaces.get_opt(&self.namespace).await? {
                Some(found) => bail!("{:?}", found.status),
                None => Ok(()),
            }
        })
        .await;
    }

    /// Deletes every object that hosts hold by a finalizer, and waits until a host has let it go.
    pub async fn delete_what_hosts_hold(&self) {
        self.delete_all::<OperationJob>().await;
        self.delete_all::<ReactiveJob>().await;
        // Their pods leave through the lifecycle, so a rule may hold them.
        self.delete_all::<PodTransitionRule>().await;
        self.delete_all::<CollaSet>().await;
    }

    async fn delete_all<K: Kind>(&self) {
        let deleted = self
            .api::<K>()
            .delete_collection(&DeleteParams::default(), &ListParams::default())
            .await;
        if deleted.is_err() {
            return;
        }
        let what = format!("every {} can be deleted", K::kind(&()));
        self.eventually(&what, async || {
            let left = self.list::<K>().await?;
            let names: Vec<_> = left.iter().map(kube::ResourceExt::name_any).collect();
            ensure!(names.is_empty(), "still there: {names:?}");
            Ok(())
        })
        .await;
    }

    /// The objects of a kind.
    pub fn api<K: Kind>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// An object.
    pub async fn get<K: Kind>(&self, name: &str) -> Result<K> {
        let kind = K::kind(&());
        self.api()
            .get(name)
            .await
            .with_context(|| format!("failed to get {kind} {name}"))
    }

    /// An object, if it is there.
    pub async fn find<K: Kind>(&self, name: &str) -> Option<K> {
        let found = self.api().get_opt(name).await;
        found.unwrap_or_else(|error| panic!("failed to get {} {name}: {error}", K::kind(&())))
    }

    /// All objects of a kind.
    pub async fn list<K: Kind>(&self) -> Result<Vec<K>> {
        let listed = self.api::<K>().list(&ListParams::default()).await;
        listed
            .map(|list| list.items)
            .with_context(|| format!("failed to list {}", K::plural(&())))
    }

    /// Creates an object.
    pub async fn create<K: Kind>(&self, object: &K) -> K {
        let created = self.api::<K>().create(&PostParams::default(), object).await;
        created.unwrap_or_else(|error| {
            panic!(
                "failed to create {} {}: {error}",
                K::kind(&()),
                object.name_any()
            )
        })
    }

    /// Creates an object from its JSON.
    pub async fn make<K: Kind>(&self, object: Value) -> K {
        let object = serde_json::from_value(object)
            .unwrap_or_else(|error| panic!("a {} that can't be read: {error}", K::kind(&())));
        self.create::<K>(&object).await
    }

    /// Patches an object as `kubectl patch --type=merge` does.
    pub async fn patch<K: Kind>(&self, name: &str, patch: Value) -> K {
        let patched = self
            .api::<K>()
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await;
        patched.unwrap_or_else(|error| panic!("failed to patch {} {name}: {error}", K::kind(&())))
    }

    /// Asks for an object's deletion.
    pub async fn delete<K: Kind>(&self, name: &str) {
        let deleted = self
            .api::<K>()
            .delete(name, &DeleteParams::background())
            .await;
        deleted.unwrap_or_else(|error| panic!("failed to delete {} {name}: {error}", K::kind(&())));
    }

    /// Deletes a pod immediately, if it is still this one.
    pub async fn delete_pod(&self, pod: &Pod) {
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: pod.uid(),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        let deleted = self.api::<Pod>().delete(&pod.name_any(), &params).await;
        deleted.unwrap_or_else(|error| panic!("failed to delete pod {}: {error}", pod.name_any()));
    }

    /// Keeps a pod as a dead kubelet would, whose end is never confirmed; or lets it go.
    pub async fn hold_pod(&self, pod: &str, is_held: bool) {
        let finalizers = is_held.then_some(["try.example.com/hold"]);
        let patch = json!({"metadata": {"finalizers": finalizers}});
        self.patch::<Pod>(pod, patch).await;
    }

    /// Looks until `probe` finds what it looks for, and returns that.
    pub async fn eventually<T>(&self, what: &str, probe: impl AsyncFnMut() -> Result<T>) -> T {
        self.eventually_within(PATIENCE, what, probe).await
    }

    /// As [`World::eventually`], with a patience of its own.
    pub async fn eventually_within<T>(
        &self,
        limit: Duration,
        what: &str,
        mut probe: impl AsyncFnMut() -> Result<T>,
    ) -> T {
        let start = Instant::now();
        loop {
            match probe().await {
                Ok(found) => return found,
                Err(error) if start.elapsed() > limit => {
                    let seconds = limit.as_secs();
                    panic!("expected within {seconds} s: {what}; at last: {error:#}");
                }
                Err(_) => tokio::time::sleep(INTERVAL).await,
            }
        }
    }

    /// Looks for a while whether `probe` goes on finding what it should.
    pub async fn for_a_while(&self, what: &str, mut probe: impl AsyncFnMut() -> Result<()>) {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(3) {
            if let Err(error) = probe().await {
                panic!(
                    "expected to stay so: {what}; after {:?}: {error:#}",
                    start.elapsed()
                );
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// Waits until an object is gone.
    pub async fn gone<K: Kind>(&self, name: &str) {
        let what = format!("{} {name} is gone", K::kind(&()));
        self.eventually(&what, async || {
            let found: Option<K> = self.api().get_opt(name).await?;
            ensure!(found.is_none(), "it is still there");
            Ok(())
        })
        .await;
    }

    /// The job of this name.
    pub async fn job(&self, name: &str) -> Result<OperationJob> {
        self.get(name).await
    }

    /// Waits for a job to look as it should.
    pub async fn job_until(
        &self,
        name: &str,
        what: &str,
        wanted: impl Fn(&OperationJob) -> bool,
    ) -> OperationJob {
        self.eventually(&format!("job {name}: {what}"), async || {
            let job = self.job(name).await?;
            if !wanted(&job) {
                bail!("{}", serde_json::to_string(&job.status)?);
            }
            Ok(job)
        })
        .await
    }

    /// Waits until a job is finished, and for its verdict.
    pub async fn finished(&self, name: &str) -> OperationJob {
        self.job_until(name, "is finished", |found| {
            job::progress(found).is_finished()
        })
        .await
    }

    /// All pods, sorted by name.
    pub async fn all_pods(&self) -> Result<Vec<Pod>> {
        let mut pods = self.list::<Pod>().await?;
        pods.sort_by_key(kube::ResourceExt::name_any);
        Ok(pods)
    }

    /// The pods with the label `app=<app>`, sorted by name.
    pub async fn pods(&self, app: &str) -> Result<Vec<Pod>> {
        let mut pods = self.all_pods().await?;
        pods.retain(|pod| pod.labels().get("app").is_some_and(|label| label == app));
        Ok(pods)
    }

    /// The reasons of the Events about an object, by its name.
    pub async fn event_reasons(&self, regarding: &str) -> Result<Vec<String>> {
        let mut events = self.list::<Event>().await?;
        events.retain(|event| {
            event
                .regarding
                .as_ref()
                .and_then(|object| object.name.as_deref())
                == Some(regarding)
        });
        Ok(events
            .into_iter()
            .filter_map(|event| event.reason)
            .collect())
    }

    /// Waits for Events about an object, by its name, with these reasons. They are sent after the status.
    pub async fn events_about(&self, regarding: &str, reasons: &[&str]) {
        self.eventually(
            &format!("Events about {regarding}: {reasons:?}"),
            async || {
                let found = self.event_reasons(regarding).await?;
                let is_there = |reason: &&str| found.iter().any(|found| found == reason);
                ensure!(reasons.iter().all(is_there), "{found:?}");
                Ok(())
            },
        )
        .await;
    }

    /// Everything that helps to see what went wrong.
    pub async fn state(&self) -> String {
        let mut text = format!(
            "\n--- the world {} at the end of a story that failed ---\n",
            self.namespace
        );
        text += &self.dump::<OperationJob>().await;
        text += &self.dump::<ReactiveJob>().await;
        text += &self.dump::<JobFlow>().await;
        text += &self.dump::<DaemonJob>().await;
        text += &self.dump::<CollaSet>().await;
        text += &self.dump::<PodTransitionRule>().await;
        text += &self.dump::<BatchJob>().await;
        for pod in self.all_pods().await.unwrap_or_default() {
            let _ = writeln!(text, "pod {}", pods::describe(&pod));
        }
        for event in self.list::<Event>().await.unwrap_or_default() {
            let object = event.regarding.clone().unwrap_or_default();
            let _ = writeln!(
                text,
                "event {}/{} {}: {}",
                object.kind.unwrap_or_default(),
                object.name.unwrap_or_default(),
                event.reason.clone().unwrap_or_default(),
                event.note.clone().unwrap_or_default()
            );
        }
        text
    }

    async fn dump<K: Kind>(&self) -> String {
        let mut text = String::new();
        for mut object in self.list::<K>().await.unwrap_or_default() {
            object.meta_mut().managed_fields = None;
            let object = serde_yaml_ng::to_string(&object).unwrap_or_default();
            let _ = writeln!(text, "{}\n{object}", K::kind(&()));
        }
        text
    }

    /// Something whose name is derived from this world's, for what has no namespace.
    pub fn named(&self, what: &str) -> String {
        let unique = self
            .namespace
            .rsplit_once('-')
            .map_or("", |(_, unique)| unique);
        format!("{what}-{unique}")
    }
}

/// A name for the test's namespace that no earlier run has used, nor any other test of this one.
fn unique(test: &str) -> String {
    static STORIES: AtomicU32 = AtomicU32::new(0);
    let story = STORIES.fetch_add(1, Ordering::Relaxed);
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let mut name = test.replace('_', "-");
    name.truncate(46);
    format!(
        "{}-{:x}{story:02}",
        name.trim_end_matches('-'),
        since.as_micros() % 0xf_ffff_ffff
    )
}
