//! One line of text with colours, truncated to the width of a terminal. Pure.

use operon_api::job_flow::Phase;

use crate::marks::{cut, width};

/// The output of the drawing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terminal {
    /// Its number of columns; an output that is not a terminal has room for everything.
    pub width: Option<usize>,
    /// Whether colours are drawn.
    pub color: bool,
}

/// The style of a part of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Dim,
    Bold,
    Phase(Phase),
}

/// Parts of a line, from left to right.
#[derive(Debug, Default)]
pub(super) struct Line {
    parts: Vec<(Style, String)>,
    width: usize,
}

impl Line {
    pub(super) fn of(style: Style, text: impl Into<String>) -> Self {
        let mut line = Self::default();
        line.push(style, text);
        line
    }

    pub(super) fn push(&mut self, style: Style, text: impl Into<String>) {
        let text = text.into();
        self.width += width(&text);
        self.parts.push((style, text));
    }

    /// Blanks up to a column, at least one where something longer is before it.
    pub(super) fn fill(&mut self, column: usize) {
        let blanks = column.saturating_sub(self.width).max(1);
        self.push(Style::Plain, " ".repeat(blanks));
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// The line as a terminal takes it, without blanks at its end.
    pub(super) fn drawn(&self, terminal: Terminal) -> String {
        let mut left = terminal.width.unwrap_or(usize::MAX);
        let mut drawn = String::new();
        let mut rest = self.width;
        for (style, text) in &self.parts {
            let own = width(text);
            // The part in which the line is truncated leaves room for the ellipsis.
            let text = if rest > left {
                cut_here(text, own, left)
            } else {
                text.clone()
            };
            let is_last = rest > left && own >= left;
            left = left.saturating_sub(own);
            rest -= own;
            if terminal.color && !text.trim().is_empty() {
                drawn.push_str(&colored(*style, &text));
            } else {
                drawn.push_str(&text);
            }
            if is_last {
                break;
            }
        }
        drawn.truncate(drawn.trim_end().len());
        drawn
    }
}

/// A part of a line that is too long as a whole.
fn cut_here(text: &str, own: usize, left: usize) -> String {
    if own < left {
        return text.to_owned();
    }
    // An ellipsis replaces the rest, even if this part would fit.
    let mut short = cut(&format!("{text}……"), left);
    if short.is_empty() && left > 0 {
        short.push('…');
    }
    short
}

fn colored(style: Style, text: &str) -> String {
    let code = match style {
        Style::Plain => return text.to_owned(),
        Style::Bold => "1",
        Style::Dim | Style::Phase(Phase::Waiting | Phase::Skipped) => "2",
        Style::Phase(Phase::Blocked) => "33",
        Style::Phase(Phase::Running) => "36",
        Style::Phase(Phase::Succeeded) => "32",
        Style::Phase(Phase::Failed) => "31",
        Style::Phase(Phase::Cancelled) => "35",
    };
    format!("\u{1b}[{code}m{text}\u{1b}[0m")
}
