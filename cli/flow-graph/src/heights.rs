//! The vertical position of each node of a net: near its neighbours, apart from the nodes of its column,
//! with lines as level as possible. Pure; in pixels, downwards.

use super::{net::Net, place::Size};

/// The room between two boxes, and around a bend.
const BETWEEN_BOXES: f64 = 18.0;
const AROUND_BEND: f64 = 9.0;

/// How often the heights are adapted to those of the neighbours.
const SWEEPS: usize = 10;

/// How much more a bend is drawn to its neighbours than a box, and how much what has none.
const STRAIGHT: f64 = 4.0;
const WEAK: f64 = 0.01;

/// A smaller difference is a rounding error.
const TINY: f64 = 0.001;

/// The height of the middle of each node; the highest box begins at 0.
pub(super) fn heights(net: &Net, sizes: &[Size]) -> Vec<f64> {
    let offsets: Vec<Vec<f64>> = net
        .columns
        .iter()
        .map(|nodes| offsets(nodes, net, sizes))
        .collect();
    let mut heights = vec![0.0; net.nodes.len()];
    for (nodes, offsets) in net.columns.iter().zip(&offsets) {
        let middle = offsets.last().map_or(0.0, |last| last / 2.0);
        for (node, offset) in nodes.iter().zip(offsets) {
            heights[*node] = offset - middle;
        }
    }
    let columns = net.columns.len();
    let (before, after) = (&net.before, &net.after);
    for sweep in 0..SWEEPS {
        let is_forward = sweep % 2 == 0;
        let neighbours = match is_forward {
            _ if sweep + 2 >= SWEEPS => [Some(before), Some(after)],
            true => [Some(before), None],
            false => [None, Some(after)],
        };
        for step in 0..columns {
            let column = if is_forward { step } else { columns - 1 - step };
            let nodes = &net.columns[column];
            let wishes = wishes(nodes, net, neighbours, &heights);
            let settled = settle(&wishes, &offsets[column]);
            for (node, height) in nodes.iter().zip(settled) {
                heights[*node] = height;
            }
        }
    }
    straighten(net, &offsets, &mut heights);
    let placed = net.columns.iter().flatten();
    let top = placed
        .map(|node| heights[*node] - half(*node, sizes))
        .fold(f64::INFINITY, f64::min);
    heights.iter().map(|height| height - top).collect()
}

/// Half the height of a node; a bend has none.
fn half(node: usize, sizes: &[Size]) -> f64 {
    sizes.get(node).map_or(0.0, |size| size.height / 2.0)
}

/// How far below the first node of a column each may be at least.
fn offsets(nodes: &[usize], net: &Net, sizes: &[Size]) -> Vec<f64> {
    let mut offsets = Vec::with_capacity(nodes.len());
    let mut offset = 0.0;
    let mut above: Option<usize> = None;
    for node in nodes {
        if let Some(above) = above {
            let is_beside_bend = net.is_bend(above) || net.is_bend(*node);
            let gap = if is_beside_bend {
                AROUND_BEND
            } else {
                BETWEEN_BOXES
            };
            offset += half(above, sizes) + gap + half(*node, sizes);
        }
        offsets.push(offset);
        above = Some(*node);
    }
    offsets
}

/// The height that each node of a column would like, and how much: the median of its neighbours.
fn wishes(
    nodes: &[usize],
    net: &Net,
    sides: [Option<&Vec<Vec<usize>>>; 2],
    heights: &[f64],
) -> Vec<(f64, f64)> {
    let mut wishes: Vec<(f64, f64)> = Vec::with_capacity(nodes.len());
    for node in nodes {
        let neighbours = sides.into_iter().flatten().flat_map(|side| &side[*node]);
        let mut neighbours: Vec<_> = neighbours.map(|other| heights[*other]).collect();
        let is_alone = net.before[*node].is_empty() && net.after[*node].is_empty();
        wishes.push(match (median(&mut neighbours), wishes.last()) {
            (Some(median), _) => (median, if net.is_bend(*node) { STRAIGHT } else { 1.0 }),
            // A node without neighbours stays right below the node above it.
            (None, Some((above, _))) if is_alone => (*above, WEAK),
            (None, _) => (heights[*node], WEAK),
        });
    }
    wishes
}

