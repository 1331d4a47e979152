//! A flow as lines of text: one for each step, in the order in which they can run, and beside them
//! lines from each step to those that depend on it. Pure.

mod lanes;
mod line;
mod table;

pub use self::line::Terminal;
use self::{
    line::{Line, Style},
    table::Table,
};
use super::{
    marks::{counted, sign, width, wrapped},
    picture::Picture,
};

/// The whole picture, its last line ended.
pub(super) fn draw(picture: &Picture, terminal: Terminal) -> String {
    let room = terminal.width.unwrap_or(usize::MAX);
    let mut lines = head(picture, room);
    lines.push(Line::default());
    lines.extend(Table::new(picture, room).lines());
    if !picture.removed.is_empty() {
        let removed = picture.removed.join(", ");
        lines.push(Line::default());
        lines.push(Line::of(
            Style::Dim,
            format!("no longer in the spec: {removed}"),
        ));
    }
    let drawn = lines.iter().map(|line| line.drawn(terminal) + "\n");
    drawn.collect()
}

/// Its name and its status as a whole.
fn head(picture: &Picture, room: usize) -> Vec<Line> {
    let mut title = Line::of(Style::Bold, picture.title());
    if let Some(standing) = picture.standing() {
        title.push(Style::Plain, format!(": {standing}"));
    }
    let mut shape = counted(picture.steps.len(), "step");
    if !picture.layers.is_empty() {
        let layers = counted(picture.layers.len(), "layer");
        shape = format!("{shape} in {layers}");
    }
    let mut about = vec![shape];
    about.extend(picture.settings.iter().cloned());
    let mut lines = vec![title, Line::of(Style::Dim, about.join(" · "))];
    lines.extend(counts(picture, room));
    let message = picture.message.as_deref().unwrap_or_default();
    let message = wrapped(message, |line| width(line) <= room).into_iter();
    lines.extend(message.map(|part| Line::of(Style::Plain, part)));
    lines
}

/// How many steps are in which phase, unless it is the same for all; in as many lines as it takes.
fn counts(picture: &Picture, room: usize) -> Vec<Line> {
    let counts = picture.count();
    let mut lines: Vec<Line> = Vec::new();
    if counts.len() < 2 {
        return lines;
    }
    for (phase, count) in counts {
        let text = format!("{} {count} {}", sign(Some(phase)), phase.as_str());
        match lines.last_mut() {
            Some(line) if line.width() + 2 + width(&text) <= room => {
                line.push(Style::Plain, "  ");
                line.push(Style::Phase(phase), text);
            }
            _ => lines.push(Line::of(Style::Phase(phase), text)),
        }
    }
    lines
}
