//! How the host treats components, good and hostile: each is compiled by the shipped program and called
//! within limits; whatever it does, the next call works.

mod support;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use operon_core::action::{
    ActionError, ActionLoader as _, Effect, Limits, Mapping, OpsProgress, PatchKind,
};
use operon_plugin_runtime::{Loader, LoaderConfig, Outcome};
use serde_json::json;
use support::{Question, Recorder, blame, config, hostile, limits, load};

fn unexpected(error: &ActionError) -> anyhow::Error {
    anyhow::anyhow!("{error:?}")
}

#[tokio::test]
async fn a_decent_component_is_asked_and_answers() -> Result<()> {
    let recorder = Arc::new(Recorder::default());
    let loader = Loader::new(LoaderConfig {
        observer: recorder.clone(),
        ..config()
    })?;
    let action = load(&loader, hostile()?, &limits()).await?;
    let watch = action.registration().watches.first().context("no watch")?;
    assert_eq!(
        (watch.api_version.as_str(), watch.kind.as_str()),
        ("v1", "ConfigMap")
    );
    assert_eq!(
        watch.mappings,
        [Mapping::ExtraInfo("name".into()), Mapping::Namespace]
    );

    let question = Question::about("web-0");
    let operation = action
        .operate_target(question.request())
        .await
        .map_err(|error| unexpected(&error))?;
    assert_eq!(
        operation.extra_info.get("labels").map(String::as_str),
        Some("4")
    );
    let [
        Effect::Patch {
            object,
            kind,
            body,
            uid,
            ..
        },
        Effect::Evict { .. },
    ] = operation.effects.as_slice()
    else {
        bail!("unexpected effects {:?}", operation.effects);
    };
    assert_eq!((object.name.as_str(), *kind), ("web-0", PatchKind::Merge));
    assert_eq!(body, &json!({"metadata": {"annotations": {"job": "job"}}}));
    assert_eq!(uid, &question.target.uid);

    let report = action
        .get_ops_progress(question.request())
        .await
        .map_err(|error| unexpected(&error))?;
    assert_eq!(report.progress, OpsProgress::Processing);
    assert_eq!(
        report.recheck_after,
        Some(Duration::from_hours(1)),
        "clamped"
    );
    let failure = report.failure.context("no failure")?;
    assert_eq!(
        (failure.reason.as_str(), failure.message.as_str()),
        ("ActionFailed", "line line")
    );

    let released = action
        .release_target(question.request())
        .await
        .map_err(|error| unexpected(&error))?;
    assert!(released.effects.is_empty());
    assert_eq!(recorder.last_call(), Some(("release-target", Outcome::Ok)));
    Ok(())
}

#[tokio::test]
async fn a_hostile_call_is_an_error_of_its_own_and_the_next_one_works() -> Result<()> {
    let recorder = Arc::new(Recorder::default());
    let loader = Loader::new(LoaderConfig {
        observer: recorder.clone(),
        ..config()
    })?;
    let limits = limits();
    let action = load(&loader, hostile()?, &limits).await?;
    let decent = Question::about("web-0");
    for (behaviour, reason, outcome, message) in [
        (
            "endless-loop",
            "PluginTimeout",
            Outcome::Timeout,
            "operate-target took longer than 1500 ms (spec.limits.callTimeout)",
        ),
        (
            "memory-bomb",
            "PluginOutOfMemory",
            Outcome::Memory,
            "more than 32 MiB of memory",
        ),
        (
            "deep-recursion",
            "PluginStackOverflow",
            Outcome::StackOverflow,
            "recursed too deep",
        ),
        ("panic", "PluginTrapped", Outcome::Trap, "boom on purpose"),
        ("exit", "PluginTrapped", Outcome::Trap, "trapped"),
        (
            "host-call-flood",
            "PluginHostCallBudget",
            Outcome::HostCalls,
            "20000 times",
        ),
        (
            "log-flood",
            "PluginHostCallBudget",
            Outcome::HostCalls,
            "20000 times",
        ),
        (
            "log-giant",
            "PluginResultTooLarge",
            Outcome::ResultTooLarge,
            "2 MiB",
        ),
        (
            "giant-result",
            "PluginResultTooLarge",
            Outcome::ResultTooLarge,
            "2 MiB",
        ),
        (
            "empty-strings",
            "PluginResultTooLarge",
            Outcome::ResultTooLarge,
            "2 MiB",
        ),
        (
            "much-extra-info",
            "PluginResultTooLarge",
            Outcome::ResultTooLarge,
            "40 entries",
        ),
    ] {
        let question = Question::about(behaviour);
        let started = Instant::now();
        let Err(error) = action.operate_target(question.request()).await else {
            bail!("{behaviour} was answered");
        };
        let elapsed = started.elapsed();
        assert_eq!(blame(&error), (reason, true), "{behaviour}: {error:?}");
        assert!(
            error.failure().message.contains(message),
            "{behaviour}: {error:?}"
        );
        assert_eq!(
            recorder.last_call(),
            Some(("operate-target", outcome)),
            "{behaviour}"
        );
        // A tick of the epoch, and some time for a machine that does other things as well.
        assert!(
            elapsed < limits.call_timeout * 2,
            "{behaviour} took {elapsed:?}"
        );
        println!("{behaviour}: {elapsed:?}: {}", error.failure().message);

        let next = action.operate_target(decent.request()).await;
        assert!(next.is_ok(), "the call after {behaviour}: {next:?}");
    }
    Ok(())
}

