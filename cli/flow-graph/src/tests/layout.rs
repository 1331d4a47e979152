//! Where boxes and lines are.

use std::collections::HashSet;

use super::*;
use crate::{
    arrange::{arrange, crossings},
    net::{Net, Node},
    place::{Area, Layout, Size, place},
};

/// Boxes of different sizes.
fn sizes(picture: &Picture) -> Vec<Size> {
    let heights = [30.0, 46.0, 78.0];
    let steps = picture.steps.iter().enumerate();
    steps
        .map(|(place, step)| Size {
            width: if step.when.is_some() { 200.0 } else { 90.0 },
            height: heights[place % 3],
        })
        .collect()
}

/// Layouts of many flows, with the steps that are in a layer.
fn layouts() -> impl Iterator<Item = (Picture, Layout)> {
    any_flows().map(|flow| {
        let picture = picture(&flow);
        let layout = place(&picture, &sizes(&picture));
        (picture, layout)
    })
}

fn boxes(picture: &Picture, layout: &Layout) -> Vec<Area> {
    let steps = picture.layers.iter().flatten();
    steps.map(|step| layout.boxes[*step]).collect()
}

#[test]
fn no_line_goes_backwards() {
    for (picture, layout) in layouts() {
        for (place, step) in picture.steps.iter().enumerate() {
            for dependency in &step.dependencies {
                let (from, to) = (layout.boxes[*dependency], layout.boxes[place]);
                assert!(from.x + from.width < to.x, "{from:?} {to:?}");
            }
        }
        for piece in &layout.pieces {
            assert!(
                piece.start <= piece.from.0 && piece.from.0 < piece.to.0,
                "{piece:?}"
            );
        }
    }
}

#[test]
fn boxes_do_not_overlap_and_are_within_the_picture() {
    for (picture, layout) in layouts() {
        let boxes = boxes(&picture, &layout);
        for (place, one) in boxes.iter().enumerate() {
            assert!(one.x >= 0.0 && one.y >= -0.001, "{one:?}");
            assert!(one.x + one.width <= layout.width + 0.001, "{one:?}");
            assert!(one.y + one.height <= layout.height + 0.001, "{one:?}");
            for other in &boxes[place + 1..] {
                let beside = one.x + one.width < other.x || other.x + other.width < one.x;
                let apart = |a: &Area, b: &Area| a.y + a.height + 1.0 < b.y;
                assert!(
                    beside || apart(one, other) || apart(other, one),
                    "{one:?} {other:?}"
                );
            }
        }
    }
}

#[test]
fn no_line_runs_through_a_box() {
    for (picture, layout) in layouts() {
        let boxes = boxes(&picture, &layout);
        for piece in &layout.pieces {
            // A level piece passes a column, beside all its boxes.
            let (left, right) = (piece.start, piece.from.0);
            for area in boxes
                .iter()
                .filter(|area| left < area.x + area.width && area.x < right)
            {
                let y = piece.from.1;
                assert!(
                    y < area.y - 1.0 || area.y + area.height + 1.0 < y,
                    "{piece:?} {area:?}"
                );
            }
            // A curved piece stays between its ends, where no column is.
            for (x, width) in &layout.columns {
                let is_beside = piece.to.0 <= *x || x + width <= piece.from.0;
                assert!(is_beside, "{piece:?} {x} {width}");
            }
        }
    }
}

