//! How every text of a template is escaped: objects, Events and messages hold what others wrote.

use std::fmt::{self, Write};

use askama::filters::{Escaper, Html};
use operon_cli_model::printable;

/// HTML without markup from outside, and without characters that control or turn the text around them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Printable;

impl Escaper for Printable {
    fn write_escaped_str<W: Write>(&self, out: W, text: &str) -> fmt::Result {
        Html.write_escaped_str(out, &printable(text))
    }
}
