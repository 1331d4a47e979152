//! A JobFlow as a picture: [`flows`] reads flows from a text, [`pictures`] collects what is drawn of each, [`draw`] draws them.
//! An invalid flow is not drawn: the error is that of the controller.
//!
//! Everything here is pure: no I/O, no client, no clock.

mod arrange;
mod fields;
mod heights;
mod limits;
mod marks;
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

pub use self::{picture::Picture, source::flows, text::Terminal};

/// The kind of a drawing.
#[derive(Clone, Copy, Debug)]
pub enum Format {
    /// Text for a terminal, or for a file.
    Text(Terminal),
    /// An image.
    Svg,
}

/// The pictures of flows; running steps have run until `now`.
///
/// # Errors
/// Every flow that is invalid, each with its error.
pub fn pictures(flows: &[JobFlow], now: Timestamp) -> anyhow::Result<Vec<Picture>> {
    let (mut good, mut errors) = (Vec::new(), Vec::new());
    for flow in flows {
        match Picture::new(flow, now) {
            Ok(picture) => good.push(picture),
            Err(error) => errors.push(format!("{error:#}")),
        }
    }
    anyhow::ensure!(errors.is_empty(), errors.join("\n"));
    Ok(good)
}

/// All pictures as one text.
pub fn draw(pictures: &[Picture], format: Format) -> String {
    match format {
        Format::Text(terminal) => {
            let each = pictures.iter().map(|picture| text::draw(picture, terminal));
            each.collect::<Vec<_>>().join("\n")
        }
        Format::Svg => svg::draw(pictures),
    }
}
