//! The picture as text.

use super::*;
use crate::{
    marks::width,
    text::{Terminal, draw},
};

fn plain(flow: &JobFlow) -> String {
    draw(&picture(flow), Terminal::default())
}

#[test]
fn a_step_is_beneath_all_that_it_depends_on() {
    for flow in any_flows() {
        let text = plain(&flow);
        let line_of = |name: &str| {
            let mut lines = text.lines().enumerate();
            let found = lines.find(|(_, line)| line.split_whitespace().any(|word| word == name));
            found.expect("a line for every step").0
        };
        for step in &flow.spec.flows {
            // Names at the end of a line have a comma or are those of a step further up.
            for dependency in &step.dependencies {
                assert!(line_of(dependency) < line_of(&step.name), "{text}");
            }
        }
    }
}

#[test]
fn lines_beside_the_steps_have_no_loose_ends() {
    let down = |c: char| "│├┤┼".contains(c);
    let up = |c: char| "│├┤┼╰╯┴".contains(c);
    for flow in any_flows() {
        let text = plain(&flow);
        let rows: Vec<Vec<char>> = text
            .lines()
            .skip(3)
            .map(|line| line.chars().collect())
            .collect();
        for pair in rows.windows(2) {
            let lanes = pair[0].len().max(pair[1].len());
            for column in 0..lanes {
                let at = |row: &Vec<char>| row.get(column).copied().unwrap_or(' ');
                let (above, below) = (at(&pair[0]), at(&pair[1]));
                assert!(!down(above) || up(below) || below == '●', "{text}");
                assert!(!up(below) || down(above) || above == '●', "{text}");
            }
        }
    }
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    let mut flows: Vec<_> = any_flows().collect();
    flows.push(failed());
    let mut long = flow(&[("a", &[]), ("b", &["a"])]);
    long.spec.flows[0].name = "名前".repeat(200);
    long.spec.flows[1].dependencies = vec![long.spec.flows[0].name.clone()];
    flows.push(long);
    for flow in flows {
        for columns in [1, 7, 20, 33, 80] {
            let terminal = Terminal {
                width: Some(columns),
                color: false,
            };
            let text = draw(&picture(&flow), terminal);
            for line in text.lines() {
                assert!(width(line) <= columns, "{columns}: {line:?}");
            }
        }
    }
}

#[test]
fn a_flow_that_failed_says_where_and_why() {
    let expected = "\
JobFlow ci/example: Failed · 1/5 · 4m5s
5 steps in 3 layers
✗ 1 Failed  ◐ 1 Running  ✓ 1 Succeeded  ↷ 1 Skipped  ○ 1 Waiting
step \"test\" failed

   1  ✓    build     Succeeded     1m
   2  ✗    test      Failed      3m5s  ×2  ← build
      │      BackoffLimitExceeded: Job \"example-test-2\" failed: [31mexit 1
   3  ├─↷  deploy    Skipped               ← test (DependencyFailed)
      ◐    report    Running    1m30s      ← test
             when steps[\"test\"].phase == \"Failed\"

exit  ○    clean-up  Waiting               after all others

no longer in the spec: lint (Cancelled)
";
    assert_eq!(plain(&failed()), expected);
}

#[test]
fn colours_are_the_only_difference_that_they_make() {
    let terminal = |color| Terminal {
        width: Some(60),
        color,
    };
    let colored = draw(&picture(&failed()), terminal(true));
    assert!(colored.contains("\u{1b}[31m✗\u{1b}[0m"), "{colored:?}");
    let mut bare = String::new();
    for part in colored.split('\u{1b}') {
        let rest = part.strip_prefix('[').and_then(|part| part.split_once('m'));
        bare.push_str(rest.map_or(part, |(_, rest)| rest));
    }
    // Blanks between colours may be left at the end of a line.
    assert_eq!(bare, draw(&picture(&failed()), terminal(false)));
}

#[test]
fn what_steers_a_terminal_is_not_written() {
    let mut flow = flow(&[("a", &[])]);
    flow.spec.flows[0].name = "a\u{1b}[2J\u{202e}b\r\nc".to_owned();
    flow.metadata.name = Some("\u{7}x".to_owned());
    let text = plain(&flow);
    assert!(
        text.contains("a[2Jb c") && text.contains("JobFlow x"),
        "{text:?}"
    );
    assert!(
        !text.contains(|c: char| c.is_control() && c != '\n'),
        "{text:?}"
    );
}

#[test]
fn more_lines_than_fit_are_left_out() {
    let names: Vec<_> = (0..100).map(|step| format!("step-{step}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let mut steps: Vec<(&str, &[&str])> = names.iter().map(|name| (*name, [].as_slice())).collect();
    steps.push(("end", &names));
    let terminal = Terminal {
        width: Some(60),
        color: false,
    };
    let text = draw(&picture(&flow(&steps)), terminal);
    let last = text.lines().last().expect("a line");
    assert_eq!(
        last,
        "2  ●  end      ← step-0, step-1, step-2, step-3 and 96 more"
    );
    assert!(plain(&flow(&steps)).contains("step-98, step-99\n"));
}
