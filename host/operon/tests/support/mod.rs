//! What the tests and the benchmark of components share: guests, a loader that uses the shipped compile
//! child, a cluster of a few objects, and a target for the calls.

#![allow(dead_code, reason = "each test program uses a part of it")]

pub(crate) mod random;
pub(crate) mod sections;

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use operon_core::{
    action::{
        Action, ActionError, ActionLoader as _, Attributes, ClusterView, ConditionView,
        ContainerKind, ContainerPhase, ContainerView, FoundPods, JobState, JobView, Limits,
        LoadError, ObjectReference, OwnerView, PodView, ReadError, Request, Target,
    },
    selector::Selector,
};
use operon_plugin_runtime::{
    CacheFault, CallObserver, ChildProgram, CodeSource, Function, Loader, LoaderConfig, Outcome,
};
use serde_json::{Value, json};

/// The hostile guest. Built once, or taken from the folder that `OPERON_WASM_DIR` names.
pub(crate) fn hostile() -> Result<&'static [u8]> {
    static GUEST: OnceLock<Result<Vec<u8>, String>> = OnceLock::new();
    let guest = GUEST.get_or_init(|| build("operon-hostile-guest").map_err(|e| format!("{e:#}")));
    guest.as_deref().map_err(|error| anyhow::anyhow!("{error}"))
}

/// The example action. Built once, or taken from the folder that `OPERON_WASM_DIR` names.
pub(crate) fn annotate() -> Result<&'static [u8]> {
    static GUEST: OnceLock<Result<Vec<u8>, String>> = OnceLock::new();
    let guest =
        GUEST.get_or_init(|| build("operon-example-annotate").map_err(|e| format!("{e:#}")));
    guest.as_deref().map_err(|error| anyhow::anyhow!("{error}"))
}

/// The example action in TypeScript, from the folder that `OPERON_WASM_DIR` names.
pub(crate) fn annotate_in_typescript() -> Result<Vec<u8>> {
    given("annotate_ts.wasm")
}

/// The example action in Python, from the same folder.
pub(crate) fn annotate_in_python() -> Result<Vec<u8>> {
    given("annotate_py.wasm")
}

fn given(component: &str) -> Result<Vec<u8>> {
    let folder = std::env::var_os("OPERON_WASM_DIR").map(PathBuf::from);
    let file = folder.map(|folder| folder.join(component));
    let file = file.filter(|file| file.is_file());
    let file = file.with_context(|| format!("{component} is built by `cargo xtask`"))?;
    Ok(std::fs::read(file)?)
}

/// The component of a built-in action, taken as the others.
pub(crate) fn builtin(package: &str) -> Result<Vec<u8>> {
    build(package)
}

fn build(package: &str) -> Result<Vec<u8>> {
    let file = format!("{}.wasm", package.replace('-', "_"));
    let folder = if let Some(folder) = std::env::var_os("OPERON_WASM_DIR") {
        PathBuf::from(folder)
    } else {
        let target = Path::new(env!("CARGO_BIN_EXE_operon"))
            .ancestors()
            .nth(2)
            .context("the program is not in a target folder")?;
        let status = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
            .args(["build", "--package", package, "--target", "wasm32-wasip2"])
            .args(["--profile", "plugin", "--quiet", "--target-dir"])
            .arg(target)
            .status()?;
        ensure!(status.success(), "failed to build {package}");
        target.join("wasm32-wasip2/plugin")
    };
    std::fs::read(folder.join(&file)).with_context(|| format!("failed to read {file}"))
}

/// The number in a variable of the environment, by which `cargo xtask fuzz` asks for more than the tests do.
pub(crate) fn number(variable: &str) -> Result<Option<u64>> {
    let text = std::env::var(variable).ok();
    let number = text.map(|text| text.parse().with_context(|| format!("{variable}={text}")));
    number.transpose()
}

/// A small component that takes long to compile: one function in which all values are live at the same
/// time.
pub(crate) fn heavy() -> Result<Vec<u8>> {
    let text = format!(
        "(component (core module (memory 1) (func {} {})))",
        "(local i32) ".repeat(1001),
        entangled(40_000, 997)
    );
    wat::parse_str(text).context("heavy component")
}

/// So many statements in which the values of so many locals depend on each other.
pub(crate) fn entangled(statements: u32, locals: u32) -> String {
    let statement = |number: u32| {
        let [left, right, local] = [number, number * 7 + 3, number * 13].map(|n| n % locals);
        format!(
            "(if (local.get {left}) (then (local.set {local}
                (i32.add (local.get {right}) (i32.load (local.get {left}))))))"
        )
    };
    (0..statements).map(statement).collect()
}

