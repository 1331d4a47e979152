//! What actions cost: a call, an idle plugin, loading one, pulling one. `cargo xtask bench plugins` runs it.
//!
//! Plain clocks, no framework. Each measure is a line on standard output, its columns separated by tabs: what it is, its
//! value, its goal, and whether that is met.

#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    fs,
    hint::black_box,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use operon_core::action::{Action, Limits};
use operon_plugin_registry::oci::{PullRequest, Puller, PullerConfig};
use operon_plugin_runtime::{ChildLimits, Loader, LoaderConfig};
use support::{
    Question, annotate, annotate_in_python, annotate_in_typescript, config, hostile, load,
    memory_kib,
};

/// The argument with which this program measures the memory of idle plugins, in a process of its own.
const IDLE: &str = "idle";

/// Calls that are measured one by one.
const CALLS: u32 = 10_000;
/// Tasks that call at the same time while calls are counted: as many as the goal has processors.
const CALLERS: u32 = 2;
/// How long calls are counted.
const COUNTED: Duration = Duration::from_secs(5);
/// Loads from the cache.
const LOADS: u32 = 50;
/// Pulls from a registry, and their size.
const PULLS: u32 = 20;
const PULLED: usize = 10 << 20;

/// Goals of a typed call in Rust, and of an idle plugin.
const CALL: Duration = Duration::from_micros(50);
const CALLS_A_SECOND: u64 = 8_000;
const IDLE_KIB: u64 = 600;

/// The example action, which is the same in every language: it reads the pod, and answers with a patch.
struct Language {
    name: &'static str,
    component: Vec<u8>,
    calls: u32,
    /// Plugins that are loaded at the same time; compiling them takes most of the time.
    plugins: u32,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if let [command, folder, plugins] = arguments.as_slice()
        && command == IDLE
    {
        return idle_plugins(Path::new(folder), plugins.parse()?).await;
    }
    let languages = [
        Language {
            name: "Rust",
            component: annotate()?.to_vec(),
            calls: CALLS,
            plugins: 100,
        },
        Language {
            name: "TypeScript",
            component: annotate_in_typescript()?,
            calls: CALLS / 5,
            plugins: 5,
        },
        Language {
            name: "Python",
            component: annotate_in_python()?,
            calls: CALLS / 10,
            plugins: 3,
        },
    ];
    typed_calls().await?;
    for language in &languages {
        calls(language).await?;
    }
    for language in &languages {
        loads(language).await?;
    }
    pulls(&languages[0].component).await
}

/// A configuration as the host has it: an action may use several processors.
fn host_config() -> LoaderConfig {
    LoaderConfig {
        max_instances: LoaderConfig::default().max_instances,
        // As the chart's values allow it for Python.
        component_bytes: 32 << 20,
        compile_limits: ChildLimits {
            cpu: Duration::from_mins(2),
            wall: Duration::from_mins(8),
            ..ChildLimits::COMPILE
        },
        ..config()
    }
}

/// A fresh instance, one question with a pod as a typed record, and its answer.
async fn typed_calls() -> Result<()> {
    let loader = Loader::new(host_config())?;
    let action = load(&loader, hostile()?, &Limits::default()).await?;
    let times = times_of_calls(&action, CALLS).await?;
    let met = times.at(50) <= CALL;
    let goal = format!("p50 at most {CALL:?}");
    row(
        "a typed call, fresh instance",
        &times.to_string(),
        &goal,
        Some(met),
    );
    let count = calls_a_second(&action).await?;
    let goal = format!("{CALLS_A_SECOND} on two shared processors");
    let what = "typed calls a second, fresh instances";
    row(
        what,
        &count.to_string(),
        &goal,
        Some(count >= CALLS_A_SECOND),
    );
    Ok(())
}

