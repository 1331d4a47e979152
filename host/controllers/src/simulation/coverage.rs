//! What schedules covered.

use std::fmt;

/// What schedules covered.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Coverage {
    pub(crate) schedules: usize,
    pub(crate) reconciles: usize,
    pub(crate) writes: usize,
    pub(crate) deaths: usize,
    pub(crate) failures: usize,
    pub(crate) lost_answers: usize,
    pub(crate) effects: usize,
}

impl Coverage {
    pub(crate) fn add(&mut self, other: &Self) {
        self.schedules += other.schedules;
        self.reconciles += other.reconciles;
        self.writes += other.writes;
        self.deaths += other.deaths;
        self.failures += other.failures;
        self.lost_answers += other.lost_answers;
        self.effects += other.effects;
    }

    /// Whether all that may go wrong did.
    pub(crate) fn is_whole(&self) -> bool {
        let faults = [self.deaths, self.failures, self.lost_answers];
        faults.iter().all(|count| *count > 0)
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            schedules,
            reconciles,
            writes,
            deaths,
            failures,
            lost_answers,
            effects,
        } = self;
        write!(
            out,
            "{schedules} schedules, {reconciles} reconciles, {writes} write points, {effects} effects, \
             {deaths} deaths, {failures} failed requests, {lost_answers} lost answers"
        )
    }
}
