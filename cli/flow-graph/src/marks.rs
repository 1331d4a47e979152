//! Signs, colours and words that the pictures have, and text that can be drawn. Pure.

use operon_api::job_flow::Phase;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// The sign of a phase, and of a step without a status.
pub(super) fn sign(phase: Option<Phase>) -> &'static str {
    match phase {
        None => "●",
        Some(Phase::Waiting) => "○",
        Some(Phase::Blocked) => "!",
        Some(Phase::Running) => "◐",
        Some(Phase::Succeeded) => "✓",
        Some(Phase::Failed) => "✗",
        Some(Phase::Skipped) => "↷",
        Some(Phase::Cancelled) => "⊘",
    }
}

/// The colour of a frame, readable on light and dark pages.
pub(super) fn color(phase: Phase) -> &'static str {
    match phase {
        Phase::Waiting | Phase::Skipped => "#8c959f",
        Phase::Blocked => "#9a6700",
        Phase::Running => "#0969da",
        Phase::Succeeded => "#1a7f37",
        Phase::Failed => "#cf222e",
        Phase::Cancelled => "#8250df",
    }
}

/// `1 step`, `2 steps`.
pub(super) fn counted(count: usize, one: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {one}{ending}")
}

/// One line without anything that steers a terminal, is forbidden in XML or turns the direction of
/// what follows.
pub(super) fn clean(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    let words = words.join(" ");
    words.chars().filter(|c| !steers(*c)).collect()
}

fn steers(character: char) -> bool {
    let turns = matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let is_no_character = matches!(character, '\u{fffe}' | '\u{ffff}');
    character.is_control() || turns || is_no_character
}

/// How many columns a text takes.
pub(super) fn width(text: &str) -> usize {
    text.width()
}

/// A text of at most this number of columns; a shortened text ends in an ellipsis.
pub(super) fn cut(text: &str, most: usize) -> String {
    if text.width() <= most {
        return text.to_owned();
    }
    let mut left = most.saturating_sub(1);
    let fits = |character: &char| {
        let wide = character.width().unwrap_or(0);
        let fits = wide <= left;
        left = if fits { left - wide } else { 0 };
        fits
    };
    let mut short: String = text.chars().take_while(fits).collect();
    if most > 0 {
        short.push('…');
    }
    short
}

/// A text in lines that fit, broken between words. A word that does not fit has a line of its own.
pub(super) fn wrapped(text: &str, fits: impl Fn(&str) -> bool) -> Vec<String> {
    if !text.is_empty() && fits(text) {
        return vec![text.to_owned()];
    }
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        if let Some(line) = lines.last_mut() {
            let longer = format!("{line} {word}");
            if fits(&longer) {
                *line = longer;
                continue;
            }
        }
        lines.push(word.to_owned());
    }
    lines
}
