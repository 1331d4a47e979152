//! The steps of a flow in columns, and the lines between them: each goes from a column to the next.
//! Where a line passes a column, it has a bend there, for which room is made. Pure.

use super::picture::Picture;

/// From how many bends on lines are left out that follow from others: a → c beside a → b → c.
const MANY_BENDS: usize = 2_000;

/// How many bends there may be. The longest lines are left out until there are no more.
const MOST_BENDS: usize = 10_000;

/// Something that a column has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Step(usize),
    Bend,
}

/// From a node to one of the next column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Edge {
    pub(super) from: usize,
    pub(super) to: usize,
    /// The step that it leads to has a `when`.
    pub(super) is_when: bool,
}

/// Columns of nodes, and the edges between them.
#[derive(Debug, Default)]
pub(super) struct Net {
    /// The node of a step is at its place in the spec, bends come after them.
    pub(super) nodes: Vec<Node>,
    /// The nodes of each column, from top to bottom.
    pub(super) columns: Vec<Vec<usize>>,
    pub(super) edges: Vec<Edge>,
    /// The nodes before and after each node.
    pub(super) before: Vec<Vec<usize>>,
    pub(super) after: Vec<Vec<usize>>,
    /// How many dependencies are left out because they follow from others.
    pub(super) implied: usize,
    /// How many are left out because they are too long.
    pub(super) long: usize,
}

/// A dependency: `to` depends on `from`.
#[derive(Clone, Copy)]
struct Link {
    from: usize,
    to: usize,
    is_when: bool,
    /// How many columns it is long.
    span: usize,
}

impl Net {
    /// The net of a flow.
    pub(super) fn new(picture: &Picture) -> Self {
        let mut column_of = vec![0; picture.steps.len()];
        for (column, layer) in picture.layers.iter().enumerate() {
            for step in layer {
                column_of[*step] = column;
            }
        }
        let mut links = links(picture, &column_of);
        let mut net = Self {
            nodes: (0..picture.steps.len()).map(Node::Step).collect(),
            columns: picture.layers.clone(),
            ..Self::default()
        };
        let all = links.len();
        if bends(&links) > MANY_BENDS {
            links.retain(|link| !is_implied(picture, *link));
        }
        net.implied = all - links.len();
        let mut most = picture.layers.len();
        while bends(&links) > MOST_BENDS {
            most = most * 3 / 4;
            links.retain(|link| link.span <= most);
        }
        net.long = all - net.implied - links.len();
        net.connect(&links, &column_of);
        net
    }

    pub(super) fn is_bend(&self, node: usize) -> bool {
        self.nodes[node] == Node::Bend
    }

    /// All lines of one kind from one step share their bends.
    fn connect(&mut self, links: &[Link], column_of: &[usize]) {
        for line in links.chunk_by(|a, b| (a.from, a.is_when) == (b.from, b.is_when)) {
            let first = line[0];
            let longest = line.iter().map(|link| link.span).max().unwrap_or(1);
            // The points of the line in each column that it passes, from the step itself on.
            let mut trunk = vec![first.from];
            for column in (column_of[first.from]..).skip(1).take(longest - 1) {
                let bend = self.nodes.len();
                self.nodes.push(Node::Bend);
                self.columns[column].push(bend);
                self.edge(trunk[trunk.len() - 1], bend, first.is_when);
                trunk.push(bend);
            }
            for link in line {
                self.edge(trunk[link.span - 1], link.to, link.is_when);
            }
        }
        self.before = vec![Vec::new(); self.nodes.len()];
        self.after = vec![Vec::new(); self.nodes.len()];
        for edge in &self.edges {
            self.after[edge.from].push(edge.to);
            self.before[edge.to].push(edge.from);
        }
    }

    fn edge(&mut self, from: usize, to: usize, is_when: bool) {
        self.edges.push(Edge { from, to, is_when });
    }
}

/// All dependencies, those of one line beside each other.
fn links(picture: &Picture, column_of: &[usize]) -> Vec<Link> {
    let mut links = Vec::new();
    for (to, step) in picture.steps.iter().enumerate() {
        links.extend(step.dependencies.iter().map(|from| Link {
            from: *from,
            to,
            is_when: step.when.is_some(),
            span: column_of[to].saturating_sub(column_of[*from]).max(1),
        }));
    }
    links.sort_by_key(|link| (link.from, link.is_when, link.to));
    links
}

fn bends(links: &[Link]) -> usize {
    let each = links.chunk_by(|a, b| (a.from, a.is_when) == (b.from, b.is_when));
    each.filter_map(|line| line.iter().map(|link| link.span - 1).max())
        .sum()
}

/// Whether another dependency of the same step depends on this one.
fn is_implied(picture: &Picture, link: Link) -> bool {
    let mut others = picture.steps[link.to].dependencies.iter();
    others.any(|other| picture.is_before(link.from, *other))
}
