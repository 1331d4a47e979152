//! Memories and tables that grow, or begin large.

use anyhow::{Result, anyhow};

use crate::crafted::{Crafted, Host};

/// The pages that the default of `spec.limits.memory` has room for.
const PAGES: u32 = (32 << 20) >> 16;

/// Entries of all tables of a call. One table of the component is not the module's.
const ENTRIES: u32 = 100_000;

#[tokio::test]
async fn memories_and_tables_grow_up_to_their_limits_in_sum() -> Result<()> {
    let host = Host::new().await?;
    let memories = "(memory $b 0) (memory $c 0) (memory $d 0)";
    let tables = "(table $a 0 funcref) (table $b 0 funcref)";
    // Each grows until it may not, and then counts: more than the limit would be a loop without end.
    let pages = format!(
        "(loop $more (br_if $more (i32.ne (memory.grow $b (i32.const 7)) (i32.const -1))))
        (loop $more (br_if $more (i32.ne (memory.grow $c (i32.const 1)) (i32.const -1))))
        (loop $more (br_if $more (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
        (loop $wrong (br_if $wrong (i32.ne (i32.const {PAGES}) (i32.add (memory.size)
            (i32.add (memory.size $b) (i32.add (memory.size $c) (memory.size $d)))))))"
    );
    let entries = format!(
        "(loop $more (br_if $more (i32.ne (table.grow $a (ref.null func) (i32.const 999)) (i32.const -1))))
        (loop $more (br_if $more (i32.ne (table.grow $b (ref.null func) (i32.const 1)) (i32.const -1))))
        (loop $wrong (br_if $wrong (i32.gt_u (i32.add (table.size $a) (table.size $b)) (i32.const {ENTRIES}))))
        (loop $wrong (br_if $wrong (i32.lt_u (i32.add (table.size $a) (table.size $b)) (i32.const {}))))",
        ENTRIES - 100
    );
    let too_large = "
        (loop $wrong (br_if $wrong (i32.ne (memory.grow (i32.const -1)) (i32.const -1))))
        (loop $wrong (br_if $wrong (i32.ne (memory.grow (i32.const 65535)) (i32.const -1))))
        (loop $wrong (br_if $wrong (i32.ne (table.grow $a (ref.null func) (i32.const -1)) (i32.const -1))))";
    let items = format!("{memories} {tables}");
    for operate in [pages.as_str(), &entries, too_large] {
        let crafted = Crafted {
            items: &items,
            operate,
            ..Crafted::default()
        };
        let answer = host.operate(operate, &crafted).await?;
        answer.map_err(|error| anyhow!("{operate}: {error:?}"))?;
    }
    let operate = "(drop (memory.grow (i32.const 512))) unreachable";
    let crafted = Crafted {
        operate,
        ..Crafted::default()
    };
    let words = "more than 32 MiB of memory: raise spec.limits.memory";
    host.fails(operate, &crafted, ("PluginOutOfMemory", words))
        .await
}

#[tokio::test]
async fn memories_and_tables_that_begin_beyond_a_limit_refuse_the_component() -> Result<()> {
    let host = Host::new().await?;
    let many = |item: &str, count: usize| format!("({item})").repeat(count);
    for (pages, items, reason, words) in [
        (
            PAGES + 1,
            String::new(),
            "SetupFailed",
            "more than 32 MiB of memory",
        ),
        (
            4,
            "(memory 509)".to_owned(),
            "SetupFailed",
            "more than 32 MiB of memory",
        ),
        (4097, String::new(), "CompileFailed", "memory"),
        (4, many("memory 0", 4), "CompileFailed", "memories"),
        (
            4,
            "(table 100001 funcref)".to_owned(),
            "CompileFailed",
            "table",
        ),
        (4, many("table 50001 funcref", 2), "SetupFailed", "table"),
        (4, many("table 1 funcref", 16), "CompileFailed", "tables"),
    ] {
        let crafted = Crafted {
            items: &items,
            pages,
            ..Crafted::default()
        };
        let what = format!(
            "{pages} pages {}",
            items.chars().take(30).collect::<String>()
        );
        host.refuses(&what, &crafted, (reason, words)).await?;
    }
    Ok(())
}
