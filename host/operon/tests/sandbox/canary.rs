//! A secret of one action, and another action that looks for it wherever a component can look. Both share the only
//! place for a call that there is, so that each call gets the memories, the tables and the stack of the previous call.

use std::{
    fmt::Write as _,
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use operon_core::action::{Action, ActionLoader as _, Limits};
use operon_plugin_runtime::{Loader, LoaderConfig};
use serde_json::json;

use crate::{
    crafted::{ANSWER, Crafted, FREE},
    support::{Question, config, number},
};

/// How many alternations there are with all other tests.
const FEW: u64 = 500;

/// As many memories and tables as one component may have. One table is not the module's.
const MEMORIES: usize = 4;
const TABLES: usize = 15;

/// Entries of each table but the last, which the engine clears in place.
const ENTRIES: usize = 100;

/// Entries of the last table, of 8 bytes each: so many that the engine gives the pages back that it does not clear in
/// place (`TABLE_RESIDENT` of its settings).
const MANY_ENTRIES: usize = 3 * (16 << 10) / 8;

/// Pages of each memory at the beginning, and as many more later.
const PAGES: u32 = 4;

/// In how many places a keeper finds its own secret: in its memories, its small tables, the large one, and its globals.
const PLACES: &str = "7";

#[tokio::test]
async fn a_secret_of_one_action_is_never_found_by_another() -> Result<()> {
    let alternations = number("OPERON_CANARY")?.unwrap_or(FEW);
    let loader = Loader::new(LoaderConfig {
        max_instances: 1,
        ..config()
    })?;
    let secret = json!({"token": "canary-5b1f0a3e9c7d"});
    let load = async |name: &'static str, mark: u32, settings| -> Result<_> {
        let component = component(mark)?;
        let limits = Limits {
            call_timeout: Duration::from_secs(10),
            ..Limits::default()
        };
        let action = loader.load(name, &component, &settings, &limits).await;
        action.map_err(|error| anyhow!("{name}: {error:?}"))
    };
    let keeper = load("keeper", 1, secret.clone()).await?;
    // One has the same code, so that it gets the same image of memory; the other has not.
    let seekers = [
        load("same code", 1, json!({})).await?,
        load("other code", 2, json!({})).await?,
    ];
    let mut keeps = Question::about("keep");
    keeps.job.settings = secret.to_string();
    let seeks = Question::about("seek");
    let began = Instant::now();
    for alternation in 0..alternations {
        let found = found(&keeper, &keeps).await?;
        ensure!(
            found == PLACES,
            "the keeper finds its own in {found} places"
        );
        let seeker = &seekers[usize::from(alternation % 2 == 1)];
        let found = self::found(seeker, &seeks).await?;
        ensure!(
            found == "0",
            "alternation {alternation}: found in {found} places"
        );
    }
    let took = began.elapsed();
    let each = took / u32::try_from(alternations).unwrap_or(u32::MAX).max(1);
    println!(
        "a secret in {PLACES} places, {alternations} times before a call of another action, {each:?} each, {:.1} s in all: found 0 times",
        took.as_secs_f64()
    );
    Ok(())
}

/// In how many places an action found something that it did not write.
async fn found(action: &Arc<dyn Action>, question: &Question) -> Result<String> {
    let answer = action.operate_target(question.request()).await;
    let operation = answer.map_err(|error| anyhow!("{error:?}"))?;
    let found = operation.extra_info.get("found");
    Ok(found.context("no answer")?.clone())
}

