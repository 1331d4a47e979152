//! A soak: one host, and scenarios of all kinds beside each other for long. What the host holds, memory and files, must
//! not grow with what it has done.

use std::{
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum as _;
use operon_e2e::{
    host::Host,
    world::{World, story_named},
};

use crate::{contained, scenario::Scenario};

/// How many scenarios go on at a time.
const WIDTH: u32 = 5;

/// How often the host is looked at.
const LOOK: Duration = Duration::from_secs(10);

/// How much the host's memory may grow, in MiB an hour, once it has seen every kind.
const GROWTH: f64 = 4.0;

/// How many more files may be open in the end than in the middle.
const FILES: usize = 8;

/// What a process holds at a time.
struct Sample {
    hours: f64,
    mib: f64,
    files: usize,
}

/// Loads a host for this long.
pub(crate) async fn soak(length: Duration, seed: u64) -> Result<()> {
    let mut grown = Ok(());
    story_named("soak", async |world: &World| {
        grown = in_world(length, seed, world).await;
    })
    .await;
    grown
}

async fn in_world(length: Duration, seed: u64, world: &World) -> Result<()> {
    let host = Host::start_with(world, "soaked", &["--no-leader-election"]);
    let (begin, rounds) = (Instant::now(), AtomicU32::new(0));
    let workers = (0..WIDTH).map(|worker| work(worker, begin + length, seed, &rounds));
    let samples = sample(host.pid(), begin, length, &rounds);
    let (worked, samples) = tokio::join!(futures::future::try_join_all(workers), samples);
    worked?;
    host.kill().await;
    // The first half fills caches.
    let samples = samples?;
    let later = &samples[samples.len() / 2..];
    let slope = slope(later);
    let files = |sample: Option<&Sample>| sample.map_or(0, |sample| sample.files);
    let (middle, last) = (files(later.first()), files(later.last()));
    println!(
        "{} scenarios in {} s; memory {slope:+.2} MiB an hour, {middle} open files in the middle and {last} in the end",
        rounds.load(Ordering::Relaxed),
        begin.elapsed().as_secs(),
    );
    ensure!(slope < GROWTH, "memory grows by {slope:.2} MiB an hour");
    ensure!(
        last <= middle + FILES,
        "open files grow from {middle} to {last}"
    );
    Ok(())
}

/// Runs one scenario after the other, chosen by the seed.
async fn work(worker: u32, until: Instant, seed: u64, rounds: &AtomicU32) -> Result<()> {
    let all = Scenario::value_variants();
    for round in 0_u32.. {
        if Instant::now() > until {
            break;
        }
        let mut hasher = DefaultHasher::new();
        (seed, worker, round).hash(&mut hasher);
        let chosen = usize::try_from(hasher.finish() % u64::try_from(all.len())?)?;
        let scenario = all[chosen];
        let name = format!("soak-{}", scenario.name());
        contained(async {
            let mut acted = Ok(());
            story_named(&name, async |world: &World| {
                scenario.prepare(world).await;
                for step in 0..scenario.steps() {
                    if acted.is_ok() {
                        acted = scenario.act(step, world).await;
                        scenario.done(step, world).await;
                    }
                }
            })
            .await;
            acted
        })
        .await
        .with_context(|| format!("scenario {}", scenario.name()))?;
        rounds.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Looks at a process again and again.
async fn sample(
    pid: u32,
    begin: Instant,
    length: Duration,
    rounds: &AtomicU32,
) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    while begin.elapsed() < length {
        tokio::time::sleep(LOOK).await;
        let sample = Sample {
            hours: begin.elapsed().as_secs_f64() / 3600.0,
            mib: memory(pid)?,
            files: fs::read_dir(format!("/proc/{pid}/fd"))?.count(),
        };
        if samples.len() % 6 == 5 {
            println!(
                "{:.0} min: {} scenarios, {:.1} MiB, {} open files",
                sample.hours * 60.0,
                rounds.load(Ordering::Relaxed),
                sample.mib,
                sample.files
            );
        }
        samples.push(sample);
    }
    ensure!(samples.len() > 3, "too short for a slope");
    Ok(samples)
}

/// The resident memory of a process, in MiB.
fn memory(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    let kib: f64 = kib.context("the host has ended")?.parse()?;
    Ok(kib / 1024.0)
}

/// How fast memory grows, in MiB an hour: the slope of the straight line that is nearest to the samples.
fn slope(samples: &[Sample]) -> f64 {
    let sum = |of: &dyn Fn(&Sample) -> f64| samples.iter().map(of).sum::<f64>();
    let count = sum(&|_| 1.0);
    let (hours, mib) = (sum(&|s| s.hours) / count, sum(&|s| s.mib) / count);
    let both = sum(&|s| (s.hours - hours) * (s.mib - mib));
    both / sum(&|s| (s.hours - hours).powi(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope_is_that_of_the_nearest_line() {
        let sample = |(hours, mib): (f64, f64)| Sample {
            hours,
            mib,
            files: 0,
        };
        let rising = [(0.0, 50.0), (0.5, 51.0), (1.0, 52.0)].map(sample);
        assert!((slope(&rising) - 2.0).abs() < 1e-9);
        let level = [(0.0, 50.0), (0.25, 52.0), (0.75, 52.0), (1.0, 50.0)].map(sample);
        assert!(slope(&level).abs() < 1e-9);
    }
}
