//! Flows as an image: the layers are columns from left to right, with lines from each step to those
//! that depend on it; several flows are beneath each other. Pure.
//!
//! The image has a background of its own, so it is readable on any page; states differ by word and sign,
//! not by colour alone; there is no script, no font and no link in it.

mod caption;
mod parts;

use std::fmt::Write as _;

use self::{
    caption::{Foot, Head},
    parts::{Content, arrow, escape, line, text},
};
use super::{
    marks::width,
    picture::Picture,
    place::{Area, Layout, Size, place},
};

/// The edge of the image.
const MARGIN: f64 = 24.0;

/// The room for the numbers of the layers.
const NUMBERS: f64 = 26.0;

/// The room between the last layer and the step that runs last.
const BEFORE_EXIT: f64 = 72.0;

/// The room between two flows.
const BETWEEN_FLOWS: f64 = 16.0;

/// The style: colours of light pages, on a background of its own.
pub(super) const STYLE: &str = include_str!("svg/style.css");

/// All flows in one image.
pub(super) fn draw(pictures: &[Picture]) -> String {
    image(pictures, &format!("<style>\n{STYLE}</style>\n"))
}

/// The same with a style that is elsewhere: pages forbid styles inside of their markup.
pub(super) fn unstyled(pictures: &[Picture]) -> String {
    image(pictures, "")
}

fn image(pictures: &[Picture], style: &str) -> String {
    let mut body = String::new();
    let (mut wide, mut high) = (0.0_f64, 0.0_f64);
    for (number, picture) in pictures.iter().enumerate() {
        high += if number > 0 { BETWEEN_FLOWS } else { 0.0 };
        let (drawn, size) = flow(picture);
        let _ = writeln!(body, r#"<g transform="translate(0 {high:.0})">"#);
        body.push_str(&drawn);
        body.push_str("</g>\n");
        wide = wide.max(size.width);
        high += size.height;
    }
    let titles: Vec<_> = pictures
        .iter()
        .map(|picture| escape(&picture.title()))
        .collect();
    let titles = titles.join(", ");
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="{wide:.0}" height="{high:.0}" viewBox="0 0 {wide:.0} {high:.0}" role="img">
<title>{titles}</title>
{style}<rect class="page" width="{wide:.0}" height="{high:.0}"/>
{body}</svg>
"#
    )
}

/// One flow, and how large it is.
fn flow(picture: &Picture) -> (String, Size) {
    let contents: Vec<_> = picture.steps.iter().map(Content::new).collect();
    let sizes: Vec<_> = contents.iter().map(Content::size).collect();
    let mut layout = place(picture, &sizes);
    let exit = picture.exit.map(|step| exit(&mut layout, sizes[step]));
    let foot = Foot::new(picture, &layout);
    let head = Head::new(picture, layout.width.max(foot.least_width()));
    let inner = head.width;
    let top = MARGIN + head.height() + NUMBERS;
    let foot_top = top + layout.height + MARGIN;

    let mut drawn = head.drawn(MARGIN, MARGIN);
    let _ = writeln!(drawn, r#"<g transform="translate({MARGIN:.0} {top:.0})">"#);
    numbers(&mut drawn, &layout);
    lines(&mut drawn, &layout);
    for (place, content) in contents.iter().enumerate() {
        match exit {
            Some(area) if picture.exit == Some(place) => {
                ending(&mut drawn, &layout, area);
                drawn.push_str(&content.drawn(picture, place, area));
            }
            _ => drawn.push_str(&content.drawn(picture, place, layout.boxes[place])),
        }
    }
    drawn.push_str("</g>\n");
    drawn.push_str(&foot.drawn(MARGIN, foot_top, inner));
    let size = Size {
        width: inner + 2.0 * MARGIN,
        height: foot_top + foot.height(inner) + MARGIN,
    };
    (drawn, size)
}

/// Makes room for the step that runs last: to the right of everything, half way down.
fn exit(layout: &mut Layout, size: Size) -> Area {
    let x = if layout.columns.is_empty() {
        0.0
    } else {
        layout.width + BEFORE_EXIT
    };
    layout.width = x + size.width;
    layout.height = layout.height.max(size.height);
    Area {
        x,
        y: (layout.height - size.height) / 2.0,
        width: size.width,
        height: size.height,
    }
}

/// What parts the step that runs last from all others.
fn ending(drawn: &mut String, layout: &Layout, area: Area) {
    let middle = area.x + area.width / 2.0;
    drawn.push_str(&text("number", (middle, -12.0), "on exit"));
    if !layout.columns.is_empty() {
        let (x, bottom) = (area.x - BEFORE_EXIT / 2.0, layout.height);
        let _ = writeln!(
            drawn,
            r#"<path class="parting" d="M{x:.0} -20V{bottom:.0}"/>"#
        );
    }
}

/// The number of each layer, above it.
fn numbers(drawn: &mut String, layout: &Layout) {
    for (number, (x, width)) in layout.columns.iter().enumerate() {
        let label = (number + 1).to_string();
        drawn.push_str(&text("number", (x + width / 2.0, -12.0), &label));
    }
}

fn lines(drawn: &mut String, layout: &Layout) {
    for piece in &layout.pieces {
        drawn.push_str(&line(*piece));
    }
    for piece in layout.pieces.iter().filter(|piece| piece.is_last) {
        drawn.push_str(&arrow(piece.to));
    }
}

/// How wide a text of letters of this size is at most: all letters are of one width, and programs that
/// put them on whole pixels make them wider.
fn measure(text: &str, size: f64) -> f64 {
    const LETTER: f64 = 0.64;
    let columns = u32::try_from(width(text)).unwrap_or(u32::MAX);
    f64::from(columns) * size * LETTER
}
