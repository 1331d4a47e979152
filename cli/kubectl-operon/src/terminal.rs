//! Standard output: a terminal of some size that is drawn again in place, or a pipe that gets lines.

use std::io::{ErrorKind, IsTerminal as _, Write as _};

use anyhow::Context as _;
use operon_cli_model::{Screen, printable};
use rustix::termios::{Winsize, tcgetwinsize};

/// Standard output.
#[derive(Debug)]
pub(crate) struct Output {
    /// Whether it is a terminal; otherwise a file or a pipe.
    is_terminal: bool,
    /// Whether it is a terminal that can replace what it shows, and has colours.
    pub(crate) draws: bool,
    /// The last picture, which the next one replaces, and the size of the terminal when it was drawn.
    last: String,
    size: Option<(u16, u16)>,
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
        let is_terminal = std::io::stdout().is_terminal();
        let kind = std::env::var_os("TERM").unwrap_or_default();
        Self {
            is_terminal,
            draws: is_terminal && !kind.is_empty() && kind != "dumb",
            last: String::new(),
            size: None,
        }
    }

    /// What can be shown now: the size may change at any time.
    pub(crate) fn screen(&self) -> Screen {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Screen {
            columns: self.size().map(|(columns, _)| usize::from(columns)),
            lines: None,
            color: self.draws && !no_color,
        }
    }

    /// As [`Output::screen`], for a picture that must fit: the last line stays free for the cursor.
    pub(crate) fn screen_of_picture(&self) -> Screen {
        let rows = self.size().map(|(_, rows)| usize::from(rows));
        Screen {
            lines: rows.map(|rows| rows.saturating_sub(1)),
            ..self.screen()
        }
    }

    /// The columns and the rows of the terminal, if it says so.
    fn size(&self) -> Option<(u16, u16)> {
        let size = self.is_terminal.then(|| tcgetwinsize(std::io::stdout()));
        let Winsize { ws_col, ws_row, .. } = size?.ok()?;
        (ws_col > 0 && ws_row > 0).then_some((ws_col, ws_row))
    }

    /// Leaves the last picture as it is: something was written below it.
    pub(crate) fn keep(&mut self) {
        self.last.clear();
    }

    /// Replaces the last picture by this one, if it differs.
    pub(crate) fn redraw(&mut self, picture: &str) -> anyhow::Result<Reader> {
        if picture == self.last {
            return Ok(Reader::Reads);
        }
        let size = self.size();
        let begin = match self.last.lines().count() {
            0 => String::new(),
            // Where the lines of the last picture are by now depends on the terminal.
            _ if self.size != size => "\u{1b}[H\u{1b}[2J".to_owned(),
            // Up to the first line of the last picture, and clear everything from there.
            lines => format!("\u{1b}[{lines}A\r\u{1b}[J"),
        };
        let reader = print(&format!("{begin}{picture}"))?;
        picture.clone_into(&mut self.last);
        self.size = size;
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

/// Writes a line to standard output. No character in it can control the terminal.
pub(crate) fn say(line: &str) -> anyhow::Result<Reader> {
    print(&format!("{}\n", printable(line)))
}

/// Writes a line to standard error, likewise. A closed pipe is no reason to end differently.
pub(crate) fn complain(line: &str) {
    let _ = writeln!(std::io::stderr(), "{}", printable(line));
}
