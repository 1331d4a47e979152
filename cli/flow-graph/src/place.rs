//! Where everything is: boxes in columns, lines that bend around them. Pure; in pixels, y downwards.
//!
//! The columns do not overlap, and a line is level while it passes one, at a height where there is no
//! box. Between columns there are only lines. So no line runs through a box.

use super::{
    arrange::arrange,
    heights::heights,
    net::{Edge, Net, Node},
    picture::Picture,
};

/// The room between two columns: more, the steeper the lines between them.
const NARROWEST: f64 = 56.0;
const WIDEST: f64 = 180.0;

/// The size of a box.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Size {
    pub(super) width: f64,
    pub(super) height: f64,
}

/// A box, by its corner at the top left.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Area {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// A piece of a line: level from `start` to `from`, then curved to `to`. A level piece passes a column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Piece {
    pub(super) start: f64,
    pub(super) from: (f64, f64),
    pub(super) to: (f64, f64),
    pub(super) is_when: bool,
    /// It ends at a box.
    pub(super) is_last: bool,
}

/// All of a picture but the step that runs last.
#[derive(Debug, Default)]
pub(super) struct Layout {
    /// The box of each step.
    pub(super) boxes: Vec<Area>,
    pub(super) pieces: Vec<Piece>,
    /// Left end and width of each column.
    pub(super) columns: Vec<(f64, f64)>,
    pub(super) width: f64,
    pub(super) height: f64,
    /// See [`Net`].
    pub(super) implied: usize,
    pub(super) long: usize,
}

/// Places the boxes of a flow, which have these sizes.
pub(super) fn place(picture: &Picture, sizes: &[Size]) -> Layout {
    let mut net = Net::new(picture);
    arrange(&mut net);
    let heights = heights(&net, sizes);
    let columns = columns(&net, sizes, &heights);
    let mut layout = Layout {
        boxes: vec![Area::default(); sizes.len()],
        pieces: Vec::with_capacity(net.edges.len()),
        width: columns.last().map_or(0.0, |(x, width)| x + width),
        implied: net.implied,
        long: net.long,
        columns,
        ..Layout::default()
    };
    let mut ends = vec![(0.0, 0.0); net.nodes.len()];
    for (nodes, (x, width)) in net.columns.iter().zip(&layout.columns) {
        for node in nodes {
            ends[*node] = (*x, x + width);
            if let Node::Step(step) = net.nodes[*node] {
                let height = sizes[step].height;
                let (width, y) = (*width, heights[*node] - height / 2.0);
                layout.boxes[step] = Area {
                    x: *x,
                    y,
                    width,
                    height,
                };
                layout.height = layout.height.max(y + height);
            }
            layout.height = layout.height.max(heights[*node]);
        }
    }
    let piece = |edge: &Edge| piece(*edge, &net, &ends, &heights);
    layout.pieces.extend(net.edges.iter().map(piece));
    layout
}

fn piece(edge: Edge, net: &Net, ends: &[(f64, f64)], heights: &[f64]) -> Piece {
    let (left, right) = ends[edge.from];
    let is_bend = net.nodes[edge.from] == Node::Bend;
    Piece {
        start: if is_bend { left } else { right },
        from: (right, heights[edge.from]),
        to: (ends[edge.to].0, heights[edge.to]),
        is_when: edge.is_when,
        is_last: net.nodes[edge.to] != Node::Bend,
    }
}

/// Left end and width of each column.
fn columns(net: &Net, sizes: &[Size], heights: &[f64]) -> Vec<(f64, f64)> {
    let mut x = 0.0;
    let mut columns = Vec::with_capacity(net.columns.len());
    for nodes in &net.columns {
        let widths = nodes.iter().filter_map(|node| sizes.get(*node));
        let width = widths.map(|size| size.width).fold(0.0, f64::max);
        columns.push((x, width));
        let climb = |node: &usize| {
            let ends = net.after[*node].iter();
            ends.map(|end| (heights[*end] - heights[*node]).abs())
                .fold(0.0, f64::max)
        };
        let steepest = nodes.iter().map(climb).fold(0.0, f64::max);
        x += width + (NARROWEST + steepest / 8.0).min(WIDEST);
    }
    columns
}
