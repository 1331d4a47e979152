//! The steps of a flow, one beneath the other. Pure.

use operon_api::job_flow::Phase;

use super::{
    lanes::{Beside, lanes},
    line::{Line, Style},
};
use crate::{
    marks::{counted, sign, width, wrapped},
    picture::{Picture, Step},
};

/// How wide the column of the names gets; a longer name moves the rest of its line.
const MAX_NAME: usize = 40;

/// How wide `Succeeded` and `Cancelled` are.
const PHASE: usize = 9;

/// The text in place of the layer's number at the step that runs last.
const EXIT: &str = "exit";

/// How many lanes are drawn beside the steps at most; more are no picture any more. At a terminal they
/// take two fifths of its width at most.
const MAX_LANES: usize = 20;

/// Narrower notes are truncated, not wrapped.
const NARROWEST_NOTE: usize = 24;

/// Lines for steps, and where everything is in them.
pub(super) struct Table<'a> {
    picture: &'a Picture,
    /// The lines beside each step of a layer, in their order; none if there would be too many.
    beside: Option<Vec<Beside>>,
    /// How wide a line may be.
    room: usize,
    columns: Columns,
}

/// Where each column begins; empty columns have no width.
struct Columns {
    sign: usize,
    name: usize,
    phase: usize,
    attempts: usize,
    end: usize,
}

impl<'a> Table<'a> {
    pub(super) fn new(picture: &'a Picture, room: usize) -> Self {
        let order: Vec<_> = picture.layers.iter().flatten().copied().collect();
        let beside = lanes(&order, &picture.steps, MAX_LANES.min(room / 5));
        let columns = Columns::new(picture, beside.as_deref().unwrap_or_default());
        Self {
            picture,
            beside,
            room,
            columns,
        }
    }

    pub(super) fn lines(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        let mut beside = self.beside.iter().flatten();
        for (number, layer) in self.picture.layers.iter().enumerate() {
            let mut label = (number + 1).to_string();
            for step in layer {
                lines.extend(self.step(&label, beside.next(), *step));
                label.clear();
            }
        }
        if let Some(step) = self.picture.exit {
            if !lines.is_empty() {
                lines.push(Line::default());
            }
            lines.extend(self.step(EXIT, None, step));
        }
        lines
    }

    /// All lines of a step.
    fn step(&self, label: &str, beside: Option<&Beside>, place: usize) -> Vec<Line> {
        let mut lines = vec![self.line(label, beside, place)];
        lines.extend(self.notes(beside, &self.picture.steps[place]));
        lines
    }

    /// The line of a step.
    fn line(&self, label: &str, beside: Option<&Beside>, place: usize) -> Line {
        let (step, columns) = (&self.picture.steps[place], &self.columns);
        let style = step.phase.map_or(Style::Plain, Style::Phase);
        let mut line = Line::of(Style::Dim, format!("{label:>0$}  ", columns.sign - 2));
        line.push(Style::Dim, beside.map_or("", |beside| &beside.left));
        line.push(style, sign(step.phase));
        line.push(Style::Dim, beside.map_or("", |beside| &beside.right));
        line.fill(columns.name);
        line.push(Style::Bold, step.name.as_str());
        if let Some(phase) = step.phase {
            line.fill(columns.phase);
            line.push(style, phase.as_str());
        }
        if let Some(duration) = &step.duration {
            line.fill(columns.attempts - 2 - width(duration));
            line.push(Style::Plain, duration.as_str());
        }
        if let Some(attempts) = attempts(step) {
            line.fill(columns.attempts);
            line.push(Style::Plain, attempts);
        }
        let room = self.room.saturating_sub(columns.end.max(line.width() + 1));
        let end = self.end(place, room);
        // If lines are drawn, they show the dependencies that do not fit.
        let is_all = self.beside.is_none() && self.picture.exit != Some(place);
        if width(&end) <= room || is_all {
            line.fill(columns.end);
            line.push(Style::Dim, end);
        }
        line
    }

