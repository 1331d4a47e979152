use operon_api::job_flow::Phase;
use serde_json::json;

use super::*;

fn facts() -> Vec<StepStatus> {
    let step = |name: &str, phase: Phase, outputs: serde_json::Value| StepStatus {
        name: name.to_owned(),
        phase,
        outputs: serde_json::from_value(outputs).expect("texts"),
        ..StepStatus::default()
    };
    vec![
        step(
            "build",
            Phase::Succeeded,
            json!({"digest": "sha256:1", "n": "7"}),
        ),
        step("test-all", Phase::Failed, json!({})),
    ]
}

fn holds(text: &str) -> Result<bool, String> {
    let when = When::compile(text).map_err(|error| format!("refused: {error}"))?;
    let facts = facts();
    let answer = when.answer(facts.iter()).map_err(|error| error.to_string());
    Ok(answer? == Answer::True)
}

#[test]
fn what_can_be_asked() {
    for (text, answer) in [
        ("true", true),
        (r#"steps["build"].phase == "Succeeded""#, true),
        ("steps.build.phase == 'Succeeded'", true),
        (
            r#"steps["test-all"].phase in ["Failed", "Cancelled"]"#,
            true,
        ),
        (r#"steps["test-all"].reason == """#, true),
        ("steps.build.outputs.digest.startsWith('sha256:')", true),
        (
            "int(steps.build.outputs['n']) + 1 > 7 && size(steps.build.outputs) == 2",
            true,
        ),
        ("steps['build'].outputs['n'] == '8' || !true", false),
        ("has(steps['test-all'].outputs.n)", false),
        ("'n' in steps.build.outputs ? false : true", false),
        ("'unknown' in steps", false),
        ("steps.exists(s, steps[s].phase == 'Failed')", true),
        ("steps.all(s, steps[s].phase == 'Failed')", false),
        ("steps.exists_one(s, steps[s].phase == 'Failed')", true),
        ("size(steps) == 2", true),
        ("// a comment's quote\ntrue", true),
        ("'🦀'.contains('🦀') && \"(((((((\" != ''", true),
    ] {
        assert_eq!(holds(text), Ok(answer), "{text}");
    }
}

#[test]
fn what_can_not_be_asked_is_told_before() {
    for (text, why) in [
        ("", "mismatched input"),
        ("steps.build.phase = 'x'", "refused"),
        (
            "steps.build.phas == 'x'",
            "a step has the fields phase, reason and outputs, not \"phas\"",
        ),
        ("steps['build']['phas'] == 'x'", "not \"phas\""),
        (
            "phase == 'Failed'",
            "there is no variable \"phase\"; put a string in quotes",
        ),
        (
            "steps.build.phase == Failed",
            "there is no variable \"Failed\"",
        ),
        ("steps == steps", "as in steps[\"name\"].phase"),
        ("[steps] == [steps]", "as in steps[\"name\"].phase"),
        ("steps.map(s, s) == []", "map and filter"),
        ("steps.filter(s, true) == []", "map and filter"),
        (
            "steps.all(a, steps.all(b, a == b))",
            "it can iterate over a list only once",
        ),
        (
            "steps.all(a, true) && steps.all(a, true)",
            "it can iterate over a list only once",
        ),
        (
            "[[1]].all(x, x.all(y, true))",
            "it can iterate over a list only once",
        ),
        (
            "steps.all(a, a + a + a == '')",
            "this number of + operators",
        ),
        ("'a'.matches('(a+)+$')", "the function matches"),
        ("matches('a', 'a')", "the function matches"),
        ("duration('1s') == duration('1s')", "the function duration"),
        ("type(1) == type(2)", "the function type"),
        ("dyn(1) == 1", "the function dyn"),
        ("google.protobuf.Int64Value{value: 1} == 1", "objects"),
        ("steps.?build.phase == ''", "refused"),
        ("steps.@result == 1", "refused"),
        ("@result == 1", "refused"),
    ] {
        let error = holds(text).expect_err(text);
        assert!(
            error.starts_with("refused") && error.contains(why),
            "{text}: {error}"
        );
    }
}

#[test]
fn what_has_no_answer_is_told() {
    for (text, why) in [
        ("steps.build.phase", "its type is string, not bool"),
        ("1", "its type is int, not bool"),
        ("[true]", "its type is list, not bool"),
        ("null", "its type is null, not bool"),
        ("steps.build.outputs.x == '1'", "No such key: x"),
        ("steps[steps.build.outputs.n].phase == ''", "No such key: 7"),
        ("1 / 0 == 1", "zero"),
        ("1 % 0 == 1", "zero"),
        ("-9223372036854775807 - 2 == 0", "verflow"),
        ("9223372036854775807 * 2 == 0", "verflow"),
        ("int('x') == 0", ""),
        ("int(1e300) == 0", ""),
        ("1 < 'a'", "overload"),
    ] {
        let error = holds(text).expect_err(text);
        assert!(
            !error.starts_with("refused") && error.contains(why),
            "{text}: {error}"
        );
        assert!(error.len() < 1000);
    }
}

#[test]
fn an_output_of_a_step_that_did_not_succeed_makes_it_false() {
    for text in [
        "steps['test-all'].outputs['n'] == '1'",
        "steps['test-all'].outputs.n != '1'",
        "!(steps[\"test-all\"].outputs.n == '1')",
        "steps.build.outputs.n == '7' && int(steps['test-all'].outputs.n) > 0",
        "steps.all(s, steps[s].outputs.n == '7')",
    ] {
        let when = When::compile(text).expect(text);
        let facts = facts();
        let lacks = match when.answer(facts.iter()) {
            Ok(Answer::Lacks { step, output }) => format!("{} {output}", step.name),
            Ok(Answer::True | Answer::False) | Err(_) => String::new(),
        };
        assert_eq!(lacks, "test-all n", "{text}");
    }
    for text in [
        "steps['test-all'].outputs.n == '1' || true",
        "steps.exists(s, steps[s].outputs.n == '7')",
        "!has(steps['test-all'].outputs.n)",
    ] {
        assert_eq!(holds(text), Ok(true), "{text}");
    }
}

/// Texts that would hang, grow or overflow the stack of who takes them as they are.
fn hostile() -> Vec<String> {
    let chain = |link: &str| format!("steps.a{}", link.repeat(4000 / link.len()));
    let mut texts = vec![
        "(".repeat(2000),
        format!("{}true{}", "(".repeat(2000), ")".repeat(2000)),
        format!("{}1{}", "[".repeat(2000), "]".repeat(2000)),
        format!("{}1{}", "{1:".repeat(1000), "}".repeat(1000)),
        format!("{}true", "!".repeat(4000)),
        format!("{}true", "!-".repeat(2000)),
        format!("{}1", "-".repeat(4000)),
        format!("{}true", "true ? ".repeat(580)),
        format!("{}true", "true ? true : ".repeat(290)),
        format!("1{} == 1", "-1".repeat(2000)),
        format!("1{}", " in 1".repeat(800)),
        format!("true{}", " && true".repeat(500)),
        format!("true{}", "||true".repeat(680)),
        format!("true{}", "==true".repeat(680)),
        format!("'a'{} == ''", " + 'a'".repeat(600)),
        format!("{}1{}", "size(".repeat(680), ")".repeat(680)),
        format!("{}'{}", "(".repeat(2000), ")".repeat(2000)),
        format!("//'\n{}", "(".repeat(2000)),
        format!("'''{}", "(".repeat(4000)),
        format!("r\"\\\"{}", "[".repeat(4000)),
        "a".repeat(5000),
        "🦀".repeat(1000),
        "\0".repeat(4000),
        "`".repeat(4000),
        "\"\\u".to_owned(),
        "'\\x".to_owned(),
        "b'\\377' == b''".to_owned(),
        "0x".to_owned(),
        "99999999999999999999".to_owned(),
        "1e999 == 1e999".to_owned(),
        "[1, 2, 3][9999999999] == 1".to_owned(),
        "{'a': 1, 'a': 2} == {}".to_owned(),
        "'x' * 100000000 == ''".to_owned(),
        format!(
            "['{}']{} == []",
            "x".repeat(100),
            ".map(x, x + x)".repeat(200)
        ),
        format!(
            "steps.all(s, {})",
            vec!["steps[s] == steps[s]"; 150].join(" && ")
        ),
        format!("[{}].all(x, x == 1)", vec!["1"; 1500].join(",")),
    ];
    texts.extend(
        [
            ".a",
            "[0]",
            "['a']",
            ".a()",
            "()",
            ".all(s, true)",
            "{}",
            "{a: 1}",
        ]
        .map(chain),
    );
    texts
}

#[test]
fn no_text_hangs_or_overflows_the_stack_or_panics() {
    // A quarter of what a thread of the host has.
    let small = std::thread::Builder::new().stack_size(512 << 10);
    let run = || {
        for text in hostile() {
            drop(holds(&text));
        }
    };
    let thread = small.spawn(run).expect("a thread");
    thread.join().expect("it comes back");
}

#[test]
fn no_long_text_hangs_or_overflows_the_stack_or_panics() {
    let small = std::thread::Builder::new().stack_size(512 << 10);
    let run = || {
        for text in hostile() {
            let halves = text.split_at_checked(text.len() / 2);
            let (start, end) = halves.unwrap_or((&text, ""));
            for long in [
                text.repeat(8),
                format!("{}{}", start.repeat(8), end.repeat(8)),
            ] {
                let fits = (0..=long.len().min(MAX_LENGTH)).rev();
                let mut fits = fits.filter(|end| long.is_char_boundary(*end));
                drop(holds(&long[..fits.next().unwrap_or(0)]));
            }
        }
    };
    let thread = small.spawn(run).expect("a thread");
    thread.join().expect("it comes back");
}

#[test]
fn any_few_signs_are_refused_or_answered() {
    const PARTS: [&str; 24] = [
        "(", ")", "[", "]", "{", "}", "steps", ".a", "'x'", "1", "-", "!", "?", ":", "&&", "==",
        " in ", "+", ",", "all(", "size(", "\"", "\\", "//",
    ];
    let mut number: u64 = 7;
    for _ in 0..20_000 {
        let mut text = String::new();
        for _ in 0..12 {
            number = number
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let place = usize::try_from(number >> 33).expect("31 bits") % PARTS.len();
            text.push_str(PARTS[place]);
        }
        let result = holds(&text);
        assert!(
            !result
                .as_ref()
                .is_err_and(|error| error.contains("evaluator failed")),
            "{text} makes it panic"
        );
    }
}

#[test]
fn the_most_expensive_text_is_quick_over_the_most_steps() {
    let steps: Vec<_> = (0..999)
        .map(|place| StepStatus {
            name: format!("s{place}"),
            outputs: [("x".to_owned(), "y".repeat(250))].into(),
            ..StepStatus::default()
        })
        .collect();
    let body = ["steps[s].outputs == steps[s].outputs"; 30].join(" && ");
    let when = When::compile(&format!("steps.all(s, {body})")).expect("it is small enough");
    assert_eq!(when.answer(steps.iter()), Ok(Answer::True));
    assert!(when.cost(999) < 500_000);
}

#[test]
fn a_join_may_name_hundreds_of_steps() {
    let steps: Vec<_> = (0..600)
        .map(|place| StepStatus {
            name: format!("step-{place}"),
            phase: Phase::Succeeded,
            ..StepStatus::default()
        })
        .collect();
    let term = |place| format!("steps[\"step-{place}\"].phase == \"Succeeded\"");
    for sign in [" && ", " || "] {
        let text: Vec<_> = (0..600).map(term).collect();
        let when = When::compile(&text.join(sign)).expect("it is small enough");
        assert_eq!(when.answer(steps.iter()), Ok(Answer::True));
        assert!(when.cost(600) < 10_000);
    }
}