/// A figure of this process's memory in KiB, by its name in `/proc/self/status`: `VmRSS`, `VmHWM`.
pub(crate) fn memory_kib(name: &str) -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let of_line = |line: &str| {
        line.strip_prefix(name)?
            .strip_prefix(':')
            .map(str::to_owned)
    };
    let line = status.lines().find_map(of_line);
    let number = line
        .as_deref()
        .and_then(|line| line.split_whitespace().next());
    Ok(number.with_context(|| name.to_owned())?.parse()?)
}

/// Remembers how calls ended and where code came from.
#[derive(Default)]
pub(crate) struct Recorder {
    pub(crate) calls: Mutex<Vec<(&'static str, Outcome, Duration)>>,
    pub(crate) code: Mutex<Vec<CodeSource>>,
    pub(crate) faults: Mutex<Vec<CacheFault>>,
}

impl Recorder {
    pub(crate) fn code(&self) -> Vec<CodeSource> {
        self.code
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn faults(&self) -> Vec<CacheFault> {
        let faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        faults.clone()
    }

    pub(crate) fn last_call(&self) -> Option<(&'static str, Outcome)> {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls
            .last()
            .map(|(function, outcome, _)| (*function, *outcome))
    }
}

impl CallObserver for Recorder {
    fn called(&self, _: &str, function: Function, outcome: Outcome, duration: Duration) {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.push((function.as_str(), outcome, duration));
    }

    fn compiled(&self, _: &str, source: CodeSource, _: Duration) {
        self.code
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(source);
    }

    fn cache_failed(&self, fault: CacheFault) {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        faults.push(fault);
    }
}

/// A configuration whose child processes are the program under test.
pub(crate) fn config() -> LoaderConfig {
    let program = env!("CARGO_BIN_EXE_operon");
    LoaderConfig {
        child_program: Some(ChildProgram::at(program)),
        max_instances: 8,
        ..LoaderConfig::default()
    }
}

/// Short enough for tests, long enough for a busy machine.
pub(crate) fn limits() -> Limits {
    Limits {
        call_timeout: Duration::from_millis(1500),
        ..Limits::default()
    }
}

/// Loads a component without settings.
pub(crate) async fn load(
    loader: &Loader,
    component: &[u8],
    limits: &Limits,
) -> Result<Arc<dyn Action>, LoadError> {
    load_as(loader, "hostile", component, limits).await
}

/// The same, as a plugin of this name.
pub(crate) async fn load_as(
    loader: &Loader,
    plugin: &str,
    component: &[u8],
    limits: &Limits,
) -> Result<Arc<dyn Action>, LoadError> {
    loader.load(plugin, component, &json!({}), limits).await
}

/// The error of a load that must fail.
pub(crate) async fn refusal(loader: &Loader, component: &[u8]) -> Result<LoadError> {
    match load(loader, component, &Limits::default()).await {
        Ok(_) => anyhow::bail!("it was loaded"),
        Err(error) => Ok(error),
    }
}

/// The reason of an error, and whether the component is to blame.
pub(crate) fn blame(error: &ActionError) -> (&str, bool) {
    (
        &error.failure().reason,
        matches!(error, ActionError::Plugin(_)),
    )
}

/// A view of large `ConfigMaps` and one pod.
pub(crate) struct FakeCluster;

impl ClusterView for FakeCluster {
    fn get(&self, reference: &ObjectReference) -> Result<Option<Value>, ReadError> {
        Ok((reference.kind == "Pod").then(|| json!({"metadata": {"name": reference.name}})))
    }

    fn find(
        &self,
        _: &str,
        kind: &str,
        label_selector: &str,
    ) -> Result<Box<dyn Iterator<Item = Value>>, ReadError> {
        if kind != "ConfigMap" {
            return Err(ReadError::NotDeclared(kind.to_owned()));
        }
        Selector::parse(label_selector).map_err(ReadError::BadSelector)?;
        let object = || json!({"data": {"key": "v".repeat(1 << 20)}});
        if label_selector == "endless" {
            return Ok(Box::new(std::iter::repeat_with(object)));
        }
        Ok(Box::new(std::iter::once(object())))
    }

    fn find_pods(&self, _: &str) -> Result<FoundPods<'_>, ReadError> {
        Ok(Box::new(std::iter::once(Arc::new(pod("one")))))
    }

