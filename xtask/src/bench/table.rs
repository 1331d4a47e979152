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
        let head = ["measure", "value", "goal"].map(str::to_owned).to_vec();
        let rows = self.0.iter().map(|row| row.to_vec());
        markdown(&std::iter::once(head).chain(rows).collect::<Vec<_>>())
    }

    /// Tables of the same measures as one, with a column for each; the goals are those of all.
    pub(super) fn side_by_side(tables: &[(String, Self)]) -> String {
        let names = tables.iter().map(|(name, _)| name.clone());
        let mut rows = vec![cells("measure", names, "goal")];
        let measures = tables.first().map_or(0, |(_, table)| table.0.len());
        for place in 0..measures {
            let row = tables.iter().filter_map(|(_, table)| table.0.get(place));
            let mut goals: Vec<&str> = row.clone().map(|[_, _, goal]| goal.as_str()).collect();
            goals.dedup();
            let measure = row.clone().next().map_or("", |[measure, ..]| measure);
            let values = row.map(|[_, value, _]| value.clone());
            rows.push(cells(measure, values, &goals.join("; ")));
        }
        markdown(&rows)
    }
}

fn cells(first: &str, values: impl Iterator<Item = String>, last: &str) -> Vec<String> {
    let first = std::iter::once(first.to_owned());
    let last = std::iter::once(last.to_owned());
    first.chain(values).chain(last).collect()
}

/// Rows as Markdown, the first of them as the head.
fn markdown(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        for (cell, width) in row.iter().zip(&widths) {
            // Writing to a String cannot fail.
            let _ = write!(text, "| {cell:<width$} ");
        }
        text.push_str("|\n");
        if number == 0 {
            let lines: Vec<_> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
            let _ = writeln!(text, "|{}|", lines.join("|"));
        }
    }
    text
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

    #[test]
    fn tables_of_the_same_measures_are_one_with_a_column_for_each() {
        let table = |time: &str, writes: u32| {
            let mut table = Table::default();
            table.row("time", time);
            table.goal("writes", writes.to_string(), "at most 3", writes <= 3);
            table
        };
        let tables = [
            ("500".to_owned(), table("2 s", 3)),
            ("1000".to_owned(), table("4 s", 4)),
        ];
        let expected = "\
| measure | 500 | 1000 | goal                                  |
|---------|-----|------|---------------------------------------|
| time    | 2 s | 4 s  |                                       |
| writes  | 3   | 4    | at most 3: met; at most 3: **missed** |
";
        assert_eq!(Table::side_by_side(&tables), expected);
    }
}
