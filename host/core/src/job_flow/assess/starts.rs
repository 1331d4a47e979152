//! The due Jobs of a reconcile: of the steps that may continue, as many as may run.

use operon_api::job_flow::Phase;

use super::{Again, Pass, settle, wait};
use crate::{
    action::Failure,
    job_flow::{graph::FlowGraph, make, refused},
    jobs::{MadeJob, refused::a_few},
};

impl Pass<'_> {
    /// Chooses which of the Jobs that were refused are tried; after the writes it is known which were.
    pub(super) fn choose_tries(&mut self, ready: &[usize]) {
        let again = self.again.iter().filter(|again| again.refusal.is_some());
        let steps = &self.assessment.steps;
        let ready = ready.iter().copied();
        let ready = ready.filter(|place| refused::refusal(&steps[*place]).is_some());
        let refused: Vec<_> = again.map(|again| again.place).chain(ready).collect();
        self.tried = match self.made {
            None => a_few(&refused, self.observed.now).collect(),
            Some(made) => {
                let is_made = |place: &usize| made.contains_key(&steps[*place].name);
                refused.into_iter().filter(is_made).collect()
            }
        };
    }

    /// Leaves a refused step unchanged that is not tried in this reconcile.
    fn leave(&mut self, place: usize, phase: Phase, refusal: Failure) {
        self.block(place, phase, refusal);
        if let Some(made) = self.made {
            self.look_after(refused::recheck(made));
        }
    }

    /// Steps that run and have no Job that does: they have their place already.
    pub(super) fn start_again(&mut self, graph: &FlowGraph) {
        for again in std::mem::take(&mut self.again) {
            let Again {
                place,
                attempt,
                refusal,
            } = again;
            if let Some(refusal) = refusal.filter(|_| !self.tried.contains(&place)) {
                self.leave(place, Phase::Running, refusal);
                continue;
            }
            let hindrance = self.start(graph, place, attempt);
            if let Err(failure) | Ok(Some(failure)) = hindrance {
                self.block(place, Phase::Running, failure);
            }
        }
    }

    pub(super) fn start_ready(&mut self, graph: &FlowGraph, ready: Vec<usize>) {
        let mut free = if self.around.is_suspended {
            0
        } else {
            self.free_places()
        };
        for place in ready {
            if free == 0 {
                wait(&mut self.assessment.steps[place]);
                continue;
            }
            let step = &self.assessment.steps[place];
            let refusal = refused::refusal(step).filter(|_| !self.tried.contains(&place));
            if let Some(refusal) = refusal {
                self.leave(place, Phase::Blocked, refusal);
                continue;
            }
            let attempts = step.attempts.unwrap_or(0).max(0);
            match self.start(graph, place, attempts.saturating_add(1)) {
                Err(failure) => self.block(place, Phase::Blocked, failure),
                Ok(Some(failure)) => {
                    free -= 1;
                    self.block(place, Phase::Blocked, failure);
                }
                Ok(None) => {
                    free -= 1;
                    wait(&mut self.assessment.steps[place]);
                }
            }
        }
    }

    /// How many more steps may run.
    fn free_places(&self) -> usize {
        let all = self.assessment.steps.iter().chain(&self.assessment.orphans);
        let running = all.filter(|step| step.phase == Phase::Running).count();
        let most = self.observed.flow.spec.parallelism;
        let most = most.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(0).max(1));
        most.saturating_sub(running)
    }

    /// Marks a Job as due; returns why the API server refused it, if it did.
    ///
    /// # Errors
    /// Why no Job can be created.
    fn start(
        &mut self,
        graph: &FlowGraph,
        place: usize,
        attempt: i32,
    ) -> Result<Option<Failure>, Failure> {
        let steps = &self.assessment.steps;
        let step = &self.observed.flow.spec.flows[place];
        let start = make::start(self.observed, graph, step, attempt, steps)?;
        self.assessment.start.push(start);
        Ok(match self.made.and_then(|made| made.get(&step.name)) {
            Some(MadeJob::Refused(failure)) => Some(failure.clone()),
            Some(MadeJob::Job(_) | MadeJob::Leaving) | None => None,
        })
    }

    fn block(&mut self, place: usize, phase: Phase, failure: Failure) {
        let step = &mut self.assessment.steps[place];
        settle(step, phase, &failure);
        let name = step.name.clone();
        self.assessment.stalls.push((name, failure));
    }
}