    /// What a step waits for, and the reason if it needs no sentence.
    fn end(&self, place: usize, room: usize) -> String {
        let step = &self.picture.steps[place];
        let reason = step.reason.as_ref().filter(|_| sentence(step).is_none());
        let reason = reason.map_or_else(String::new, |reason| format!("({reason})"));
        let names = step.dependencies.iter();
        let names: Vec<_> = names.map(|d| &*self.picture.steps[*d].name).collect();
        let waits_for = if self.picture.exit == Some(place) {
            "after all others".to_owned()
        } else if names.is_empty() {
            String::new()
        } else {
            let taken = if reason.is_empty() {
                2
            } else {
                3 + width(&reason)
            };
            format!("← {}", listed(&names, room.saturating_sub(taken)))
        };
        let gap = if waits_for.is_empty() || reason.is_empty() {
            ""
        } else {
            " "
        };
        format!("{waits_for}{gap}{reason}")
    }

    /// Lines beneath that of a step: when it runs, and why it is where it is.
    fn notes(&self, beside: Option<&Beside>, step: &Step) -> Vec<Line> {
        let indent = self.columns.name + 2;
        let room = self.room.saturating_sub(indent);
        let is_bad = matches!(step.phase, Some(Phase::Failed | Phase::Blocked));
        let why = if is_bad { Style::Plain } else { Style::Dim };
        let when = step.when.as_ref().map(|when| format!("when {when}"));
        let notes = [(Style::Dim, when), (why, sentence(step))];
        let notes = notes
            .into_iter()
            .filter_map(|(style, note)| Some((style, note?)));
        let parts = notes.flat_map(|(style, note)| {
            let parts = if room < NARROWEST_NOTE {
                vec![note]
            } else {
                wrapped(&note, |line| width(line) <= room)
            };
            parts.into_iter().map(move |part| (style, part))
        });
        let note = |(style, part)| {
            let mut line = Line::of(Style::Plain, " ".repeat(self.columns.sign));
            line.push(Style::Dim, beside.map_or("", |beside| &beside.below));
            line.fill(indent);
            line.push(style, part);
            line
        };
        parts.map(note).collect()
    }
}

impl Columns {
    fn new(picture: &Picture, beside: &[Beside]) -> Self {
        let widest = |of: &dyn Fn(&Step) -> usize| picture.steps.iter().map(of).max().unwrap_or(0);
        let number = picture.layers.len().to_string().len();
        let label = picture.exit.map_or(number, |_| number.max(EXIT.len()));
        let lanes = beside.iter().map(Beside::width).max().unwrap_or(1);
        let after = |column: usize, width: usize| {
            if width > 0 {
                column + width + 2
            } else {
                column
            }
        };

        let sign = label + 2;
        let name = after(sign, lanes);
        let phase = after(name, widest(&|step| width(&step.name)).min(MAX_NAME));
        let duration = after(phase, widest(&|step| step.phase.map_or(0, |_| PHASE)));
        let attempts_at = after(
            duration,
            widest(&|step| step.duration.as_deref().map_or(0, width)),
        );
        let end = after(
            attempts_at,
            widest(&|step| attempts(step).map_or(0, |text| width(&text))),
        );
        Self {
            sign,
            name,
            phase,
            attempts: attempts_at,
            end,
        }
    }
}

/// Why a step is where it is, if there is more to say than the reason.
fn sentence(step: &Step) -> Option<String> {
    step.why().filter(|why| step.reason.as_ref() != Some(why))
}

fn attempts(step: &Step) -> Option<String> {
    step.attempts.map(|attempts| format!("×{attempts}"))
}

/// Names that fit into so many columns, and how many there are besides.
fn listed(names: &[&str], room: usize) -> String {
    let all = names.join(", ");
    if width(&all) <= room {
        return all;
    }
    let mut fitting = counted(names.len(), "step");
    for shown in 1..names.len() {
        let (some, rest) = names.split_at(shown);
        let text = format!("{} and {} more", some.join(", "), rest.len());
        if width(&text) > room {
            break;
        }
        fitting = text;
    }
    fitting
}