#[tokio::test]
async fn what_an_action_reports_itself_is_its_own_error() -> Result<()> {
    let loader = Loader::new(config())?;
    let action = load(&loader, hostile()?, &limits()).await?;
    let retry = action
        .operate_target(Question::about("retry").request())
        .await;
    let Err(ActionError::Retry(failure, Some(after))) = retry else {
        bail!("{retry:?}")
    };
    assert_eq!(
        (failure.reason.as_str(), after),
        ("OnPurpose", Duration::from_hours(1))
    );
    let terminal = action
        .operate_target(Question::about("terminal").request())
        .await;
    assert!(
        matches!(terminal, Err(ActionError::Terminal(_))),
        "{terminal:?}"
    );
    let bad = action
        .operate_target(Question::about("bad-json").request())
        .await;
    let Err(ActionError::Terminal(failure)) = bad else {
        bail!("{bad:?}")
    };
    assert_eq!(failure.reason, "BadEffect");
    assert!(
        failure.message.contains("effect 1 (apply)"),
        "{}",
        failure.message
    );
    Ok(())
}

#[tokio::test]
async fn an_effect_beyond_a_limit_is_an_error_that_names_the_limit() -> Result<()> {
    let loader = Loader::new(config())?;
    let action = load(&loader, hostile()?, &limits()).await?;
    for (behaviour, reason, message) in [
        ("deep-json", "BadEffect", "nested more than 100 levels deep"),
        ("json-bomb", "BadEffect", "has more than 10000 values"),
        ("crooked-kind", "BadEffect", "apiVersion \"../v1\""),
        (
            "long-name",
            "BadEffect",
            "a name of 1048576 bytes; at most 253",
        ),
        (
            "many-effects",
            "PluginResultTooLarge",
            "65 effects; at most 64",
        ),
        ("many-events", "PluginResultTooLarge", "3 Events; at most 2"),
    ] {
        let answer = action
            .operate_target(Question::about(behaviour).request())
            .await;
        let Err(error) = answer else {
            bail!("{behaviour} was taken")
        };
        let failure = error.failure();
        assert_eq!(failure.reason, reason, "{behaviour}: {error:?}");
        assert!(failure.message.contains(message), "{behaviour}: {error:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_read_beyond_a_limit_is_refused_before_it_costs_anything() -> Result<()> {
    let loader = Loader::new(config())?;
    let action = load(&loader, hostile()?, &limits()).await?;
    for (behaviour, message) in [
        (
            "long-name-of-a-read",
            "a name of 1048576 bytes; at most 253",
        ),
        ("long-selector", "bytes; at most 1024"),
        ("endless-find", "one call may read 8 MiB"),
    ] {
        let operation = action
            .operate_target(Question::about(behaviour).request())
            .await
            .map_err(|error| unexpected(&error))?;
        let answer = operation.extra_info.get("answer").context("no answer")?;
        assert!(answer.contains(message), "{behaviour}: {answer}");
    }
    Ok(())
}

#[tokio::test]
async fn reading_too_much_is_told_to_the_action() -> Result<()> {
    let loader = Loader::new(config())?;
    let limits = Limits {
        memory: 128 << 20,
        ..limits()
    };
    let action = load(&loader, hostile()?, &limits).await?;
    let question = Question::about("read-until-refused");
    let operation = action
        .operate_target(question.request())
        .await
        .map_err(|error| unexpected(&error))?;
    assert_eq!(
        operation.extra_info.get("read").map(String::as_str),
        Some("7")
    );
    let refused = operation.extra_info.get("refused").context("not refused")?;
    assert!(refused.contains("one call may read 8 MiB"), "{refused}");
    assert_eq!(
        operation.extra_info.get("pods").map(String::as_str),
        Some("0")
    );
    Ok(())
}

#[tokio::test]
async fn much_logging_is_dropped_and_the_call_goes_on() -> Result<()> {
    let loader = Loader::new(config())?;
    let action = load(&loader, hostile()?, &limits()).await?;
    let answer = action
        .operate_target(Question::about("log-much").request())
        .await;
    assert!(answer.is_ok(), "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn a_call_that_waits_ends_at_its_timeout() -> Result<()> {
    let loader = Loader::new(config())?;
    let limits = Limits {
        call_timeout: Duration::from_millis(200),
        ..limits()
    };
    let action = load(&loader, hostile()?, &limits).await?;
    let started = Instant::now();
    let answer = action
        .release_target(Question::about("sleep").request())
        .await;
    let Err(error) = answer else {
        bail!("{answer:?}")
    };
    assert_eq!(blame(&error), ("PluginTimeout", true));
    assert!(started.elapsed() < Duration::from_secs(2));
    Ok(())
}

/// On a runtime of one thread, which is what a container with one processor has.
#[tokio::test(flavor = "current_thread")]
async fn others_run_while_a_component_computes() -> Result<()> {
    let loader = Loader::new(config())?;
    let limits = Limits {
        call_timeout: Duration::from_millis(600),
        ..limits()
    };
    let action = load(&loader, hostile()?, &limits).await?;
    let question = Question::about("endless-loop");
    let others = async {
        let mut rounds = 0;
        loop {
            tokio::time::sleep(Duration::from_millis(5)).await;
            rounds += 1;
            if rounds == 10 {
                break Instant::now();
            }
        }
    };
    let (others_done, (answer, loop_done)) = tokio::join!(others, async {
        (
            action.operate_target(question.request()).await,
            Instant::now(),
        )
    });
    assert!(answer.is_err());
    assert!(
        others_done < loop_done,
        "the others had to wait for the endless loop"
    );
    Ok(())
}

#[tokio::test]
async fn setup_and_settings_decide_whether_an_action_is_loaded() -> Result<()> {
    let loader = Loader::new(config())?;
    for (settings, reason, message) in [
        (
            json!({"mode": "refuse"}),
            "SetupFailed",
            "setup failed: these settings are refused",
        ),
        (
            json!({"mode": "loop"}),
            "SetupFailed",
            "longer than 1500 ms",
        ),
        (
            json!({"seconds": "two"}),
            "BadSettings",
            "spec.settings.seconds: value is not of type",
        ),
    ] {
        let answer = loader
            .load("hostile", hostile()?, &settings, &limits())
            .await;
        let Err(error) = answer else {
            bail!("{settings} was taken")
        };
        assert_eq!(error.reason, reason, "{settings}: {error:?}");
        assert!(error.message.contains(message), "{settings}: {error:?}");
    }
    let fits = loader
        .load("hostile", hostile()?, &json!({"seconds": 2}), &limits())
        .await;
    assert!(fits.is_ok());
    Ok(())
}

#[tokio::test]
async fn a_registration_beyond_a_limit_is_refused_and_the_host_lives() -> Result<()> {
    let loader = Loader::new(config())?;
    let reference = |path: &str| json!({"$ref": path, "$defs": {"a": {}}});
    let twice: serde_json::Map<_, _> = (0..50)
        .map(|level| {
            let next = json!({"$ref": format!("#/$defs/{}", level + 1)});
            (level.to_string(), json!({"allOf": [next.clone(), next]}))
        })
        .chain([("50".to_owned(), json!({}))])
        .collect();
    let large_pattern = format!("({}){{100}}", "a{100}".repeat(50));
    for (settings, reason, message) in [
        (
            json!({"mode": "reference-chain"}),
            "SetupFailed",
            "its settings schema has 1815045 bytes; at most 65536",
        ),
        (
            json!({"mode": "many-watches"}),
            "SetupFailed",
            "it declares 33 watches; at most 32",
        ),
        (
            json!({"schema": {"$ref": "#/$defs/0", "$defs": twice}}),
            "BadSettings",
            "more than 64 levels deep with its references followed",
        ),
        (
            json!({"schema": {"allOf": [{"$ref": "#"}]}}),
            "BadSettings",
            "refers to itself",
        ),
        (
            json!({"schema": reference("#/%24defs/a")}),
            "BadSettings",
            "percent-encoded",
        ),
        (
            json!({"schema": {"id": "#a"}}),
            "BadSettings",
            "it uses id, which is not checked",
        ),
        (
            json!({"schema": {"pattern": large_pattern}}),
            "BadSettings",
            "can't be used",
        ),
    ] {
        let shown: String = settings.to_string().chars().take(100).collect();
        let answer = loader
            .load("hostile", hostile()?, &settings, &limits())
            .await;
        let Err(error) = answer else {
            bail!("{shown} was taken")
        };
        assert_eq!(error.reason, reason, "{shown}: {error:?}");
        assert!(error.message.contains(message), "{shown}: {error:?}");
        assert!(error.message.len() < 1_100, "{shown}: {error:?}");
    }
    load(&loader, hostile()?, &limits()).await?;
    Ok(())
}

#[tokio::test]
async fn settings_cost_no_more_than_their_check_may_take() -> Result<()> {
    let loader = Loader::new(config())?;
    let pattern = json!({"pattern": "^(x|xx)*[ab]$"});
    let patterns: Vec<_> = std::iter::repeat_n(pattern, 2_000)
        .chain([json!({})])
        .collect();
    let distinct: Vec<_> = (0..60_000).map(|n| json!([n])).collect();
    let wrong = "spec.settings.list[0]: value is not of type \"string\"";
    for (what, schema, list, message) in [
        (
            "100,000 mistakes",
            json!({"items": {"type": "string"}}),
            vec![json!(0); 100_000],
            Some(wrong),
        ),
        (
            "items that must all differ",
            json!({"uniqueItems": true}),
            distinct.clone(),
            None,
        ),
        (
            "items that are searched for",
            json!({"contains": {"const": "none"}}),
            distinct,
            Some("spec.settings.list: "),
        ),
        (
            "a format",
            json!({"items": {"format": "regex"}}),
            vec![json!("("); 1_000],
            None,
        ),
        (
            "more matches than there is time for",
            json!({"items": {"anyOf": patterns}}),
            vec![json!("x".repeat(1_000)); 1_400],
            Some("takes more than 2 s of processor time"),
        ),
        (
            "settings as deep as they can be",
            json!({"items": {"type": "array"}}),
            vec![(0..120).fold(json!([]), |inner, _| json!([inner]))],
            None,
        ),
    ] {
        let schema = json!({"properties": {"list": schema}});
        let settings = json!({"list": list, "schema": schema});
        let started = Instant::now();
        let answer = loader
            .load("hostile", hostile()?, &settings, &Limits::default())
            .await;
        let told = answer.err().map(|error| (error.reason, error.message));
        println!("{what}: {:?}: {told:?}", started.elapsed());
        match (&told, message) {
            (None, None) => {}
            (Some(("BadSettings", told)), Some(message)) => {
                assert!(told.contains(message), "{what}: {told}");
            }
            _ => bail!("{what}: {told:?}"),
        }
    }
    Ok(())
}