/// A component that fills its memories, tables and globals with its settings if its target's name begins with `k`. Then
/// it counts the places that are not as an instance begins. The mark makes another component of the same code.
fn component(mark: u32) -> Result<Vec<u8>> {
    let mut items = format!(
        r#"(data (i32.const 40) "found")
        (data (i32.const 48) "0")
        (data (i32.const 600) "\28\00\00\00\05\00\00\00\30\00\00\00\01\00\00\00")
        (global $kept (mut i64) (i64.const 0))
        (global $mark i32 (i32.const {mark}))
        (elem declare func $found)
        (func $found (param $is_dirty i32)
            (i32.store8 (i32.const 48) (i32.add (i32.load8_u (i32.const 48)) (local.get $is_dirty))))"#
    );
    let (mut keep, mut seek) = (String::new(), String::new());
    let names: Vec<String> = std::iter::once("$memory".to_owned())
        .chain((1..MEMORIES).map(|number| format!("$m{number}")))
        .collect();
    for (number, name) in names.iter().enumerate() {
        if number > 0 {
            write!(items, "(memory {name} {PAGES})")?;
        }
        // In the first memory, what the host wrote for this call is before that.
        let from = match number {
            0 => "(i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8))",
            _ => "(i32.const 0)",
        };
        items.push_str(&of_memory(name));
        write!(seek, "(drop (memory.grow {name} (i32.const {PAGES})))")?;
        write!(keep, "(call $fill{name} {from})")?;
        write!(seek, "(call $found (call $dirty{name} {from}))")?;
    }
    keep.push_str("(global.set $kept (i64.load (i32.const 4096)))");
    seek.push_str("(call $found (i64.ne (global.get $kept) (i64.const 0)))");
    for number in 0..TABLES {
        let entries = entries(number);
        write!(
            keep,
            "(table.fill $t{number} (i32.const 0) (ref.func $found) (i32.const {entries}))"
        )?;
        write!(items, "(table $t{number} {entries} funcref)")?;
    }
    let large = TABLES - 1;
    for (name, tables) in [("$dirty_tables", 0..large), ("$dirty_table", large..TABLES)] {
        items.push_str(&of_tables(name, tables));
        write!(seek, "(call $found (call {name}))")?;
    }
    let operate = format!(
        "(if (i32.eq (i32.load8_u (i32.load (local.get $arguments))) (i32.const 107)) (then {keep}))
        {seek}
        (i32.store (i32.const {}) (i32.const 600))
        (i32.store (i32.const {}) (i32.const 1))",
        ANSWER + 36,
        ANSWER + 40
    );
    let crafted = Crafted {
        items: &items,
        pages: PAGES,
        operate: &operate,
        ..Crafted::default()
    };
    crafted.component()
}

fn entries(table: usize) -> usize {
    if table + 1 == TABLES {
        MANY_ENTRIES
    } else {
        ENTRIES
    }
}

/// The function that finds out whether there is anything in some tables.
fn of_tables(name: &str, tables: Range<usize>) -> String {
    let each = tables.map(|number| {
        format!(
            "(local.set $at (i32.const 0))
            (loop $next
                (if (i32.eqz (ref.is_null (table.get $t{number} (local.get $at)))) (then (return (i32.const 1))))
                (local.set $at (i32.add (local.get $at) (i32.const 1)))
                (br_if $next (i32.lt_u (local.get $at) (i32.const {}))))",
            entries(number)
        )
    });
    let each: String = each.collect();
    format!("(func {name} (result i32) (local $at i32) {each} (i32.const 0))")
}

/// The functions that fill a memory from a place on, and that find out whether there is anything in it. What fills it
/// are the arguments of the call, which have the settings in them, again and again.
fn of_memory(name: &str) -> String {
    let end = format!("(i32.mul (memory.size {name}) (i32.const 65536))");
    format!(
        "(func $fill{name} (param $at i32) (local $length i32)
            (local.set $length (i32.sub (global.get $heap) (i32.const {FREE})))
            (loop $next
                (if (i32.gt_u (local.get $length) (i32.sub {end} (local.get $at)))
                    (then (local.set $length (i32.sub {end} (local.get $at)))))
                (memory.copy {name} $memory (local.get $at) (i32.const {FREE}) (local.get $length))
                (local.set $at (i32.add (local.get $at) (local.get $length)))
                (br_if $next (i32.lt_u (local.get $at) {end}))))
        (func $dirty{name} (param $at i32) (result i32)
            (loop $next
                (if (i64.ne (i64.load {name} (local.get $at)) (i64.const 0)) (then (return (i32.const 1))))
                (local.set $at (i32.add (local.get $at) (i32.const 8)))
                (br_if $next (i32.lt_u (local.get $at) {end})))
            (i32.const 0))"
    )
}
