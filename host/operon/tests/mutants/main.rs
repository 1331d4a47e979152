//! Components that were mutated or generated at random. Each is refused with a reason, or its calls end within their limits; and whatever it does, another action is called as before. `cargo xtask fuzz` tries many.

#[path = "../support/mod.rs"]
mod support;

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use operon_core::action::{Action, ActionError, ActionLoader as _, Limits};
use operon_plugin_runtime::{ChildLimits, Loader, LoaderConfig};
use serde_json::json;
use support::{
    Question, annotate, config, hostile, load, memory_kib, number,
    random::Random,
    sections::{MODULE, joined, sections},
};
use wasm_mutate::WasmMutate;

/// How many mutants are tried with all other tests.
const FEW: u64 = 60;

/// A mutant ends within this time: three calls, a compilation, a check of settings, and a machine that does other things
/// as well.
const SOON: Duration = Duration::from_mins(1);

/// The most bytes of a message: the limit of what is quoted, and words around it.
const MESSAGE: usize = 1_200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mutated_component_is_refused_or_its_calls_end_within_their_limits() -> Result<()> {
    let first = number("OPERON_MUTANTS_FIRST")?.unwrap_or(0);
    let count = number("OPERON_MUTANTS")?.unwrap_or(FEW);
    let generated = generated()?;
    let mut trial = Trial::new().await?;
    let began = Instant::now();
    for seed in first..first + count {
        let name = format!("mutant {seed}");
        let (kind, mutant) = mutant(seed).with_context(|| name.clone())?;
        trial.attempt(name, kind, &mutant).await?;
    }
    for file in &generated {
        let component = fs::read(file)?;
        let name = file.display().to_string();
        trial.attempt(name, "random", &component).await?;
    }
    let (took, (long, name)) = (began.elapsed().as_secs(), trial.longest);
    println!(
        "{count} mutants from {first}, and {} generated components, in {took} s, the longest {long:.1?} ({name}):",
        generated.len()
    );
    for (end, count) in trial.ends {
        println!("  {count:>6}  {end}");
    }
    println!("  the host took {} MiB at most", memory_kib("VmHWM")? >> 10);
    Ok(())
}

/// The components that `tests/generator` wrote; none in a run with all other tests.
fn generated() -> Result<Vec<PathBuf>> {
    let Some(folder) = std::env::var_os("OPERON_GENERATED") else {
        return Ok(Vec::new());
    };
    let files = fs::read_dir(folder)?.map(|entry| Ok(entry?.path()));
    let mut files = files.collect::<Result<Vec<_>>>()?;
    files.sort();
    Ok(files)
}

/// A host that tries components, and what became of them.
struct Trial {
    loader: Loader,
    limits: Limits,
    /// Another action, which is called after each.
    decent: Arc<dyn Action>,
    /// How often each end came.
    ends: BTreeMap<String, u64>,
    /// How long the one took that took longest.
    longest: (Duration, String),
}

impl Trial {
    async fn new() -> Result<Self> {
        let loader = Loader::new(LoaderConfig {
            compile_limits: ChildLimits {
                cpu: Duration::from_secs(5),
                wall: Duration::from_secs(20),
                ..ChildLimits::COMPILE
            },
            ..config()
        })?;
        let decent = load(&loader, annotate()?, &Limits::default()).await?;
        let limits = Limits {
            call_timeout: Duration::from_millis(500),
            ..Limits::default()
        };
        Ok(Self {
            loader,
            limits,
            decent,
            ends: BTreeMap::new(),
            longest: (Duration::ZERO, String::new()),
        })
    }

