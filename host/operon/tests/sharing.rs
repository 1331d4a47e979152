//! Calls share what the host has: instances, memory, the places of each action, and the processors.

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use operon_core::action::{Action, ActionError, Failure, Limits, Request};
use operon_plugin_runtime::{Loader, LoaderConfig};
use support::{CountingCluster, Question, config, hostile, limits, load, load_as};
use tokio::task::JoinSet;

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
    for plugin in ["a", "b", "c", "d"] {
        let action = load_as(&loader, plugin, hostile()?, &limits).await?;
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

/// Limits of a call that computes until the test ends.
fn for_ever() -> Limits {
    Limits {
        call_timeout: Duration::from_secs(30),
        ..limits()
    }
}

/// Begins so many calls that compute until their time is over. They are stopped when they are dropped.
fn loops(action: &Arc<dyn Action>, job: &str, calls: usize) -> JoinSet<bool> {
    let call = |number: usize| {
        let (action, mut question) = (
            Arc::clone(action),
            Question::about(&format!("endless-loop-{number}")),
        );
        job.clone_into(&mut question.job.uid);
        async move { action.operate_target(question.request()).await.is_ok() }
    };
    (0..calls).map(call).collect()
}

/// A question of a release.
fn release(target: &str) -> Question {
    let mut ending = Question::about(target);
    ending.job.ending = true;
    ending
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_action_whose_calls_never_end_leaves_others_their_room_and_can_release() -> Result<()> {
    let loader = Loader::new(config())?;
    let looping = load_as(&loader, "looping", hostile()?, &for_ever()).await?;
    let other = load_as(&loader, "other", hostile()?, &limits()).await?;
    let _calls = loops(&looping, "job", 20);
    let begin = Instant::now();
    let question = Question::about("web-0");
    assert!(other.operate_target(question.request()).await.is_ok());
    let ending = release("endless-loop-0");
    assert!(looping.release_target(ending.request()).await.is_ok());
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_has_waited_for_its_place_begins_only_if_it_still_may() -> Result<()> {
    // One call of an action at a time.
    let loader = Loader::new(config())?;
    let slow = Limits {
        call_timeout: Duration::from_millis(300),
        ..limits()
    };
    let action = load(&loader, hostile()?, &slow).await?;
    let mut before = loops(&action, "job", 1);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let has_asked = AtomicBool::new(false);
    let refuse = || {
        has_asked.store(true, Ordering::Relaxed);
        Err(ActionError::Retry(
            Failure::new("NotNow", "it is set aside"),
            None,
        ))
    };
    let question = Question::about("endless-loop-1");
    let request = Request {
        admit: Some(&refuse),
        ..question.request()
    };
    let call = action.operate_target(request);
    let place = async {
        assert!(!has_asked.load(Ordering::Relaxed), "it has no place yet");
        before.join_next().await
    };
    let (answer, place) = futures::join!(call, place);
    assert!(place.is_some());
    assert!(has_asked.load(Ordering::Relaxed));
    let refused = matches!(&answer, Err(ActionError::Retry(why, None)) if why.reason == "NotNow");
    assert!(refused, "{answer:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_succeeds_in_time_beside_plugins_that_take_all_they_can_get() -> Result<()> {
    let loader = Loader::new(LoaderConfig {
        max_instances: 64,
        ..config()
    })?;
    let mut calls = Vec::new();
    for number in 0..8 {
        let plugin = format!("looping-{number}");
        let looping = load_as(&loader, &plugin, hostile()?, &for_ever()).await?;
        calls.push(loops(&looping, "job", 16));
    }
    let other = load_as(&loader, "other", hostile()?, &limits()).await?;
    for _ in 0..5 {
        let begin = Instant::now();
        let ending = release("web-0");
        assert!(other.release_target(ending.request()).await.is_ok());
        let took = begin.elapsed();
        assert!(took < Duration::from_secs(5), "{took:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_does_not_wait_for_all_calls_of_another_one_of_its_action() -> Result<()> {
    // One call of an action at a time.
    let loader = Loader::new(config())?;
    let slow = Limits {
        call_timeout: Duration::from_millis(300),
        ..limits()
    };
    let action = load(&loader, hostile()?, &slow).await?;
    let _calls = loops(&action, "large", 40);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let begin = Instant::now();
    let mut question = Question::about("web-0");
    "small".clone_into(&mut question.job.uid);
    assert!(action.operate_target(question.request()).await.is_ok());
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_compute_leave_a_thread_to_the_host() -> Result<()> {
    let loader = Loader::new(LoaderConfig {
        max_instances: 64,
        computing: Some(1),
        ..config()
    })?;
    let looping = load(&loader, hostile()?, &for_ever()).await?;
    let _calls = loops(&looping, "job", 16);
    tokio::time::sleep(Duration::from_millis(200)).await;
    // What a reconcile does: it waits for a moment, and for other tasks.
    let step = async || -> Result<()> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        tokio::spawn(async {}).await?;
        Ok(())
    };
    let steps = tokio::spawn(async move {
        let begin = Instant::now();
        for _ in 0..50 {
            step().await?;
        }
        anyhow::Ok(begin.elapsed())
    });
    let took = steps.await??;
    assert!(took < Duration::from_secs(1), "{took:?}");
    Ok(())
}
