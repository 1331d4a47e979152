//! Lines from steps to those that depend on them, to be drawn beside a list of the steps. Pure.
//!
//! A step that something depends on has a lane: a vertical line from it down to the last that depends
//! on it. A step is joined to the lanes of all that it depends on by a horizontal line.

use crate::picture::Step;

/// The lines to the left and to the right of the sign of a step, and beneath it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Beside {
    pub(super) left: String,
    pub(super) right: String,
    pub(super) below: String,
}

impl Beside {
    /// How many columns it takes, with the sign.
    pub(super) fn width(&self) -> usize {
        self.left.chars().count() + 1 + self.right.chars().count()
    }
}

/// The lines beside each step; none if they take more than `most` lanes. `order` has each step after those
/// that it depends on.
pub(super) fn lanes(order: &[usize], steps: &[Step], most: usize) -> Option<Vec<Beside>> {
    let mut left_over = vec![0_usize; steps.len()];
    for dependency in steps.iter().flat_map(|step| &step.dependencies) {
        left_over[*dependency] += 1;
    }
    let mut lanes = Lanes {
        from: Vec::new(),
        left_over,
        ended: None,
    };
    order
        .iter()
        .map(|place| lanes.next(*place, &steps[*place], most))
        .collect()
}

struct Lanes {
    /// The step that each lane comes from.
    from: Vec<Option<usize>>,
    /// On how many dependents each step still waits.
    left_over: Vec<usize>,
    /// The lane of the step in the line above, if nothing depends on it: a step right beneath it would
    /// look as if it did.
    ended: Option<usize>,
}

/// How a lane and a horizontal line meet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Joint {
    Free,
    Passes,
    GoesOn,
    Ends,
}

impl Lanes {
    /// The next line, if it is not too wide: `step` is at `place` of the spec.
    fn next(&mut self, place: usize, step: &Step, most: usize) -> Option<Beside> {
        for dependency in &step.dependencies {
            self.left_over[*dependency] -= 1;
        }
        let joint = |lane: &Option<usize>| match lane {
            None => Joint::Free,
            Some(from) if !step.dependencies.contains(from) => Joint::Passes,
            Some(from) if self.left_over[*from] > 0 => Joint::GoesOn,
            Some(_) => Joint::Ends,
        };
        let mut joints: Vec<_> = self.from.iter().map(joint).collect();
        let own = self.own(&joints);
        if own == joints.len() {
            joints.push(Joint::Free);
            self.from.push(None);
        }
        for (from, joint) in self.from.iter_mut().zip(&joints) {
            if *joint == Joint::Ends {
                *from = None;
            }
        }
        let is_needed = self.left_over[place] > 0;
        self.from[own] = is_needed.then_some(place);
        self.ended = (!is_needed).then_some(own);
        let (left, right) = drawn(&joints, own, step.when.is_some());
        let below = self.below();
        while self.from.last() == Some(&None) && self.ended != Some(self.from.len() - 1) {
            self.from.pop();
        }
        (joints.len() <= most).then_some(Beside { left, right, below })
    }

    /// The lane that a step is in: one that ends at it, or the first that is free.
    fn own(&self, joints: &[Joint]) -> usize {
        let ends = joints.iter().position(|joint| *joint == Joint::Ends);
        ends.unwrap_or_else(|| {
            let all = joints.iter().enumerate();
            let mut free =
                all.filter(|(lane, joint)| **joint == Joint::Free && self.ended != Some(*lane));
            free.next().map_or(joints.len(), |(lane, _)| lane)
        })
    }

    fn below(&self) -> String {
        let lanes = self.from.iter();
        let lanes: String = lanes
            .map(|lane| if lane.is_some() { "│ " } else { "  " })
            .collect();
        lanes.trim_end().to_owned()
    }
}

fn drawn(joints: &[Joint], own: usize, is_dashed: bool) -> (String, String) {
    let is_met = |joint: Joint| joint == Joint::GoesOn || joint == Joint::Ends;
    let met = |lane: &usize| *lane == own || is_met(joints[*lane]);
    let first = (0..joints.len()).find(met).unwrap_or(own);
    let last = (0..joints.len()).rfind(met).unwrap_or(own);
    let line = if is_dashed { '╌' } else { '─' };
    let (mut left, mut right) = (String::new(), String::new());
    for (lane, joint) in joints.iter().enumerate() {
        let side = if lane <= own { &mut left } else { &mut right };
        if lane > 0 {
            side.push(if first < lane && lane <= last {
                line
            } else {
                ' '
            });
        }
        if lane == own {
            continue;
        }
        let is_within = first < lane && lane < last;
        side.push(match joint {
            Joint::Free if is_within => line,
            Joint::Free => ' ',
            Joint::Passes => '│',
            Joint::GoesOn if lane == first => '├',
            Joint::GoesOn if lane == last => '┤',
            Joint::GoesOn => '┼',
            Joint::Ends if lane == first => '╰',
            Joint::Ends if lane == last => '╯',
            Joint::Ends => '┴',
        });
    }
    right.truncate(right.trim_end().len());
    (left, right)
}
