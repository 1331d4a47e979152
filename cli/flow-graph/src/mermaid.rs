//! Flows as a Mermaid flowchart, for Markdown: one subgraph for each flow. Pure.

use std::fmt::Write as _;

use operon_api::job_flow::Phase;

use super::{
    marks::color,
    picture::{PHASES, Picture},
};

/// All flows in one flowchart.
pub(super) fn draw(pictures: &[Picture]) -> String {
    let mut drawn = "flowchart LR\n".to_owned();
    for (flow, picture) in pictures.iter().enumerate() {
        let caption = escape(&picture.caption());
        let _ = writeln!(drawn, "  subgraph f{flow}[\"{caption}\"]");
        steps(&mut drawn, flow, picture);
        drawn.push_str("  end\n");
    }
    styles(&mut drawn, pictures);
    drawn
}

fn steps(drawn: &mut String, flow: usize, picture: &Picture) {
    for place in 0..picture.steps.len() {
        let is_exit = picture.exit == Some(place);
        let (open, close) = if is_exit { ("([", "])") } else { ("[", "]") };
        let lines = picture.label(place);
        let lines: Vec<_> = lines.iter().map(|line| escape(line)).collect();
        let _ = writeln!(
            drawn,
            "    f{flow}s{place}{open}\"{}\"{close}",
            lines.join("<br>")
        );
    }
    for (from, to, is_when) in picture.edges() {
        let arrow = if is_when { "-.->" } else { "-->" };
        let _ = writeln!(drawn, "    f{flow}s{from} {arrow} f{flow}s{to}");
    }
    // A link that is not drawn places the step that runs last on the right.
    if let (Some(exit), Some(last)) = (picture.exit, picture.last()) {
        let _ = writeln!(drawn, "    f{flow}s{last} ~~~ f{flow}s{exit}");
    }
}

/// The frames of the steps by their phase. The phase is in the text too, so it is readable without colours.
fn styles(drawn: &mut String, pictures: &[Picture]) {
    for phase in PHASES {
        let mut nodes = Vec::new();
        for (flow, picture) in pictures.iter().enumerate() {
            let steps = picture.steps.iter().enumerate();
            let steps = steps.filter(|(_, step)| step.phase == Some(phase));
            nodes.extend(steps.map(|(place, _)| format!("f{flow}s{place}")));
        }
        if !nodes.is_empty() {
            let name = phase.as_str();
            let _ = writeln!(drawn, "  classDef {name} {}", style(phase));
            let _ = writeln!(drawn, "  class {} {name}", nodes.join(","));
        }
    }
}

fn style(phase: Phase) -> String {
    let dashes = match phase {
        Phase::Skipped | Phase::Cancelled => ",stroke-dasharray:4 3",
        Phase::Waiting | Phase::Blocked | Phase::Running | Phase::Succeeded | Phase::Failed => "",
    };
    format!("stroke:{},stroke-width:2px{dashes}", color(phase))
}

/// A text within quotes. Everything that Mermaid or HTML could read as syntax becomes a numeric entity.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        if !letter.is_ascii() || letter.is_ascii_alphanumeric() || " -.,/".contains(letter) {
            escaped.push(letter);
        } else {
            let _ = write!(escaped, "#{};", u32::from(letter));
        }
    }
    escaped
}
