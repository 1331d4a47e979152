//! The table of a test: one line for each scenario, under its function.

use super::{super::changes::Paint, drive::Run, outcomes, twist::Function};

/// The width of a scenario's name.
const WIDTH: usize = 36;

/// A line of the table.
pub(super) struct Row {
    pub(super) name: &'static str,
    /// How many runs; none if it does not apply to the calls of the action.
    pub(super) runs: usize,
    /// What is wrong with the first run that failed.
    pub(super) wrong: Option<String>,
    /// How many other runs failed.
    pub(super) more: usize,
}

impl Row {
    pub(super) fn line(&self, paint: Paint) -> String {
        let Self {
            name,
            runs,
            wrong,
            more,
        } = self;
        let end = match (wrong, runs) {
            (Some(wrong), _) => {
                let more = match more {
                    0 => String::new(),
                    more => format!(" (and {more} more)"),
                };
                format!("{}  {wrong}{more}", paint.bad("failed"))
            }
            (None, 0) => "-   does not apply".to_owned(),
            (None, runs) => format!("{}  {}", paint.good("ok"), count(*runs, "run")),
        };
        format!("  {name:WIDTH$}  {end}\n")
    }
}

/// The line above the scenarios of a function.
pub(super) fn head(function: Function, paint: Paint) -> String {
    format!("{}\n", paint.strong(function.name()))
}

/// What happens where nothing goes wrong.
pub(super) fn plain(run: &Run<'_>, paint: Paint) -> String {
    let effects: usize = run.calls.iter().map(|call| call.effects).sum();
    format!(
        "{}  {}: {}, {}, {}\n\n",
        paint.strong("plain run"),
        outcomes(run),
        count(run.rounds, "round"),
        count(run.calls.len(), "call"),
        count(effects, "effect"),
    )
}

/// The last line.
pub(super) fn sum(scenarios: usize, failures: usize) -> String {
    let (scenarios, failures) = (count(scenarios, "scenario"), count(failures, "failure"));
    format!("{scenarios}, {failures}")
}

/// A number with its noun.
pub(super) fn count(number: usize, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        _ => format!("{number} {noun}s"),
    }
}
