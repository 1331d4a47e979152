//! The order of the nodes in each column, such that few lines cross: by barycentres, there and back
//! again. Pure.

use super::net::Net;

/// How often all columns are rearranged.
const SWEEPS: usize = 12;

/// Orders the columns of a net.
pub(super) fn arrange(net: &mut Net) {
    let mut place = vec![0; net.nodes.len()];
    let is_alone = is_alone(net);
    for nodes in &mut net.columns {
        nodes.sort_by_key(|node| is_alone[*node]);
    }
    note_all(net, &mut place);
    let mut best = (crossings(net, &place), net.columns.clone());
    for sweep in 0..SWEEPS {
        let columns = net.columns.len();
        for step in 1..columns {
            let (column, sides) = if sweep % 2 == 0 {
                (step, &net.before)
            } else {
                (columns - 1 - step, &net.after)
            };
            let nodes = &mut net.columns[column];
            sort(nodes, sides, &is_alone, &place);
            note(nodes, &mut place);
        }
        let crossings = crossings(net, &place);
        if crossings < best.0 {
            best = (crossings, net.columns.clone());
        }
        if best.0 == 0 {
            break;
        }
    }
    net.columns = best.1;
}

/// The nodes that no line leads to or from: they are beneath all others.
fn is_alone(net: &Net) -> Vec<bool> {
    let sides = net.before.iter().zip(&net.after);
    sides
        .map(|(before, after)| before.is_empty() && after.is_empty())
        .collect()
}

/// Orders a column by where the neighbours on one side are on average. What has none there stays about
/// where it is.
fn sort(nodes: &mut [usize], sides: &[Vec<usize>], is_alone: &[bool], place: &[usize]) {
    let mut keyed: Vec<_> = nodes
        .iter()
        .map(|node| {
            let neighbours = &sides[*node];
            let sum: usize = neighbours.iter().map(|n| place[*n]).sum();
            // In thousandths, so that equal means equal on every machine.
            let key = match neighbours.len() {
                0 if is_alone[*node] => usize::MAX,
                0 => place[*node] * 1000,
                many => sum * 1000 / many,
            };
            (key, place[*node], *node)
        })
        .collect();
    keyed.sort_unstable();
    for (slot, (_, _, node)) in nodes.iter_mut().zip(keyed) {
        *slot = node;
    }
}

fn note(nodes: &[usize], place: &mut [usize]) {
    for (at, node) in nodes.iter().enumerate() {
        place[*node] = at;
    }
}

fn note_all(net: &Net, place: &mut [usize]) {
    net.columns.iter().for_each(|nodes| note(nodes, place));
}

/// How often lines cross, in all gaps between columns.
pub(super) fn crossings(net: &Net, place: &[usize]) -> usize {
    let longest = net.columns.iter().map(Vec::len).max().unwrap_or(0);
    let columns = net.columns.iter();
    columns
        .map(|nodes| crossings_after(nodes, net, place, longest))
        .sum()
}

/// In the gap after a column: pairs of edges that begin in one order and end in the other, counted with
/// a Fenwick tree over the ends.
fn crossings_after(nodes: &[usize], net: &Net, place: &[usize], longest: usize) -> usize {
    let mut tree = vec![0; longest];
    let (mut crossings, mut added) = (0, 0);
    for node in nodes {
        let mut ends: Vec<_> = net.after[*node].iter().map(|end| place[*end] + 1).collect();
        ends.sort_unstable();
        for end in &ends {
            crossings += added - sum(&tree, *end);
        }
        for end in ends {
            add(&mut tree, end);
            added += 1;
        }
    }
    crossings
}

/// How many ends are at most at `at`.
fn sum(tree: &[usize], mut at: usize) -> usize {
    let mut sum = 0;
    while at > 0 {
        sum += tree[at - 1];
        at &= at - 1;
    }
    sum
}

fn add(tree: &mut [usize], mut at: usize) {
    while at <= tree.len() {
        tree[at - 1] += 1;
        at += at & at.wrapping_neg();
    }
}
