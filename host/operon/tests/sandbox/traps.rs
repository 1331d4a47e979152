//! Traps of every kind, in a call and while an instance starts.

use anyhow::Result;

use crate::crafted::{Crafted, Host};

const TRAPPED: &str = "PluginTrapped";

#[tokio::test]
async fn a_trap_of_any_kind_is_an_error_of_its_own_and_the_next_call_works() -> Result<()> {
    let host = Host::new().await?;
    let items = "
        (type $nothing (func))
        (type $number (func (result i32)))
        (table $table 2 2 funcref)
        (elem (table $table) (i32.const 1) func $number_one)
        (func $number_one (type $number) (i32.const 1))
        (func $deeper (param i32) (call $deeper (i32.add (local.get 0) (i32.const 1))) (drop (local.get 0)))";
    for (operate, words) in [
        ("unreachable", "unreachable"),
        (
            "(drop (i32.div_s (i32.const 1) (i32.const 0)))",
            "integer divide by zero",
        ),
        (
            "(drop (i64.rem_u (i64.const 1) (i64.const 0)))",
            "integer divide by zero",
        ),
        (
            "(drop (i32.div_s (i32.const 0x80000000) (i32.const -1)))",
            "integer overflow",
        ),
        (
            "(drop (i32.trunc_f32_s (f32.const nan)))",
            "invalid conversion",
        ),
        (
            "(drop (i32.trunc_f64_u (f64.const 1e30)))",
            "integer overflow",
        ),
        (
            "(drop (i32.load (i32.const -4)))",
            "out of bounds memory access",
        ),
        (
            "(i64.store offset=0xffffffff (i32.const -1) (i64.const 1))",
            "out of bounds memory access",
        ),
        (
            "(memory.fill (i32.const -4) (i32.const 0) (i32.const 100))",
            "out of bounds memory access",
        ),
        (
            "(memory.copy (i32.const 0) (i32.const 0) (i32.const -1))",
            "out of bounds memory access",
        ),
        (
            "(drop (table.get $table (i32.const 2)))",
            "out of bounds table access",
        ),
        (
            "(table.set $table (i32.const -1) (ref.null func))",
            "out of bounds table access",
        ),
        (
            "(call_indirect $table (type $nothing) (i32.const 9))",
            "undefined element",
        ),
        (
            "(call_indirect $table (type $nothing) (i32.const 0))",
            "uninitialized element",
        ),
        (
            "(call_indirect $table (type $nothing) (i32.const 1))",
            "indirect call type mismatch",
        ),
    ] {
        let crafted = Crafted {
            items,
            operate,
            ..Crafted::default()
        };
        host.fails(operate, &crafted, (TRAPPED, words)).await?;
    }
    for (operate, reason, words) in [
        (
            "(call $deeper (i32.const 0))",
            "PluginStackOverflow",
            "too deep",
        ),
        ("(loop (br 0))", "PluginTimeout", "longer than 500 ms"),
    ] {
        let crafted = Crafted {
            items,
            operate,
            ..Crafted::default()
        };
        host.fails(operate, &crafted, (reason, words)).await?;
    }
    Ok(())
}

#[tokio::test]
async fn what_goes_wrong_while_an_instance_starts_refuses_the_component() -> Result<()> {
    let host = Host::new().await?;
    let setup = "SetupFailed";
    for (start, words) in [
        ("unreachable", "trapped"),
        ("(loop (br 0))", "longer than 500 ms"),
        ("(call $start)", "too deep"),
        (
            "(drop (i32.load (i32.const -4)))",
            "out of bounds memory access",
        ),
        (
            "(loop (br_if 0 (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable",
            "more than 32 MiB of memory",
        ),
    ] {
        let items = format!("(func $start {start}) (start $start)");
        let crafted = Crafted {
            items: &items,
            ..Crafted::default()
        };
        host.refuses(start, &crafted, (setup, words)).await?;
    }
    // Data and functions that do not fit where they are to go.
    for (items, words) in [
        (
            r#"(data (i32.const 0x7fffffff) "x")"#,
            "out of bounds memory access",
        ),
        (
            "(table $table 1 funcref) (elem (table $table) (i32.const 1) func $f) (func $f)",
            "out of bounds table access",
        ),
    ] {
        let crafted = Crafted {
            items,
            ..Crafted::default()
        };
        host.refuses(items, &crafted, (setup, words)).await?;
    }
    Ok(())
}
