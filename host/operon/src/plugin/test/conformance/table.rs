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
            (None, 1) => format!("{}  1 run", paint.good("ok")),
            (None, runs) => format!("{}  {runs} runs", paint.good("ok")),
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
        "{}  {}: {} rounds, {} calls, {effects} effects\n\n",
        paint.strong("plain run"),
        outcomes(run),
        run.rounds,
        run.calls.len()
    )
}

/// The last line.
pub(super) fn sum(scenarios: usize, failures: usize) -> String {
    let scenario = if scenarios == 1 {
        "scenario"
    } else {
        "scenarios"
    };
    let failure = if failures == 1 { "failure" } else { "failures" };
    format!("{scenarios} {scenario}, {failures} {failure}")
}
