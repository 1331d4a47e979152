use serde_json::{Value, json};

use super::*;

fn one(text: &str) -> anyhow::Result<Value> {
    Ok(documents(text)?.remove(0).to_json())
}

#[test]
fn scalars_are_what_kubectl_takes_them_for() {
    for (text, value) in [
        ("no", json!(false)),
        ("NO", json!(false)),
        ("off", json!(false)),
        ("y", json!(true)),
        ("yes", json!(true)),
        ("true", json!(true)),
        ("\"no\"", json!("no")),
        ("'1'", json!("1")),
        ("!!str 1", json!("1")),
        ("~", Value::Null),
        ("null", Value::Null),
        ("86_400", json!(86400)),
        ("010", json!(8)),
        ("0o10", json!(8)),
        ("0x1F", json!(31)),
        ("0b11", json!(3)),
        ("-7", json!(-7)),
        ("+7", json!(7)),
        ("09", json!(9.0)),
        ("1.5", json!(1.5)),
        (".5", json!(0.5)),
        ("1e3", json!(1000.0)),
        ("18446744073709551615", json!(u64::MAX)),
        ("100m", json!("100m")),
        ("1.2.3", json!("1.2.3")),
        ("2026-01-01", json!("2026-01-01")),
        ("12:30", json!("12:30")),
        ("-", json!([null])),
        ("nope", json!("nope")),
        ("0xg", json!("0xg")),
    ] {
        assert_eq!(one(text).expect(text), value, "{text}");
    }
}

#[test]
fn merge_keys_are_resolved() {
    let text = "base: &base {a: 1, b: 2}\nother: &other {b: 3, c: 4}\n\
                one: {<<: *base, b: 5}\nboth: {<<: [*base, *other]}\nquoted: {'<<': 1}\n";
    let found = one(text).expect("YAML");
    assert_eq!(found["one"], json!({"a": 1, "b": 5}));
    assert_eq!(found["both"], json!({"a": 1, "b": 2, "c": 4}));
    assert_eq!(found["quoted"], json!({"<<": 1}));
}

#[test]
fn what_is_wrong_is_reported_with_its_line() {
    for (text, error) in [
        ("a: 1\nb: 2\na: 3\n", "line 3: \"a\" is on line 1 already"),
        ("a:\n  <<: 1\n", "line 2: only maps can be merged with <<"),
        ("a: 1\nb: .inf\n", "line 2: .inf is not a JSON number"),
        ("a: !mine 1\n", "line 1: the tag !mine is not supported"),
        ("a: *b\n", "line 1"),
        ("a: 1\nb: [\n", "line 2"),
        ("[1]: 2\n", "line 1: a key must be a string"),
    ] {
        let found = documents(text).expect_err(text);
        let found = format!("{found:#}");
        assert!(found.contains(error), "{text:?}: {found}");
    }
}

#[test]
fn a_text_that_repeats_itself_without_end_is_refused() {
    let levels = (1..12).map(|level| {
        let list = vec![format!("*a{}", level - 1); 10].join(", ");
        format!("a{level}: &a{level} [{list}]")
    });
    let first = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]".to_owned();
    let text = [first]
        .into_iter()
        .chain(levels)
        .collect::<Vec<_>>()
        .join("\n");
    let error = documents(&text).expect_err("a bomb").to_string();
    assert!(error.contains("more than 1000000 values"), "{error}");
    let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
    assert!(documents(&deep).is_err());
}