fn median(heights: &mut [f64]) -> Option<f64> {
    heights.sort_unstable_by(f64::total_cmp);
    let last = heights.len().checked_sub(1)?;
    let (low, high) = (heights.get(last / 2)?, heights.get(heights.len() / 2)?);
    Some(f64::midpoint(*low, *high))
}

/// The heights next to the wishes, by least squares, at which everything is far enough apart: neighbours
/// that would be too close become a block that moves as one.
fn settle(wishes: &[(f64, f64)], offsets: &[f64]) -> Vec<f64> {
    struct Block {
        sum: f64,
        weight: f64,
        nodes: usize,
    }
    let mut blocks: Vec<Block> = Vec::with_capacity(wishes.len());
    for ((wish, weight), offset) in wishes.iter().zip(offsets) {
        let mut block = Block {
            sum: (wish - offset) * weight,
            weight: *weight,
            nodes: 1,
        };
        while let Some(above) =
            blocks.pop_if(|above| above.sum / above.weight > block.sum / block.weight)
        {
            block.sum += above.sum;
            block.weight += above.weight;
            block.nodes += above.nodes;
        }
        blocks.push(block);
    }
    let starts = blocks
        .iter()
        .flat_map(|block| std::iter::repeat_n(block.sum / block.weight, block.nodes));
    starts
        .zip(offsets)
        .map(|(start, offset)| start + offset)
        .collect()
}

/// Levels lines over as many columns as there is room for.
fn straighten(net: &Net, offsets: &[Vec<f64>], heights: &mut [f64]) {
    let mut seats = vec![(0, 0); net.nodes.len()];
    for (column, nodes) in net.columns.iter().enumerate() {
        for (seat, node) in nodes.iter().enumerate() {
            seats[*node] = (column, seat);
        }
    }
    for first in 0..net.nodes.len() {
        if !net.is_bend(first) || net.before[first].iter().any(|node| net.is_bend(*node)) {
            continue;
        }
        let line = line_of(first, net);
        let mut start = 0;
        while start < line.len() {
            let (mut low, mut high) = (f64::NEG_INFINITY, f64::INFINITY);
            let mut end = start;
            while let Some(node) = line.get(end) {
                let (top, bottom) = room(seats[*node], net, offsets, heights);
                if low.max(top) > high.min(bottom) + TINY {
                    break;
                }
                (low, high, end) = (low.max(top), high.min(bottom), end + 1);
            }
            if end == start {
                start += 1;
                continue;
            }
            let before = net.before[line[start]].first().copied();
            let wish = before.map_or(heights[line[start]], |before| heights[before]);
            for node in &line[start..end] {
                heights[*node] = wish.max(low).min(high);
            }
            start = end;
        }
    }
}

/// The bends of a line, from its first on.
fn line_of(first: usize, net: &Net) -> Vec<usize> {
    let following = |node: &usize| {
        let mut after = net.after[*node].iter();
        after.find(|node| net.is_bend(**node)).copied()
    };
    std::iter::successors(Some(first), following).collect()
}

/// Between which heights a node may be moved.
fn room(
    (column, seat): (usize, usize),
    net: &Net,
    offsets: &[Vec<f64>],
    heights: &[f64],
) -> (f64, f64) {
    let (nodes, offsets) = (&net.columns[column], &offsets[column]);
    let top = seat.checked_sub(1).map_or(f64::NEG_INFINITY, |above| {
        heights[nodes[above]] + offsets[seat] - offsets[above]
    });
    let bottom = nodes.get(seat + 1).map_or(f64::INFINITY, |below| {
        heights[*below] - (offsets[seat + 1] - offsets[seat])
    });
    (top, bottom)
}
