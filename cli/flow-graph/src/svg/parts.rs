//! Boxes, lines and words of an image. Pure.

use std::fmt::Write as _;

use operon_api::job_flow::Phase;

use super::measure;
use crate::{
    marks::{cut, sign},
    picture::{Picture, Step},
    place::{Area, Piece, Size},
};

/// The longest line in a box, in letters.
const LONGEST: usize = 34;

const LARGE: f64 = 13.0;
const SMALL: f64 = 11.0;

/// The padding around the lines of a box.
const PADDING: f64 = 10.0;
const NARROWEST: f64 = 84.0;

/// From one line of a box to the next.
const LINE: f64 = 16.0;

/// The lines in the box of a step.
pub(super) struct Content {
    phase: Option<Phase>,
    name: String,
    /// With the class of each.
    lines: Vec<(&'static str, String)>,
}

impl Content {
    pub(super) fn new(step: &Step) -> Self {
        Self {
            phase: step.phase,
            name: format!("{} {}", sign(step.phase), cut(&step.name, LONGEST)),
            lines: step
                .lines()
                .into_iter()
                .map(|(class, line)| (class, cut(&line, LONGEST)))
                .collect(),
        }
    }

    pub(super) fn size(&self) -> Size {
        let lines = self.lines.iter().map(|(_, text)| measure(text, SMALL));
        let widest = lines.fold(measure(&self.name, LARGE), f64::max);
        let below = self.lines.iter().map(|_| LINE).sum::<f64>();
        Size {
            width: (widest + 2.0 * PADDING).max(NARROWEST).ceil(),
            height: LARGE + 2.0 * PADDING + below,
        }
    }

    pub(super) fn drawn(&self, picture: &Picture, place: usize, area: Area) -> String {
        let Area {
            x,
            y,
            width,
            height,
        } = area;
        let class = self.phase.map_or("Unknown", Phase::as_str);
        let mut drawn = format!(
            "<g class=\"{class}\"><title>{}</title>",
            escape(&told(picture, place))
        );
        let _ = writeln!(
            drawn,
            r#"<rect class="box" x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" rx="6"/>"#
        );
        let left = x + PADDING;
        let mut at = y + PADDING + LARGE - 2.5;
        drawn.push_str(&text("name", (left, at), &self.name));
        for (class, line) in &self.lines {
            at += LINE;
            drawn.push_str(&text(class, (left, at), line));
        }
        drawn.push_str("</g>\n");
        drawn
    }
}

/// All that is known of a step: what a browser shows beside the pointer.
fn told(picture: &Picture, place: usize) -> String {
    let step = &picture.steps[place];
    let mut lines = vec![step.name.clone()];
    lines.extend(step.phase.map(|phase| phase.as_str().to_owned()));
    lines.extend(step.why());
    lines.extend(step.when.as_ref().map(|when| format!("when {when}")));
    let names = step.dependencies.iter();
    let names: Vec<_> = names.map(|d| picture.steps[*d].name.as_str()).collect();
    if !names.is_empty() {
        lines.push(format!("depends on {}", names.join(", ")));
    }
    if picture.exit == Some(place) {
        lines.push("runs last, whatever became of the others".to_owned());
    }
    lines.join("\n")
}

/// A piece of a line.
pub(super) fn line(piece: Piece) -> String {
    let Piece {
        start,
        from: (x, y),
        to: (end, bottom),
        ..
    } = piece;
    let class = if piece.is_when { "line dashed" } else { "line" };
    let level = if start < x {
        format!("M{start:.1} {y:.1}H{x:.1}")
    } else {
        format!("M{x:.1} {y:.1}")
    };
    // The tip of the arrow is at the box.
    let end = if piece.is_last { end - ARROW } else { end };
    let middle = f64::midpoint(x, end);
    let curve = format!("C{middle:.1} {y:.1} {middle:.1} {bottom:.1} {end:.1} {bottom:.1}");
    format!("<path class=\"{class}\" d=\"{level}{curve}\"/>\n")
}

/// How long the tip of an arrow is.
const ARROW: f64 = 8.0;

/// The tip of an arrow to the right.
pub(super) fn arrow((x, y): (f64, f64)) -> String {
    let (left, top, bottom) = (x - ARROW, y - 4.0, y + 4.0);
    format!("<path class=\"arrow\" d=\"M{x:.1} {y:.1}L{left:.1} {top:.1}V{bottom:.1}Z\"/>\n")
}

/// A line of text.
pub(super) fn text(class: &str, (x, y): (f64, f64), text: &str) -> String {
    format!(
        "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>\n",
        escape(text)
    )
}

/// A text as XML has it.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}