async fn calls(language: &Language) -> Result<()> {
    let Language {
        name,
        component,
        calls,
        ..
    } = language;
    let loader = Loader::new(host_config())?;
    let action = load(&loader, component, &Limits::default()).await?;
    let question = Question::about("web-0");
    let operation = action.operate_target(question.request()).await;
    let effects = operation.map_or(0, |operation| operation.effects.len());
    ensure!(
        effects == 1,
        "the example in {name} answers {effects} effects"
    );
    let times = times_of_calls(&action, *calls).await?;
    row(
        &format!("the example in {name}: a call"),
        &times.to_string(),
        "",
        None,
    );
    let count = calls_a_second(&action).await?;
    row(
        &format!("the example in {name}: calls a second"),
        &count.to_string(),
        "",
        None,
    );
    Ok(())
}

async fn times_of_calls(action: &Arc<dyn Action>, calls: u32) -> Result<Times> {
    let question = Question::about("web-0");
    let mut times = Times::default();
    for _ in 0..calls {
        let started = Instant::now();
        call(action, &question).await?;
        times.0.push(started.elapsed());
    }
    Ok(times.sorted())
}

/// One call, which must succeed: a call that fails may be faster than the action.
async fn call(action: &Arc<dyn Action>, question: &Question) -> Result<()> {
    let answer = action.operate_target(question.request()).await;
    let operation = answer.map_err(|error| anyhow!("a call failed: {error:?}"))?;
    black_box(operation);
    Ok(())
}

/// Calls by [`CALLERS`] tasks.
async fn calls_a_second(action: &Arc<dyn Action>) -> Result<u64> {
    let started = Instant::now();
    let callers = (0..CALLERS).map(|_| {
        let action = Arc::clone(action);
        tokio::spawn(async move {
            let question = Question::about("web-0");
            let mut calls = 0_u64;
            while started.elapsed() < COUNTED {
                call(&action, &question).await?;
                calls += 1;
            }
            anyhow::Ok(calls)
        })
    });
    let callers: Vec<_> = callers.collect();
    let mut calls = 0;
    for caller in callers {
        calls += caller.await??;
    }
    Ok(calls / COUNTED.as_secs())
}

/// Loads by the compile child, from its start to the set-up action; then from the cache; then the memory of all.
async fn loads(language: &Language) -> Result<()> {
    let Language {
        name,
        component,
        plugins,
        ..
    } = language;
    let folder = tempfile::tempdir()?;
    let config = cached(folder.path());
    let mut times = Times::default();
    // One more than is measured: the first also brings what all share.
    for number in 0..=*plugins {
        let component = with_section(component, &number.to_le_bytes());
        fs::write(file(folder.path(), number), &component)?;
        let loader = Loader::new(config.clone())?;
        let started = Instant::now();
        load(&loader, &component, &Limits::default()).await?;
        times.0.push(started.elapsed());
    }
    let size = component.len() >> 10;
    let what = format!("the example in {name}, {size} KiB: load, compiled by the child");
    row(&what, &times.sorted().to_string(), "", None);

    let loader = Loader::new(config)?;
    let first = fs::read(file(folder.path(), 0))?;
    let mut times = Times::default();
    for _ in 0..LOADS {
        let started = Instant::now();
        // The action is dropped immediately, so the next load finds only the file.
        load(&loader, &first, &Limits::default()).await?;
        times.0.push(started.elapsed());
    }
    row(
        &format!("the example in {name}: load, from the cache"),
        &times.sorted().to_string(),
        "",
        None,
    );

    let output = Command::new(std::env::current_exe()?)
        .arg(IDLE)
        .arg(folder.path())
        .arg(plugins.to_string())
        // As in the chart.
        .env("MALLOC_ARENA_MAX", "2")
        .stderr(Stdio::inherit())
        .output()?;
    let status = output.status;
    ensure!(
        status.success(),
        "measuring the memory of idle plugins failed ({status})"
    );
    let each: u64 = String::from_utf8(output.stdout)?.trim().parse()?;
    let what = format!("the example in {name}: memory of an idle plugin, of {plugins}");
    let rust = *name == "Rust";
    let (goal, met) = if rust {
        (format!("at most {IDLE_KIB} KiB"), Some(each <= IDLE_KIB))
    } else {
        (String::new(), None)
    };
    row(&what, &format!("{each} KiB"), &goal, met);
    Ok(())
}

