//! The command in a real terminal, which `script` of util-linux provides: what it draws, and what it asks.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use serde_json::json;

use crate::{JOB, JOBS, WATCH, job, list, server::Server};

/// A terminal of so many columns and rows, of this kind, with more variables of the environment.
struct Terminal {
    columns: u16,
    rows: u16,
    kind: &'static str,
    more: &'static [(&'static str, &'static str)],
}

const WIDE: Terminal = Terminal {
    columns: 120,
    rows: 30,
    kind: "xterm",
    more: &[],
};

impl Terminal {
    /// Runs the command, for which a user types this: its exit code, and everything that it wrote.
    fn run(&self, server: &Server, arguments: &[&str], typed: &str) -> (Option<i32>, String) {
        let command = server.command(arguments);
        let quoted = |word: &std::ffi::OsStr| format!("'{}'", word.to_string_lossy());
        let words = [command.get_program()]
            .into_iter()
            .chain(command.get_args());
        let words: Vec<_> = words.map(quoted).collect();
        let (columns, rows) = (self.columns, self.rows);
        let line = format!(
            "stty columns {columns} rows {rows}; exec {}",
            words.join(" ")
        );
        let mut script = Command::new("script")
            .args(["--quiet", "--return", "--command", &line, "/dev/null"])
            .env_remove("NO_COLOR")
            .env("SHELL", "/bin/sh")
            .env("TERM", self.kind)
            .envs(self.more.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("`script` of util-linux runs");
        let mut keyboard = script.stdin.take().expect("a pipe");
        keyboard.write_all(typed.as_bytes()).expect("it reads");
        let output = script.wait_with_output().expect("it ends");
        drop(keyboard);
        let written = String::from_utf8(output.stdout).expect("text");
        (output.status.code(), written.replace("\r\n", "\n"))
    }
}

/// What a terminal shows after all of this was written, without colours.
fn shown(written: &str) -> String {
    let mut lines = vec![String::new()];
    let mut row = 0;
    let mut rest = written;
    while let Some(letter) = rest.chars().next() {
        rest = &rest[letter.len_utf8()..];
        match letter {
            '\n' => {
                row += 1;
                lines.resize(lines.len().max(row + 1), String::new());
            }
            '\r' => {}
            '\u{1b}' => {
                let sequence = rest.strip_prefix('[').expect("a control sequence");
                let end = sequence.find(|letter: char| letter.is_ascii_alphabetic());
                let end = end.expect("its end");
                let (number, what) = (&sequence[..end], &sequence[end..=end]);
                rest = &sequence[end + 1..];
                match what {
                    "A" => row -= number.parse::<usize>().expect("a number"),
                    "J" => {
                        lines.truncate(row);
                        lines.push(String::new());
                    }
                    "m" => {}
                    other => unreachable!("{other} is not expected"),
                }
            }
            letter => lines[row].push(letter),
        }
    }
    lines.join("\n")
}

/// A job that waits, and then succeeds.
fn ending(name: &str) -> Server {
    let end = json!({"type": "MODIFIED", "object": job("Succeeded", "")});
    let answers = vec![
        (JOB, 200, job("Processing", "bell \u{7} and \u{1b}[2J")),
        (WATCH, 200, json!([end])),
        (JOBS, 200, list(&[job("Processing", "it waits")])),
    ];
    Server::with(name, answers)
}

#[test]
fn a_picture_replaces_the_one_before_it() {
    let wait = ["get", "opj/web", "--wait"];
    let (code, written) = WIDE.run(&ending("picture"), &wait, "");
    assert_eq!(code, Some(0), "{written}");
    assert!(written.contains("A\r\u{1b}[J"), "{written:?}");
    let screen = shown(&written);
    assert!(
        screen.starts_with("OperationJob shop/web  Restart  ░░░░░░░░  0/2  Succeeded\n"),
        "{screen}"
    );
    assert!(!screen.contains("Processing\n"), "{screen}");
    assert_eq!(screen.matches("OperationJob").count(), 1, "{screen}");
}

#[test]
fn no_colours_are_drawn_where_none_are_wanted() {
    let get = ["get", "opj/web"];
    let wait = ["get", "opj/web", "--wait"];
    let (code, colored) = WIDE.run(&ending("colours"), &get, "");
    assert_eq!(code, Some(0), "{colored}");
    assert!(colored.contains("├─ \u{1b}[33m!\u{1b}[0m a"), "{colored:?}");
    assert!(
        colored.contains("bell \\u{7} and \\u{1b}[2J"),
        "{colored:?}"
    );
    let plain = Terminal {
        more: &[("NO_COLOR", "1")],
        ..WIDE
    };
    let (_, written) = plain.run(&ending("no-colour"), &wait, "");
    assert!(!written.contains("m!"), "{written:?}");
    assert!(
        written.contains("A\r\u{1b}[J"),
        "it is drawn again: {written:?}"
    );
    let help = ["get", "--help"];
    let (code, written) = plain.run(&ending("no-colour-help"), &help, "");
    assert_eq!(code, Some(0));
    assert!(!written.contains('\u{1b}'), "{written:?}");
}

#[test]
fn a_terminal_that_cannot_replace_its_lines_gets_a_line_for_each_change() {
    for kind in ["dumb", ""] {
        let dumb = Terminal { kind, ..WIDE };
        let wait = ["get", "opj/web", "--wait"];
        let (code, written) = dumb.run(&ending("dumb"), &wait, "");
        assert_eq!(code, Some(0), "{written}");
        assert!(!written.contains('\u{1b}'), "{written:?}");
        assert!(
            written.contains("  0/2  Processing") && written.contains("  0/2  Succeeded"),
            "{written}"
        );
    }
}

#[test]
fn what_is_drawn_fits_twenty_columns_and_four_rows() {
    let narrow = Terminal {
        columns: 20,
        rows: 4,
        ..WIDE
    };
    let server = ending("narrow");
    for arguments in [&["get", "opj/web"][..], &["status"]] {
        let (code, written) = narrow.run(&server, arguments, "");
        assert_eq!(code, Some(0), "{written}");
        let screen = shown(&written);
        let is_wide = |line: &&str| line.chars().count() > 20;
        assert_eq!(screen.lines().find(is_wide), None, "{screen}");
        assert!(screen.contains('…'), "{screen}");
        let wide = [arguments, &["-o", "wide"]].concat();
        let (code, written) = narrow.run(&server, &wide, "");
        assert_eq!(code, Some(0), "{written}");
        assert!(!written.contains('…'), "{written}");
    }
    let (_, written) = narrow.run(&server, &["get", "opj/web", "--wait"], "");
    let screen = shown(&written);
    assert!(screen.trim_end().lines().count() < 4, "{screen}");
    assert!(screen.ends_with("… 2 more lines\n"), "{screen}");
}

#[test]
fn cancel_asks_in_a_terminal_and_does_what_is_answered() {
    let delete = "DELETE /apis/apps.kusionstack.io/v1alpha1/namespaces/shop/operationjobs/web";
    let answers = || {
        vec![
            (JOB, 200, job("Processing", "")),
            (delete, 200, job("Processing", "")),
        ]
    };
    for (typed, code, deletions) in [("n\n", 1, 0), ("\n", 1, 0), ("y\n", 0, 1)] {
        let server = Server::with("asks", answers());
        let (found, written) = WIDE.run(&server, &["cancel", "opj/web"], typed);
        assert_eq!(found, Some(code), "{written}");
        assert!(written.contains("Continue? [y/N]"), "{written}");
        let requests = server.requests();
        let is_deletion = |request: &&String| request.starts_with("DELETE");
        assert_eq!(requests.iter().filter(is_deletion).count(), deletions);
    }
}
