//! Text for people: what may be printed, counts with their nouns, times, and the word that a user meant.

use k8s_openapi::jiff::Timestamp;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// The text on one line, without what could control a terminal, end a line or reverse its direction: such characters become
/// `\u{…}`, and line ends become spaces. Messages and Events hold what others wrote.
pub fn printable(text: &str) -> String {
    let mut printed = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' | '\r' | '\t' => printed.push(' '),
            letter if letter.is_control() || turns_text(letter) => {
                printed.extend(letter.escape_unicode());
            }
            letter => printed.push(letter),
        }
    }
    printed
}

fn turns_text(letter: char) -> bool {
    matches!(letter, '\u{61c}' | '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text within so many columns; `…` is at the end of a shortened one.
pub(crate) fn within(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let mut room = columns.saturating_sub(1);
    let mut short = String::new();
    for letter in text.chars() {
        let width = letter.width().unwrap_or(0);
        if width > room {
            break;
        }
        room -= width;
        short.push(letter);
    }
    if columns > 0 {
        short.push('…');
    }
    short
}

/// A line that may be printed, within so many columns, if they are limited.
pub fn fitted(line: &str, columns: Option<usize>) -> String {
    let line = printable(line);
    columns.map_or(line.clone(), |columns| within(&line, columns))
}

/// The time between two moments as kubectl prints it: `41s`, `3m5s`, `2h7m`, `4d3h`.
pub(crate) fn duration(from: Timestamp, to: Timestamp) -> String {
    let seconds = to.as_second().saturating_sub(from.as_second()).max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    let two = |first: i64, unit: &str, second: i64, rest: &str| match second {
        0 => format!("{first}{unit}"),
        second => format!("{first}{unit}{second}{rest}"),
    };
    match seconds {
        ..60 => format!("{seconds}s"),
        60..3600 => two(minutes, "m", seconds % 60, "s"),
        3600..86400 => two(hours, "h", minutes % 60, "m"),
        86400.. => two(days, "d", hours % 24, "h"),
    }
}

/// `1 target`, `2 targets`.
pub fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// A reason and a message as one text.
pub(crate) fn reasoned(reason: &str, message: &str) -> String {
    match (reason.is_empty(), message.is_empty()) {
        (true, _) => message.to_owned(),
        (false, true) => reason.to_owned(),
        (false, false) => format!("{reason}: {message}"),
    }
}

/// The known word that differs least, capitals aside, if it differs by a third of its letters at most.
pub(crate) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let (edits, nearest) = known
        .map(|known| (edits(&word, &known.to_lowercase()), known))
        .min_by_key(|(edits, known)| (*edits, known.len()))?;
    (edits * 3 <= nearest.len()).then_some(nearest)
}

/// How many letters must be added, removed or replaced.
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<_> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (done, letter) in from.chars().enumerate() {
        let mut next = vec![done + 1];
        for (index, other) in to.iter().enumerate() {
            let replaced = row[index] + usize::from(letter != *other);
            next.push(replaced.min(row[index + 1] + 1).min(next[index] + 1));
        }
        row = next;
    }
    row[to.len()]
}
