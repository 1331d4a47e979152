//! The texts above and beneath the boxes of a flow: its name and status, and the legend of signs and lines.
//! Pure.

use std::fmt::Write as _;

use operon_api::job_flow::Phase;

use super::{
    measure,
    parts::{arrow, text},
};
use crate::{
    marks::{counted, cut, sign, wrapped},
    picture::Picture,
    place::Layout,
};

const TITLE: f64 = 16.0;
const STANDING: f64 = 13.0;
const SMALL: f64 = 11.0;

/// From one line to the next.
const LINE: f64 = 20.0;

/// The longest line, in letters.
const LONGEST: usize = 100;

/// How wide an image is at least.
const LEAST: f64 = 420.0;

/// The texts above the boxes.
pub(super) struct Head {
    /// With the class of each.
    lines: Vec<(&'static str, String)>,
    pub(super) width: f64,
}

impl Head {
    /// A head that is as wide as the image, which is at least this wide.
    pub(super) fn new(picture: &Picture, least: f64) -> Self {
        let title = cut(&picture.title(), LONGEST);
        let standing = picture.standing();
        let standing = standing.map(|standing| cut(&standing, LONGEST));
        let mut about = vec![counted(picture.steps.len(), "step")];
        about.extend(picture.settings.iter().cloned());
        let width = least
            .max(LEAST)
            .max(measure(&title, TITLE))
            .max(measure(standing.as_deref().unwrap_or_default(), STANDING));
        let message = picture.message.as_deref().unwrap_or_default();
        let message = wrapped(message, |line| measure(line, SMALL) <= width);

        let mut lines = vec![("title", title)];
        lines.extend(standing.map(|standing| ("standing", standing)));
        lines.extend(message.into_iter().map(|line| ("about", line)));
        lines.push(("about", about.join(" · ")));
        Self { lines, width }
    }

    pub(super) fn height(&self) -> f64 {
        let lines = self.lines.iter().map(|_| LINE);
        lines.sum::<f64>() + LINE / 2.0
    }

    pub(super) fn drawn(&self, left: f64, top: f64) -> String {
        let mut drawn = String::new();
        let mut base = top - LINE / 4.0;
        for (class, line) in &self.lines {
            base += LINE;
            drawn.push_str(&text(class, (left, base), line));
        }
        drawn
    }
}

/// One thing that is explained.
enum Sample {
    Phase(Phase),
    /// A line; dashed or not.
    Line(bool),
    Words,
}

/// The legend of the signs and lines in the picture.
pub(super) struct Foot {
    items: Vec<(Sample, String)>,
}

/// How wide a sample is, and how far the next item is.
const SAMPLE: f64 = 34.0;
const GAP: f64 = 24.0;

impl Foot {
    pub(super) fn new(picture: &Picture, layout: &Layout) -> Self {
        let counts = picture.count().into_iter();
        let mut items: Vec<_> = counts
            .map(|(phase, count)| (Sample::Phase(phase), format!("{count} {}", phase.as_str())))
            .collect();
        let has = |is_when| layout.pieces.iter().any(|piece| piece.is_when == is_when);
        if has(false) {
            items.push((Sample::Line(false), "needs its success".to_owned()));
        }
        if has(true) {
            items.push((
                Sample::Line(true),
                "waits for it; its when decides".to_owned(),
            ));
        }
        if layout.implied > 0 {
            let what = counted(layout.implied, "line");
            let words = format!("not drawn: {what} that would follow from others");
            items.push((Sample::Words, words));
        }
        if layout.long > 0 {
            let what = counted(layout.long, "long line");
            items.push((
                Sample::Words,
                format!("not drawn: {what}; point at a step to read what it depends on"),
            ));
        }
        if !picture.removed.is_empty() {
            let removed = cut(&picture.removed.join(", "), LONGEST);
            items.push((Sample::Words, format!("no longer in the spec: {removed}")));
        }
        Self { items }
    }

    pub(super) fn least_width(&self) -> f64 {
        self.items.iter().map(width).fold(0.0, f64::max)
    }

    pub(super) fn height(&self, wide: f64) -> f64 {
        self.places(wide).last().map_or(0.0, |(_, y)| y + LINE)
    }

    pub(super) fn drawn(&self, left: f64, top: f64, wide: f64) -> String {
        let mut drawn = String::new();
        for ((sample, words), (x, y)) in self.items.iter().zip(self.places(wide)) {
            let (x, y) = (left + x, top + y);
            let (middle, base) = (y + LINE / 2.0, y + LINE / 2.0 + 4.0);
            match sample {
                Sample::Phase(phase) => {
                    let _ = write!(
                        drawn,
                        r#"<g class="{}"><rect class="box" x="{x:.1}" y="{:.1}" width="24" height="16" rx="4"/>"#,
                        phase.as_str(),
                        middle - 8.0
                    );
                    drawn.push_str(&text("number", (x + 12.0, base), sign(Some(*phase))));
                    drawn.push_str("</g>\n");
                }
                Sample::Line(is_when) => {
                    let class = if *is_when { "line dashed" } else { "line" };
                    let _ = writeln!(
                        drawn,
                        r#"<path class="{class}" d="M{x:.1} {middle:.1}h18"/>"#
                    );
                    drawn.push_str(&arrow((x + 26.0, middle)));
                }
                Sample::Words => {}
            }
            let indent = if matches!(sample, Sample::Words) {
                0.0
            } else {
                SAMPLE
            };
            drawn.push_str(&text("about", (x + indent, base), words));
        }
        drawn
    }

    /// Where each item is: one after the other, in as many lines as it takes.
    fn places(&self, wide: f64) -> Vec<(f64, f64)> {
        let (mut x, mut y) = (0.0, 0.0);
        let mut places = Vec::with_capacity(self.items.len());
        for item in &self.items {
            let own = width(item);
            if x > 0.0 && x + own > wide {
                (x, y) = (0.0, y + LINE);
            }
            places.push((x, y));
            x += own + GAP;
        }
        places
    }
}

fn width((sample, words): &(Sample, String)) -> f64 {
    let sample = if matches!(sample, Sample::Words) {
        0.0
    } else {
        SAMPLE
    };
    sample + measure(words, SMALL)
}
