//! Orders of the steps of a flow, each step after its dependencies; or the cycle that prevents such an
//! order.

use std::collections::VecDeque;

/// From how many steps the shortest cycle is searched.
const CYCLE_SEARCHES: usize = 100;

/// Kahn's algorithm; none if there is a cycle.
pub(super) fn order(dependencies: &[Vec<usize>], dependents: &[Vec<usize>]) -> Option<Vec<usize>> {
    let order = peel(dependencies, dependents);
    (order.len() == dependencies.len()).then_some(order)
}

/// Takes away again and again what waits for nothing.
fn peel(waits_for: &[Vec<usize>], holds_up: &[Vec<usize>]) -> Vec<usize> {
    let mut left: Vec<_> = waits_for.iter().map(Vec::len).collect();
    let mut order: Vec<_> = (0..left.len()).filter(|step| left[*step] == 0).collect();
    let mut next = 0;
    while let Some(step) = order.get(next).copied() {
        next += 1;
        for other in &holds_up[step] {
            left[*other] -= 1;
            if left[*other] == 0 {
                order.push(*other);
            }
        }
    }
    order
}

/// A cycle that is there, the shortest through one of the first steps that are in one: each step depends
/// on the next, the last is the first again.
pub(super) fn cycle(dependencies: &[Vec<usize>], dependents: &[Vec<usize>]) -> Vec<usize> {
    let mut is_left = vec![true; dependencies.len()];
    let ahead = peel(dependencies, dependents);
    for step in ahead.into_iter().chain(peel(dependents, dependencies)) {
        is_left[step] = false;
    }
    let starts = (0..is_left.len()).filter(|step| is_left[*step]);
    let cycles = starts
        .take(CYCLE_SEARCHES)
        .filter_map(|start| cycle_through(start, dependencies, &is_left));
    cycles.min_by_key(Vec::len).unwrap_or_default()
}

/// The shortest way from a step to itself.
fn cycle_through(start: usize, edges: &[Vec<usize>], is_left: &[bool]) -> Option<Vec<usize>> {
    let mut came_from = vec![None; edges.len()];
    let mut queue = VecDeque::from([start]);
    while let Some(step) = queue.pop_front() {
        for next in edges[step].iter().copied().filter(|next| is_left[*next]) {
            if next == start {
                let mut path = vec![start];
                let mut at = step;
                while at != start {
                    path.push(at);
                    at = came_from[at]?;
                }
                path.push(start);
                path.reverse();
                return Some(path);
            }
            if came_from[next].is_none() {
                came_from[next] = Some(step);
                queue.push_back(next);
            }
        }
    }
    None
}

/// A set of steps.
#[derive(Clone, Debug)]
pub(super) struct Places(Vec<u64>);

impl Places {
    pub(super) fn has(&self, place: usize) -> bool {
        let word = self.0.get(place / 64);
        word.is_some_and(|word| word >> (place % 64) & 1 == 1)
    }

    pub(super) fn count(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }
}

pub(super) fn ancestors(order: &[usize], dependencies: &[Vec<usize>]) -> Vec<Places> {
    let none = Places(vec![0; order.len().div_ceil(64)]);
    let mut ancestors = vec![none.clone(); order.len()];
    for step in order {
        let mut own = none.clone();
        for dependency in &dependencies[*step] {
            let theirs = &ancestors[*dependency].0;
            own.0.iter_mut().zip(theirs).for_each(|(a, b)| *a |= b);
            own.0[dependency / 64] |= 1 << (dependency % 64);
        }
        ancestors[*step] = own;
    }
    ancestors
}
