//! A tree as lines of text: for a terminal with its size, and as one line per change without one.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;

use crate::{
    text::{fitted, printable},
    tree::{Mark, Row, Tree},
};

/// How many columns the bar of the progress has.
const BAR: usize = 8;

/// Where the lines go.
#[derive(Clone, Copy, Debug, Default)]
pub struct Screen {
    /// Longer lines are shortened; no limit if absent.
    pub columns: Option<usize>,
    /// Further lines are counted; no limit if absent.
    pub lines: Option<usize>,
    /// Whether marks have colours.
    pub color: bool,
}

/// The lines of a tree, each with its line end. No character in them can control the terminal, except colours.
pub fn draw(tree: &Tree, now: Timestamp, screen: Screen) -> String {
    let mut lines = vec![(None, header(tree, now))];
    if !tree.text.is_empty() {
        lines.push((None, format!("  {}", tree.text)));
    }
    branches(&tree.rows, "", now, &mut lines);
    if let Some(most) = screen.lines.map(|lines| lines.max(2))
        && lines.len() > most
    {
        let left = lines.len() + 1 - most;
        lines.truncate(most - 1);
        lines.push((None, format!("… {left} more lines")));
    }
    let drawn = lines.into_iter().map(|(mark, line)| {
        let line = fitted(&line, screen.columns);
        match mark.filter(|_| screen.color) {
            Some(mark) => format!("{}\n", line.replacen(mark.sign(), &colored(mark), 1)),
            None => format!("{line}\n"),
        }
    });
    drawn.collect()
}

/// A line for each row that is new or differs from before, without times.
pub fn changes(before: Option<&Tree>, after: &Tree) -> Vec<String> {
    let known = before.map(facts).unwrap_or_default();
    let is_new = |(what, fact): &(String, String)| known.get(what) != Some(fact);
    let mut lines = Vec::new();
    for (what, fact) in listed(after).into_iter().filter(is_new) {
        lines.push(printable(&format!("{what}  {fact}")).trim_end().to_owned());
    }
    lines
}

fn header(tree: &Tree, now: Timestamp) -> String {
    let (done, total) = tree.progress;
    let filled = (done.min(total) * BAR).checked_div(total).unwrap_or(0);
    let bar: String = "█".repeat(filled) + &"░".repeat(BAR - filled);
    let head = format!("{}  {bar}  {done}/{total}  {}", tree.title, tree.state);
    let age = tree.age(now);
    if age.is_empty() {
        head
    } else {
        format!("{head}  {age}")
    }
}

fn branches(rows: &[Row], indent: &str, now: Timestamp, lines: &mut Vec<(Option<Mark>, String)>) {
    for (index, row) in rows.iter().enumerate() {
        let is_last = index + 1 == rows.len();
        let (branch, below) = if is_last {
            ("└─", "   ")
        } else {
            ("├─", "│  ")
        };
        let mut line = format!("{indent}{branch} {} {}", row.mark.sign(), row.name);
        for part in [&row.state, &row.age(now), &row.sentence()] {
            if !part.is_empty() {
                line = format!("{line}  {part}");
            }
        }
        lines.push((Some(row.mark), line));
        branches(&row.children, &format!("{indent}{below}"), now, lines);
    }
}

fn colored(mark: Mark) -> String {
    let color = match mark {
        Mark::Failed => 31,
        Mark::Blocked => 33,
        Mark::Running => 34,
        Mark::Waiting | Mark::Skipped => 2,
        Mark::Done => 32,
    };
    format!("\u{1b}[{color}m{}\u{1b}[0m", mark.sign())
}

fn facts(tree: &Tree) -> BTreeMap<String, String> {
    listed(tree).into_iter().collect()
}

fn listed(tree: &Tree) -> Vec<(String, String)> {
    let (done, total) = tree.progress;
    let fact = format!("{done}/{total}  {}  {}", tree.state, tree.text);
    let mut listed = vec![(tree.title.clone(), fact)];
    list(&tree.rows, "", &mut listed);
    listed
}

fn list(rows: &[Row], above: &str, listed: &mut Vec<(String, String)>) {
    for row in rows {
        let what = format!("{above}{}", row.name);
        listed.push((
            what.clone(),
            format!("{}  {}", row.state, row.sentence())
                .trim()
                .to_owned(),
        ));
        list(&row.children, &format!("{what} / "), listed);
    }
}
