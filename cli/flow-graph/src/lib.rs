//! A JobFlow as a picture: [`Manifest`] reads flows from a text, [`pictures`] collects what is drawn of each, [`draw`] draws them.
//! An invalid flow is not drawn: the error is that of the controller.
//!
//! Everything here is pure: no I/O, no client, no clock.

mod arrange;
mod dot;
mod fields;
mod heights;
mod json;
mod limits;
mod marks;
mod mermaid;
mod net;
mod picture;
mod place;
mod source;
mod svg;
#[cfg(test)]
mod tests;
mod text;
mod yaml;

use k8s_openapi::jiff::Timestamp;
use operon_api::JobFlow;

pub use self::{picture::Picture, source::Manifest, text::Terminal};

/// The kind of a drawing.
#[derive(Clone, Copy, Debug)]
pub enum Format {
    /// Text for a terminal, or for a file.
    Text(Terminal),
    /// An image.
    Svg,
    /// A flowchart for Markdown.
    Mermaid,
    /// A graph for Graphviz.
    Dot,
    /// Layers and steps, for programs.
    Json,
}

/// The style of [`draw_unstyled`]: classes, and the element `text`.
pub const STYLE: &str = svg::STYLE;

/// The image of [`Format::Svg`] for a page that has [`STYLE`].
pub fn draw_unstyled(pictures: &[Picture]) -> String {
    svg::unstyled(pictures)
}

/// The pictures of flows; running steps have run until `now`.
///
/// # Errors
/// The error of every flow that is invalid.
pub fn pictures(flows: &[JobFlow], now: Timestamp) -> Result<Vec<Picture>, Vec<anyhow::Error>> {
    let (mut good, mut errors) = (Vec::new(), Vec::new());
    for flow in flows {
        match Picture::new(flow, now) {
            Ok(picture) => good.push(picture),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() {
        Ok(good)
    } else {
        Err(errors)
    }
}

/// All pictures as one text.
pub fn draw(pictures: &[Picture], format: Format) -> String {
    match format {
        Format::Text(terminal) => {
            let each = pictures.iter().map(|picture| text::draw(picture, terminal));
            each.collect::<Vec<_>>().join("\n")
        }
        Format::Svg => svg::draw(pictures),
        Format::Mermaid => mermaid::draw(pictures),
        Format::Dot => dot::draw(pictures),
        Format::Json => json::draw(pictures),
    }
}
