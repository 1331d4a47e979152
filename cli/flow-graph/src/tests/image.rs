//! The picture as an image.

use super::*;
use crate::svg::draw;

#[test]
fn an_image_is_the_same_every_time() {
    let all = || draw(&any_flows().map(|flow| picture(&flow)).collect::<Vec<_>>());
    assert_eq!(all(), all());
}

#[test]
fn all_text_is_escaped() {
    let name = "<script>&\"'\u{0}\u{fffe}";
    let mut flow = failed();
    flow.metadata.name = Some(name.to_owned());
    flow.metadata.namespace = Some(name.to_owned());
    for step in &mut flow.spec.flows {
        if step.name == "deploy" {
            step.name = name.to_owned();
        }
    }
    flow.spec.flows[1].when = Some("1 < 2 && \"]]>\" != '<!--'".to_owned());
    let status = flow.status.as_mut().expect("a status");
    status.progress = Some(name.to_owned());
    status.conditions[0].message = name.to_owned();
    for step in &mut status.steps {
        step.reason = Some(name.to_owned());
        step.message = Some(name.to_owned());
    }
    let image = draw(&[picture(&flow)]);
    assert!(image.contains("&lt;script&gt;&amp;&quot;&#39;<"), "{image}");
    well_formed(&image);
}

#[test]
fn images_are_well_formed_and_show_every_step() {
    for flow in any_flows().chain([failed()]) {
        let image = draw(&[picture(&flow)]);
        well_formed(&image);
        for step in &flow.spec.flows {
            let shown = format!("● {}</text>", step.name);
            let told = format!("<title>{}\n", step.name);
            let told_alone = format!("<title>{}</title>", step.name);
            assert!(
                image.contains(&told) || image.contains(&told_alone),
                "{shown}"
            );
        }
        assert!(!image.contains("NaN") && !image.contains("inf"), "{image}");
    }
}

#[test]
fn a_state_is_told_by_a_word_and_a_sign() {
    let image = draw(&[picture(&failed())]);
    for part in [
        ">✗ test</text>",
        ">Failed · 3m5s · ×2</text>",
        ">BackoffLimitExceeded</text>",
        ">Running · 1m30s</text>",
        ">on exit</text>",
        "class=\"line dashed\"",
        ">no longer in the spec: lint (Cancelled)</text>",
    ] {
        assert!(image.contains(part), "{part}\n{image}");
    }
}

#[test]
fn several_flows_are_beneath_each_other_in_one_image() {
    let image = draw(&[picture(&failed()), picture(&flow(&[("a", &[])]))]);
    assert_eq!(image.matches("<svg ").count(), 1);
    assert!(image.contains("JobFlow ci/example, JobFlow example"));
    well_formed(&image);
}

/// Checks what XML asks of this image: tags that fit together, and no stray `<` or `&`.
fn well_formed(image: &str) {
    let mut open = Vec::new();
    for part in image.split('<').skip(1) {
        let (tag, text) = part.split_once('>').expect("a tag ends");
        assert!(!text.contains('>'), "{part}");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "{part}");
        } else if !tag.ends_with('/') {
            open.push(tag.split(' ').next().expect("a name"));
        }
        assert_eq!(tag.matches('"').count() % 2, 0, "{part}");
        for entity in part.split('&').skip(1) {
            let known = ["amp;", "lt;", "gt;", "quot;", "#39;"];
            assert!(
                known.iter().any(|known| entity.starts_with(known)),
                "{part}"
            );
        }
        assert!(
            !part.contains(|c: char| c.is_control() && c != '\n'),
            "{part:?}"
        );
    }
    assert_eq!(open, Vec::<&str>::new());
}
