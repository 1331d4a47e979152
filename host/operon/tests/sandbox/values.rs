//! What crosses the boundary: room for arguments that is none, and answers that are none.

use anyhow::{Result, anyhow};

use crate::crafted::{ANSWER, Crafted, Host};

const TRAPPED: &str = "PluginTrapped";

#[tokio::test]
async fn room_for_arguments_that_is_none_is_an_error_of_the_call() -> Result<()> {
    let host = Host::new().await?;
    let decent = "(call $room (local.get $align) (local.get $size))";
    // The first request is that of `setup`; a call has many.
    let later = |body: &str| {
        format!(
            "(if (result i32) (i32.le_u (global.get $calls) (i32.const 1)) (then {decent}) (else {body}))"
        )
    };
    let end = "(i32.mul (memory.size) (i32.const 65536))";
    for (realloc, reason, words) in [
        (
            "(i32.const -16)".to_owned(),
            TRAPPED,
            "beyond end of memory",
        ),
        (end.to_owned(), TRAPPED, "beyond end of memory"),
        (
            format!("(i32.sub {end} (i32.const 4))"),
            TRAPPED,
            "beyond end of memory",
        ),
        (
            format!("(i32.add {decent} (i32.const 1))"),
            TRAPPED,
            "not aligned",
        ),
        ("unreachable".to_owned(), TRAPPED, "unreachable"),
        (
            "(loop (br 0)) (i32.const 0)".to_owned(),
            "PluginTimeout",
            "longer than 500 ms",
        ),
        (
            "(call $deeper)".to_owned(),
            "PluginStackOverflow",
            "too deep",
        ),
        (
            "(drop (memory.grow (i32.const 512))) unreachable".to_owned(),
            "PluginOutOfMemory",
            "32 MiB",
        ),
        // A call of the host while the host is in the midst of a call.
        (
            "(call $host)".to_owned(),
            TRAPPED,
            "cannot leave component instance",
        ),
    ] {
        let realloc = later(&realloc);
        let crafted = Crafted {
            items: "(func $deeper (result i32) (i32.add (call $deeper) (i32.const 1)))",
            imports: r#"(import "wasi:cli/stdin@0.2.0" "get-stdin" (func $host (result i32)))"#,
            realloc: &realloc,
            ..Crafted::default()
        };
        host.fails(&realloc, &crafted, (reason, words)).await?;
    }
    Ok(())
}

#[tokio::test]
async fn arguments_that_are_written_over_each_other_harm_no_other_action() -> Result<()> {
    let host = Host::new().await?;
    for realloc in ["(i32.const 4096)", "(i32.const 0)"] {
        let crafted = Crafted {
            realloc,
            ..Crafted::default()
        };
        // All of them at one place: the action reads nonsense, or answers with it.
        match host.load(&crafted).await {
            Ok(_) => drop(host.operate(realloc, &crafted).await?),
            Err(error) => assert_eq!(error.reason, "SetupFailed", "{error:?}"),
        }
    }
    Ok(())
}

#[tokio::test]
async fn an_answer_that_is_none_is_an_error_of_the_call() -> Result<()> {
    let host = Host::new().await?;
    let store = |offset: u32, value: &str| {
        format!(
            "(i32.store (i32.const {}) (i32.const {value}))",
            ANSWER + offset
        )
    };
    // The effects, and the extra-info: where the list is, and how long it is.
    let effects = |at: &str, count: &str| store(28, at) + &store(32, count);
    let extra_info = |at: &str, count: &str| store(36, at) + &store(40, count);
    // Where memory is untouched: a thousand entries of 16 bytes, whose values are the same 100,000 zeros.
    let amplified = "(local $at i32) (local.set $at (i32.const 131072))
        (loop $more
            (i32.store offset=8 (local.get $at) (i32.const 262144))
            (i32.store offset=12 (local.get $at) (i32.const 100000))
            (local.set $at (i32.add (local.get $at) (i32.const 16)))
            (br_if $more (i32.lt_u (local.get $at) (i32.const 147072))))"
        .to_owned()
        + &extra_info("131072", "1000");
    let bad_text = "(i32.store (i32.const 4096) (i32.const 0xffffffff))
        (i32.store (i32.const 8192) (i32.const 4096)) (i32.store (i32.const 8196) (i32.const 4))"
        .to_owned()
        + &extra_info("8192", "1");
    for (what, operate, reason, words) in [
        (
            "beyond the memory",
            "(return (i32.const -4))".to_owned(),
            TRAPPED,
            "pointer",
        ),
        (
            "across its end",
            "(return (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 4)))".to_owned(),
            TRAPPED,
            "pointer",
        ),
        (
            "not aligned",
            "(return (i32.const 513))".to_owned(),
            TRAPPED,
            "aligned",
        ),
        ("no such case", store(0, "255"), TRAPPED, "discriminant"),
        ("no such option", store(12, "2"), TRAPPED, "discriminant"),
        (
            "a list without end",
            effects("0", "-1"),
            TRAPPED,
            "out of bounds",
        ),
        (
            "a list beyond the memory",
            effects("-8", "1"),
            TRAPPED,
            "out of bounds",
        ),
        (
            "a list that is not aligned",
            effects("131073", "1"),
            TRAPPED,
            "aligned",
        ),
        (
            "effects of zeros",
            effects("131072", "2000"),
            "PluginResultTooLarge",
            "at most 64",
        ),
        (
            "more entries than the host takes",
            extra_info("131072", "16000"),
            "PluginResultTooLarge",
            "at most 32",
        ),
        ("text that is none", bad_text, TRAPPED, "utf-8"),
        (
            "one text a thousand times",
            amplified,
            "PluginResultTooLarge",
            "2 MiB",
        ),
    ] {
        let crafted = Crafted {
            operate: &operate,
            pages: 8,
            ..Crafted::default()
        };
        host.fails(what, &crafted, (reason, words)).await?;
    }
    Ok(())
}

#[tokio::test]
async fn what_follows_an_answer_has_the_limits_of_the_call() -> Result<()> {
    let host = Host::new().await?;
    for (taken, reason, words) in [
        ("unreachable", TRAPPED, "unreachable"),
        ("(loop (br 0))", "PluginTimeout", "longer than 500 ms"),
    ] {
        let crafted = Crafted {
            taken,
            ..Crafted::default()
        };
        host.fails(taken, &crafted, (reason, words)).await?;
    }
    let answer = host.operate("a decent one", &Crafted::default()).await?;
    let answer = answer.map_err(|error| anyhow!("{error:?}"))?;
    assert!(answer.effects.is_empty() && answer.extra_info.is_empty());
    Ok(())
}
