//! Flows as a graph for Graphviz: one cluster for each flow. Pure.

use std::fmt::Write as _;

use super::{marks::color, picture::Picture};

/// All flows in one graph.
pub(super) fn draw(pictures: &[Picture]) -> String {
    let mut drawn = "digraph {\n  rankdir=LR\n  node [shape=box, style=rounded]\n".to_owned();
    for (flow, picture) in pictures.iter().enumerate() {
        let caption = escape(&picture.caption());
        let _ = writeln!(
            drawn,
            "  subgraph cluster_{flow} {{\n    label=\"{caption}\""
        );
        steps(&mut drawn, flow, picture);
        drawn.push_str("  }\n");
    }
    drawn.push_str("}\n");
    drawn
}

fn steps(drawn: &mut String, flow: usize, picture: &Picture) {
    for (place, step) in picture.steps.iter().enumerate() {
        let lines = picture.label(place);
        let lines: Vec<_> = lines.iter().map(|line| escape(line)).collect();
        let mut style = format!("label=\"{}\"", lines.join("\\n"));
        if let Some(phase) = step.phase {
            let _ = write!(style, ", color=\"{}\"", color(phase));
        }
        style.push_str(if picture.exit == Some(place) {
            ", peripheries=2"
        } else {
            ""
        });
        let _ = writeln!(drawn, "    f{flow}s{place} [{style}]");
    }
    for (from, to, is_when) in picture.edges() {
        let style = if is_when { " [style=dashed]" } else { "" };
        let _ = writeln!(drawn, "    f{flow}s{from} -> f{flow}s{to}{style}");
    }
    // An edge that is not drawn places the step that runs last on the right.
    if let (Some(exit), Some(last)) = (picture.exit, picture.last()) {
        let _ = writeln!(drawn, "    f{flow}s{last} -> f{flow}s{exit} [style=invis]");
    }
}

/// A text within quotes: Graphviz reads escapes and HTML entities in it.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '"' => escaped.push_str("\\\""),
            '\\' => escaped.push_str("\\\\"),
            '&' => escaped.push_str("&amp;"),
            other => escaped.push(other),
        }
    }
    escaped
}
