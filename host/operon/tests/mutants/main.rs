//! Components that were mutated at random. Each is refused with a reason, or its calls end within their limits; and whatever it does, another action is called as before. `cargo xtask fuzz` tries many.

#[path = "../support/mod.rs"]
mod support;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use operon_core::action::{Action, ActionError, ActionLoader as _, Limits};
use operon_plugin_runtime::{ChildLimits, Loader, LoaderConfig};
use serde_json::json;
use support::{
    Question, annotate, config, hostile, load, memory_kib, number,
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
    let loader = Loader::new(LoaderConfig {
        compile_limits: ChildLimits {
            cpu: Duration::from_secs(5),
            wall: Duration::from_secs(20),
            ..ChildLimits::COMPILE
        },
        ..config()
    })?;
    let limits = Limits {
        call_timeout: Duration::from_millis(500),
        ..Limits::default()
    };
    let decent = load(&loader, annotate()?, &Limits::default()).await?;
    let mut ends = BTreeMap::<String, u64>::new();
    let (began, mut longest) = (Instant::now(), (Duration::ZERO, first));
    for seed in first..first + count {
        let (kind, mutant) = mutant(seed).with_context(|| format!("mutant {seed}"))?;
        let started = Instant::now();
        let end = end_of(&loader, &mutant, &limits).await;
        let end = end.with_context(|| format!("mutant {seed}"))?;
        let took = started.elapsed();
        ensure!(took < SOON, "mutant {seed} took {took:?}: {end}");
        longest = longest.max((took, seed));
        *ends.entry(format!("{kind:<9}  {end}")).or_default() += 1;
        let question = Question::about("web-0");
        let answer = decent.operate_target(question.request()).await;
        ensure!(answer.is_ok(), "the call after mutant {seed}: {answer:?}");
    }
    let (took, (long, seed)) = (began.elapsed().as_secs(), longest);
    println!("{count} mutants from {first} in {took} s, the longest {long:.1?} (number {seed}):");
    for (end, count) in ends {
        println!("  {count:>6}  {end}");
    }
    println!("  the host took {} MiB at most", memory_kib("VmHWM")? >> 10);
    Ok(())
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

/// Numbers that look random, the same for the same seed (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end.max(1)).unwrap_or(u64::MAX);
        usize::try_from(self.next() % end).unwrap_or_default()
    }
}

#[test]
fn a_component_is_the_same_when_its_sections_are_joined_again() -> Result<()> {
    let guest = hostile()?;
    let sections = sections(guest).context("sections")?;
    assert!(sections.iter().any(|(kind, _)| *kind == MODULE));
    assert!(joined(guest, &sections) == guest);
    Ok(())
}
