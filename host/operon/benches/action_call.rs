//! What a call of an action costs, and what compiling once saves: a table on standard output.
//!
//! `cargo xtask bench action-call`. Plain clocks, no framework: each row is the median
//! and the 99th percentile of its runs.

#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use operon_core::action::Limits;
use operon_plugin_runtime::{Loader, LoaderConfig};
use support::{Question, annotate, annotate_in_typescript, config, hostile, load};

const CALLS: usize = 10_000;
const LOADS: usize = 100;
const COMPILATIONS: usize = 5;

#[tokio::main]
async fn main() -> Result<()> {
    println!("{:<52} {:>7} {:>10} {:>10}", "", "runs", "p50", "p99");
    calls().await?;
    let typescript = annotate_in_typescript()?;
    annotate_calls("Rust", annotate()?).await?;
    annotate_calls("TypeScript", &typescript).await?;
    compilations("Rust", hostile()?).await?;
    compilations("TypeScript", &typescript).await?;
    loads("Rust", hostile()?).await?;
    loads("TypeScript", &typescript).await
}

/// A fresh instance, one question with a pod as a typed record, and its answer.
async fn calls() -> Result<()> {
    let loader = Loader::new(config())?;
    let action = load(&loader, hostile()?, &Limits::default()).await?;
    let question = Question::about("web-0");
    let mut times = Vec::with_capacity(CALLS);
    for _ in 0..CALLS {
        let started = Instant::now();
        black_box(action.operate_target(question.request()).await.is_ok());
        times.push(started.elapsed());
    }
    row("operate-target, fresh instance, typed pod", times);

    let mut times = Vec::with_capacity(CALLS);
    for _ in 0..CALLS {
        let started = Instant::now();
        black_box(action.release_target(question.request()).await.is_ok());
        times.push(started.elapsed());
    }
    row("release-target, fresh instance, empty answer", times);
    Ok(())
}

/// The example action, which is the same in every language: it reads the pod, and answers with a patch.
async fn annotate_calls(language: &str, component: &[u8]) -> Result<()> {
    let loader = Loader::new(config())?;
    let action = load(&loader, component, &Limits::default()).await?;
    let question = Question::about("web-0");
    let operation = action.operate_target(question.request()).await;
    let effects = operation.map_or(0, |operation| operation.effects.len());
    ensure!(
        effects == 1,
        "Annotate in {language} answers {effects} effects"
    );
    let mut times = Vec::with_capacity(CALLS);
    for _ in 0..CALLS {
        let started = Instant::now();
        black_box(action.operate_target(question.request()).await.is_ok());
        times.push(started.elapsed());
    }
    row(&format!("operate-target of Annotate in {language}"), times);
    Ok(())
}

/// The compile child, from its start to the set-up action.
async fn compilations(language: &str, component: &[u8]) -> Result<()> {
    let mut times = Vec::with_capacity(COMPILATIONS);
    for _ in 0..COMPILATIONS {
        let loader = Loader::new(config())?;
        let started = Instant::now();
        load(&loader, component, &Limits::default()).await?;
        times.push(started.elapsed());
    }
    let size = component.len() >> 10;
    let what = format!("load, compiled by the child ({language}, {size} KiB)");
    row(&what, times);
    Ok(())
}

/// A verified file, from reading it to the set-up action.
async fn loads(language: &str, component: &[u8]) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let config = LoaderConfig {
        cache_dir: Some(directory.path().join("compiled")),
        ..config()
    };
    let first = Loader::new(config.clone())?;
    load(&first, component, &Limits::default()).await?;
    let loader = Loader::new(config)?;
    let mut times = Vec::with_capacity(LOADS);
    for _ in 0..LOADS {
        let started = Instant::now();
        // The action is dropped immediately, so the next load finds only the file.
        load(&loader, component, &Limits::default()).await?;
        times.push(started.elapsed());
    }
    row(&format!("load, from the cache ({language})"), times);
    Ok(())
}

fn row(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |percent: usize| {
        times
            .get(times.len() * percent / 100)
            .copied()
            .unwrap_or_default()
    };
    println!(
        "{what:<52} {:>7} {:>10.1?} {:>10.1?}",
        times.len(),
        at(50),
        at(99)
    );
}