    fn find_job(&self, _: &str) -> Result<JobState, ReadError> {
        Ok(JobState::Active)
    }
}

/// A view that says how many calls read it at the same time. A read takes a while.
#[derive(Default)]
pub(crate) struct CountingCluster {
    now: AtomicUsize,
    pub(crate) most: AtomicUsize,
}

impl ClusterView for CountingCluster {
    fn get(&self, reference: &ObjectReference) -> Result<Option<Value>, ReadError> {
        FakeCluster.get(reference)
    }

    fn find(
        &self,
        api_version: &str,
        kind: &str,
        label_selector: &str,
    ) -> Result<Box<dyn Iterator<Item = Value>>, ReadError> {
        let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(now, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(20));
        self.now.fetch_sub(1, Ordering::Relaxed);
        FakeCluster.find(api_version, kind, label_selector)
    }

    fn find_pods(&self, label_selector: &str) -> Result<FoundPods<'_>, ReadError> {
        FakeCluster.find_pods(label_selector)
    }

    fn find_job(&self, uid: &str) -> Result<JobState, ReadError> {
        FakeCluster.find_job(uid)
    }
}

/// One question, with everything it borrows.
pub(crate) struct Question {
    pub(crate) target: Target,
    pub(crate) job: JobView,
}

impl Question {
    /// For the target of this name, which controls the hostile guest.
    pub(crate) fn about(name: &str) -> Self {
        let target = Target {
            name: name.to_owned(),
            uid: Some("4d1f2a52-7c0f-4f0a-9d5c-0f3f1f4ad6c1".to_owned()),
            containers: vec!["main".to_owned()],
            pod: Some(pod(name)),
            ..Target::default()
        };
        let job = JobView {
            namespace: "default".to_owned(),
            name: "job".to_owned(),
            uid: "6c2f7a0e-53d0-4a0b-8f5a-2f6f4d9b7a11".to_owned(),
            action: "Hostile".to_owned(),
            now: 1_760_000_000,
            settings: "{}".to_owned(),
            parameters: "{}".to_owned(),
            ..JobView::default()
        };
        Self { target, job }
    }

    pub(crate) fn request(&self) -> Request<'_> {
        Request {
            target: &self.target,
            job: &self.job,
            cluster: Arc::new(FakeCluster),
            admit: None,
        }
    }
}

/// The conditions of a pod that is ready.
const CONDITIONS: [&str; 5] = [
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
];

fn condition(name: &str) -> ConditionView {
    ConditionView {
        name: name.to_owned(),
        status: "True".to_owned(),
        reason: String::new(),
        message: String::new(),
        since: Some(1_759_990_030),
    }
}

/// A pod with as much on it as a pod of a Deployment has.
pub(crate) fn pod(name: &str) -> PodView {
    let attributes = |pairs: &[(&str, &str)]| -> Attributes {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    };
    let container = |name: &str| ContainerView {
        name: name.to_owned(),
        kind: ContainerKind::Ordinary,
        image: "registry.example.com/web/frontend:1.27.3".to_owned(),
        image_id: Some(format!(
            "registry.example.com/web/frontend@sha256:{}",
            "0a".repeat(32)
        )),
        ready: true,
        restart_count: 1,
        phase: ContainerPhase::Running,
        reason: None,
        message: None,
        exit_code: None,
        container_id: Some("containerd://0a1b2c3d4e5f60718293a4b5c6d7e8f9".to_owned()),
    };
    PodView {
        name: name.to_owned(),
        uid: "4d1f2a52-7c0f-4f0a-9d5c-0f3f1f4ad6c1".to_owned(),
        resource_version: "123456".to_owned(),
        generation: 1,
        observed_generation: Some(1),
        created_at: 1_759_990_000,
        phase: "Running".to_owned(),
        ready: true,
        ready_since: Some(1_759_990_030),
        deleting: false,
        node: Some("node-1.example".to_owned()),
        labels: attributes(&[
            ("app.kubernetes.io/name", "web"),
            ("app.kubernetes.io/instance", "web-production"),
            ("app.kubernetes.io/component", "frontend"),
            ("pod-template-hash", "5d4f8c7b9"),
        ]),
        annotations: attributes(&[
            ("kubectl.kubernetes.io/restartedAt", "2025-10-09T08:53:20Z"),
            ("prometheus.io/scrape", "true"),
        ]),
        finalizers: Vec::new(),
        owners: vec![OwnerView {
            api_version: "apps/v1".to_owned(),
            kind: "ReplicaSet".to_owned(),
            name: "web-5d4f8c7b9".to_owned(),
            uid: "9b0f4f43-52b2-4f6f-8a43-7a0f8d2b5c77".to_owned(),
            controller: true,
            block_owner_deletion: true,
        }],
        conditions: CONDITIONS.map(condition).into(),
        containers: vec![container("main"), container("sidecar")],
    }
}