fn cached(folder: &Path) -> LoaderConfig {
    LoaderConfig {
        cache_dir: Some(folder.join("compiled")),
        ..host_config()
    }
}

fn file(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("{number}.wasm"))
}

/// Loads so many different plugins from the cache, and prints the KiB of resident memory that each of them adds.
async fn idle_plugins(folder: &Path, plugins: u32) -> Result<()> {
    let loader = Loader::new(cached(folder))?;
    let mut actions = Vec::new();
    let mut before = 0;
    for number in 0..=plugins {
        let component = fs::read(file(folder, number))?;
        actions.push(load(&loader, &component, &Limits::default()).await?);
        if number == 0 {
            before = memory_kib("VmRSS")?;
        }
    }
    let added = memory_kib("VmRSS")?.saturating_sub(before);
    black_box(&actions);
    println!("{}", added / u64::from(plugins));
    Ok(())
}

/// Pulls of a component from a registry on this machine, without a cache.
async fn pulls(component: &[u8]) -> Result<()> {
    let Some(program) = std::env::var_os("OPERON_REGISTRY") else {
        anyhow::bail!("OPERON_REGISTRY is not set; run `cargo xtask bench plugins`");
    };
    let mut registry = Command::new(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let pulled = pulls_from(&mut registry, component).await;
    registry.kill()?;
    registry.wait()?;
    pulled
}

async fn pulls_from(registry: &mut Child, component: &[u8]) -> Result<()> {
    let mut address = String::new();
    let output = registry.stdout.take().context("no output")?;
    BufReader::new(output).read_line(&mut address)?;
    let reference = format!("{}/bench:1", address.trim());
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("bench.wasm");
    fs::write(
        &file,
        with_section(component, &noise(PULLED - component.len())),
    )?;
    let push = Command::new(env!("CARGO_BIN_EXE_operon"))
        .args(["plugin", "push"])
        .arg(&file)
        .args([&reference, "--plain-http"])
        .stdout(Stdio::null())
        .status()?;
    ensure!(push.success(), "operon plugin push failed");
    let puller = Puller::new(PullerConfig::default());
    let mut times = Times::default();
    for _ in 0..PULLS {
        let started = Instant::now();
        let found = puller
            .pull(&PullRequest {
                reference: &reference,
                plain_http: true,
                ca: None,
                credentials: &[],
                manifest: None,
            })
            .await
            .map_err(|error| anyhow!("{}: {}", error.reason, error.message))?;
        ensure!(found.bytes.len() >= PULLED, "{} bytes", found.bytes.len());
        times.0.push(started.elapsed());
    }
    let what = format!(
        "pull of {} MiB from a registry on this machine",
        PULLED >> 20
    );
    row(&what, &times.sorted().to_string(), "", None);
    Ok(())
}

/// Bytes that do not compress.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

/// The same component with a custom section that nothing reads, so that its digest is another one.
fn with_section(component: &[u8], content: &[u8]) -> Vec<u8> {
    let mut section = vec![1, b'x'];
    section.extend_from_slice(content);
    let mut bytes = component.to_vec();
    bytes.push(0);
    let mut size = section.len();
    loop {
        let low = u8::try_from(size & 0x7f).unwrap_or_default();
        size >>= 7;
        bytes.push(if size == 0 { low } else { low | 0x80 });
        if size == 0 {
            break;
        }
    }
    bytes.extend(section);
    bytes
}

/// How long each run took.
#[derive(Default)]
struct Times(Vec<Duration>);

impl Times {
    fn sorted(mut self) -> Self {
        self.0.sort_unstable();
        self
    }

    fn at(&self, percent: usize) -> Duration {
        let index = self.0.len() * percent / 100;
        self.0.get(index).copied().unwrap_or_default()
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.1?}", self.at(50))?;
        // Of a few runs, there is no such percentile.
        if self.0.len() >= 50 {
            write!(f, ", p99 {:.1?}", self.at(99))?;
        }
        Ok(())
    }
}

fn row(measure: &str, value: &str, goal: &str, met: Option<bool>) {
    let met = met.map_or("", |met| if met { "met" } else { "missed" });
    println!("{measure}\t{value}\t{goal}\t{met}");
}