    /// Loads and calls a component, and then the other action.
    async fn attempt(&mut self, name: String, kind: &str, component: &[u8]) -> Result<()> {
        let started = Instant::now();
        let end = end_of(&self.loader, component, &self.limits).await;
        let end = end.with_context(|| name.clone())?;
        let took = started.elapsed();
        ensure!(took < SOON, "{name} took {took:?}: {end}");
        *self.ends.entry(format!("{kind:<9}  {end}")).or_default() += 1;
        let question = Question::about("web-0");
        let answer = self.decent.operate_target(question.request()).await;
        ensure!(answer.is_ok(), "the call after {name}: {answer:?}");
        if took > self.longest.0 {
            self.longest = (took, name);
        }
        Ok(())
    }
}

/// How a mutant ends, in words.
async fn end_of(loader: &Loader, mutant: &[u8], limits: &Limits) -> Result<String> {
    let action = match loader.load("mutant", mutant, &json!({}), limits).await {
        Ok(action) => action,
        Err(error) => {
            let length = error.message.len();
            ensure!(length <= MESSAGE, "{length} bytes: {error:?}");
            return Ok(format!("refused: {}", error.reason));
        }
    };
    let mut words = Vec::new();
    for error in calls(&*action).await {
        words.push(match error {
            None => "ok".to_owned(),
            Some(error) => {
                let failure = error.failure();
                let length = failure.message.len();
                ensure!(length <= MESSAGE, "{length} bytes: {error:?}");
                failure.reason.clone()
            }
        });
    }
    Ok(format!("called: {}", words.join(", ")))
}

/// The errors of one call of each function.
async fn calls(action: &dyn Action) -> [Option<ActionError>; 3] {
    let question = Question::about("web-0");
    [
        action.operate_target(question.request()).await.err(),
        action.get_ops_progress(question.request()).await.err(),
        action.release_target(question.request()).await.err(),
    ]
}

/// The mutant of this number: of one of two guests, its bytes changed anywhere, or one of its core modules changed so that
/// it mostly stays valid.
fn mutant(seed: u64) -> Result<(&'static str, Vec<u8>)> {
    let mut random = Random(seed);
    let guest = match random.below(2) {
        0 => annotate()?,
        _ => hostile()?,
    };
    if random.below(4) == 0 {
        return Ok(("bytes", with_other_bytes(guest, &mut random)));
    }
    let mut sections = sections(guest).context("a component of ours has sections")?;
    let modules: Vec<_> = (0..sections.len())
        .filter(|place| sections[*place].0 == MODULE)
        .collect();
    // The first is the guest itself, the others join it with the host.
    let place = match random.below(4) {
        0 => modules[random.below(modules.len())],
        _ => modules[0],
    };
    for _ in 0..=random.below(3) {
        if let Some(module) = with_other_code(&sections[place].1, &mut random) {
            sections[place].1 = module;
        }
    }
    Ok(("code", joined(guest, &sections)))
}

/// A few bytes changed, removed or repeated.
fn with_other_bytes(guest: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = guest.to_vec();
    for _ in 0..=random.below(4) {
        let place = random.below(bytes.len());
        let length = 1 + random.below((bytes.len() - place).min(64));
        match random.below(4) {
            0 => bytes.truncate(place.max(1)),
            1 => drop(bytes.drain(place..place + length)),
            2 => {
                let copy = bytes[place..place + length].to_vec();
                bytes.splice(place..place, copy);
            }
            _ => bytes[place] ^= 1 << random.below(8),
        }
    }
    bytes
}

/// A module that was changed once; none if nothing could be changed this time.
fn with_other_code(module: &[u8], random: &mut Random) -> Option<Vec<u8>> {
    let mut mutations = WasmMutate::default();
    let mutations = mutations.seed(random.next()).preserve_semantics(false);
    let mut mutants = mutations.fuel(300).run(module).ok()?;
    mutants.next()?.ok()
}

#[test]
fn a_component_is_the_same_when_its_sections_are_joined_again() -> Result<()> {
    let guest = hostile()?;
    let sections = sections(guest).context("sections")?;
    assert!(sections.iter().any(|(kind, _)| *kind == MODULE));
    assert!(joined(guest, &sections) == guest);
    Ok(())
}
