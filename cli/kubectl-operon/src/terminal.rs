//! Standard output: a terminal of some size that is drawn again in place, or a pipe that gets lines.

use std::io::{ErrorKind, IsTerminal as _, Write as _};

use anyhow::Context as _;
use operon_cli_model::Screen;

/// Standard output.
#[derive(Debug)]
pub(crate) struct Output {
    /// Whether it is one; otherwise a file or a pipe.
    pub(crate) is_terminal: bool,
    /// How many lines the last picture has, which the next one replaces.
    drawn: usize,
    last: String,
}

/// The reader of standard output has seen enough (`| head`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// It reads on.
    Reads,
    /// It does not.
    Gone,
}

impl Output {
    pub(crate) fn stdout() -> Self {
        Self {
            is_terminal: std::io::stdout().is_terminal(),
            drawn: 0,
            last: String::new(),
        }
    }

    /// What can be shown now: the size may change at any time.
    pub(crate) fn screen(&self) -> Screen {
        if !self.is_terminal {
            return Screen::default();
        }
        let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok();
        let size = size.filter(|size| size.ws_col > 0 && size.ws_row > 0);
        let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|kind| kind == "dumb");
        Screen {
            columns: size.map(|size| usize::from(size.ws_col)),
            lines: None,
            color: !is_set("NO_COLOR") && !is_dumb,
        }
    }

    /// As [`Output::screen`], for a picture that must fit: the last line stays free for the cursor.
    pub(crate) fn screen_of_picture(&self) -> Screen {
        let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok();
        let rows = size
            .map(|size| usize::from(size.ws_row))
            .filter(|rows| *rows > 0);
        Screen {
            lines: rows.map(|rows| rows.saturating_sub(1)),
            ..self.screen()
        }
    }

    /// Replaces the last picture by this one, if it differs.
    pub(crate) fn redraw(&mut self, picture: &str) -> anyhow::Result<Reader> {
        if picture == self.last {
            return Ok(Reader::Reads);
        }
        // Up to the first line of the last picture, and clear everything from there.
        let up = if self.drawn > 0 {
            format!("\u{1b}[{}A", self.drawn)
        } else {
            String::new()
        };
        let reader = print(&format!("{up}\r\u{1b}[J{picture}"))?;
        self.drawn = picture.lines().count();
        picture.clone_into(&mut self.last);
        Ok(reader)
    }
}

/// Writes to standard output.
pub(crate) fn print(text: &str) -> anyhow::Result<Reader> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes());
    match written.and_then(|()| stdout.flush()) {
        Ok(()) => Ok(Reader::Reads),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(error).context("failed to write to standard output"),
    }
}
