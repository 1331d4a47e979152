//! Calls share what the host has: instances, memory, and the places of each action.

mod support;

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use anyhow::Result;
use operon_core::action::{Limits, Request};
use operon_plugin_runtime::{Loader, LoaderConfig};
use support::{CountingCluster, Question, config, hostile, limits, load};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_calls_than_slots_wait_for_each_other() -> Result<()> {
    let loader = Loader::new(LoaderConfig {
        max_instances: 2,
        ..config()
    })?;
    let action = load(&loader, hostile()?, &limits()).await?;
    let calls = (0..40).map(|number| {
        let action = action.clone();
        tokio::spawn(async move {
            let question = Question::about(&format!("web-{number}"));
            action.operate_target(question.request()).await.is_ok()
        })
    });
    for call in calls.collect::<Vec<_>>() {
        assert!(call.await?);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn calls_that_may_take_more_memory_than_there_is_wait_for_each_other() -> Result<()> {
    let cluster = Arc::new(CountingCluster::default());
    let loader = Loader::new(LoaderConfig {
        // Six calls, of which each of the four actions may have two.
        memory: Some(192 << 20),
        max_instances: 64,
        ..config()
    })?;
    let limits = Limits {
        memory: 32 << 20,
        ..limits()
    };
    let mut calls = Vec::new();
    for _ in 0..4 {
        let action = load(&loader, hostile()?, &limits).await?;
        for _ in 0..4 {
            let (action, cluster) = (action.clone(), cluster.clone());
            calls.push(tokio::spawn(async move {
                let question = Question::about("read-until-refused");
                let request = Request {
                    cluster,
                    ..question.request()
                };
                action.operate_target(request).await.is_ok()
            }));
        }
    }
    for call in calls {
        assert!(call.await?);
    }
    let most = cluster.most.load(Ordering::Relaxed);
    assert!((1..=6).contains(&most), "{most} calls at the same time");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_action_whose_calls_never_end_leaves_others_their_room_and_can_release() -> Result<()> {
    let loader = Loader::new(config())?;
    let for_ever = Limits {
        call_timeout: Duration::from_secs(30),
        ..limits()
    };
    let looping = load(&loader, hostile()?, &for_ever).await?;
    let other = load(&loader, hostile()?, &limits()).await?;
    let calls = (0..20).map(|number| {
        let looping = looping.clone();
        tokio::spawn(async move {
            let question = Question::about(&format!("endless-loop-{number}"));
            looping.operate_target(question.request()).await.is_ok()
        })
    });
    let calls: Vec<_> = calls.collect();
    let begin = Instant::now();
    let question = Question::about("web-0");
    assert!(other.operate_target(question.request()).await.is_ok());
    let mut ending = Question::about("endless-loop-0");
    ending.job.ending = true;
    assert!(looping.release_target(ending.request()).await.is_ok());
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    for call in calls {
        call.abort();
    }
    Ok(())
}