#[test]
fn lines_lead_from_each_step_to_exactly_those_that_depend_on_it() {
    for (picture, _) in layouts() {
        let net = Net::new(&picture);
        let mut found = HashSet::new();
        for edge in &net.edges {
            let Node::Step(from) = net.nodes[edge.from] else {
                continue;
            };
            let mut ends = vec![edge.to];
            while let Some(node) = ends.pop() {
                match net.nodes[node] {
                    Node::Step(to) => {
                        assert_eq!(edge.is_when, picture.steps[to].when.is_some());
                        found.insert((from, to));
                    }
                    Node::Bend => ends.extend(&net.after[node]),
                }
            }
        }
        let steps = picture.steps.iter().enumerate();
        let expected: HashSet<_> = steps
            .flat_map(|(to, step)| step.dependencies.iter().map(move |from| (*from, to)))
            .collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn columns_are_ordered_so_that_lines_cross_less() {
    let (mut before, mut after) = (0, 0);
    for flow in any_flows() {
        let mut net = Net::new(&picture(&flow));
        let counted = crossings_one_by_one(&net);
        before += counted;
        arrange(&mut net);
        let left = crossings_one_by_one(&net);
        assert!(left <= counted, "{left} > {counted}");
        after += left;
    }
    assert!(after * 2 < before, "{after} of {before} crossings are left");
}

#[test]
fn lines_that_need_not_cross_do_not() {
    let flow = flow(&[
        ("a", &[]),
        ("b", &[]),
        ("c", &[]),
        ("of-c", &["c"]),
        ("of-b", &["b"]),
        ("of-a", &["a"]),
    ]);
    let mut net = Net::new(&picture(&flow));
    assert_eq!(crossings_one_by_one(&net), 3);
    arrange(&mut net);
    assert_eq!(crossings_one_by_one(&net), 0);
}

/// Crossings by looking at every two edges, which is what the tree must count too.
fn crossings_one_by_one(net: &Net) -> usize {
    let mut place = vec![(0, 0); net.nodes.len()];
    for (column, nodes) in net.columns.iter().enumerate() {
        for (at, node) in nodes.iter().enumerate() {
            place[*node] = (column, at);
        }
    }
    let mut count = 0;
    for (number, one) in net.edges.iter().enumerate() {
        for other in &net.edges[number + 1..] {
            let ((gap, a), (other_gap, b)) = (place[one.from], place[other.from]);
            let ((_, c), (_, d)) = (place[one.to], place[other.to]);
            let is_crossed = (a < b && c > d) || (a > b && c < d);
            count += usize::from(gap == other_gap && is_crossed);
        }
    }
    let rows: Vec<_> = place.iter().map(|(_, at)| *at).collect();
    assert_eq!(crossings(net, &rows), count);
    count
}

#[test]
fn a_line_that_nothing_is_in_the_way_of_is_straight() {
    let flow = flow(&[("a", &[]), ("b", &["a"]), ("c", &["b"]), ("d", &["c"])]);
    let picture = picture(&flow);
    let layout = place(
        &picture,
        &[Size {
            width: 90.0,
            height: 30.0,
        }; 4],
    );
    for piece in &layout.pieces {
        assert!((piece.from.1 - piece.to.1).abs() < 0.5, "{piece:?}");
    }
}

#[test]
fn of_too_many_lines_those_are_left_out_that_follow_from_others() {
    let names: Vec<_> = (0..300).map(|step| format!("step-{step}")).collect();
    let steps: Vec<(_, Vec<_>)> = (0..300)
        .map(|step| {
            let first = usize::saturating_sub(step, 40);
            (
                names[step].as_str(),
                names[first..step].iter().map(String::as_str).collect(),
            )
        })
        .collect();
    let steps: Vec<_> = steps
        .iter()
        .map(|(name, d)| (*name, d.as_slice()))
        .collect();
    let net = Net::new(&picture(&flow(&steps)));
    assert_eq!(net.edges.len(), 299);
    assert_eq!(net.long, 0);
    assert!(net.implied > 10_000, "{}", net.implied);
}

#[test]
fn of_too_many_bends_the_longest_lines_are_left_out() {
    // A chain, and beside it steps that one of the chain needs each.
    let names: Vec<_> = (0..500)
        .flat_map(|n| [format!("chain-{n}"), format!("side-{n}")])
        .collect();
    let dependencies: Vec<Vec<&str>> = (0..1000)
        .map(|place| match place {
            _ if place % 2 == 1 || place == 0 => Vec::new(),
            _ => vec![names[place - 2].as_str(), names[place - 1].as_str()],
        })
        .collect();
    let steps = names.iter().zip(&dependencies);
    let steps: Vec<_> = steps
        .map(|(name, d)| (name.as_str(), d.as_slice()))
        .collect();
    let net = Net::new(&picture(&flow(&steps)));
    assert!(net.long > 0);
    assert!(net.nodes.len() < 12_000, "{}", net.nodes.len());
}
