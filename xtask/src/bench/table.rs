//! A table of measures, as Markdown.

use std::fmt::Write as _;

/// Rows of a measure, its value, and what it should be.
#[derive(Debug, Default)]
pub(super) struct Table(Vec<[String; 3]>);

impl Table {
    /// Adds a measure without a goal.
    pub(super) fn row(&mut self, measure: impl Into<String>, value: impl Into<String>) {
        self.0.push([measure.into(), value.into(), String::new()]);
    }

    /// Adds a measure with a goal, and whether it is met.
    pub(super) fn goal(
        &mut self,
        measure: impl Into<String>,
        value: impl Into<String>,
        goal: &str,
        met: bool,
    ) {
        let verdict = if met { "met" } else { "**missed**" };
        self.0
            .push([measure.into(), value.into(), format!("{goal}: {verdict}")]);
    }

    /// The table as Markdown, its columns aligned for reading as text.
    pub(super) fn markdown(&self) -> String {
        let head = ["measure", "value", "goal"].map(str::to_owned);
        let rows = || std::iter::once(&head).chain(&self.0);
        let widths =
            [0, 1, 2].map(|column| rows().map(|row| width(row, column)).max().unwrap_or(0));
        let mut text = String::new();
        for (number, row) in rows().enumerate() {
            for (column, width) in widths.into_iter().enumerate() {
                let cell = row.get(column).map_or("", String::as_str);
                // Writing to a String cannot fail.
                let _ = write!(text, "| {cell:<width$} ");
            }
            text.push_str("|\n");
            if number == 0 {
                let lines = widths.map(|width| "-".repeat(width + 2));
                let _ = writeln!(text, "|{}|", lines.join("|"));
            }
        }
        text
    }
}

fn width(row: &[String; 3], column: usize) -> usize {
    row.get(column).map_or(0, |cell| cell.chars().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_markdown_with_aligned_columns() {
        let mut table = Table::default();
        table.row("time", "2 s");
        table.goal("writes per target", "3", "at most 3", true);
        let expected = "\
| measure           | value | goal           |
|-------------------|-------|----------------|
| time              | 2 s   |                |
| writes per target | 3     | at most 3: met |
";
        assert_eq!(table.markdown(), expected);
    }
}
