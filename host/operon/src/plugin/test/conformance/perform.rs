//! What a run does with an answer: its effects change the world, as far as nothing goes wrong, and what they must
//! never do is noted.

use std::sync::Arc;

use operon_core::action::{
    ActionError, Attributes, Failure, ObjectReference, Operation, OpsProgress, ProgressReport,
};

use super::{
    super::{
        shown::{named, words},
        world::World,
    },
    drive::{Call, Ended, Made, Run},
    state::first_change,
    twist::{Fate, Function, Mishap},
};

/// Refusals of effects that no API server would accept.
const WRONG: [&str; 2] = ["BadEffect", "BadSelector"];

impl Run<'_> {
    /// The number of the next call, and what it reads.
    pub(super) fn begin(
        &mut self,
        function: Function,
        place: usize,
        seen: &Arc<World>,
    ) -> (usize, Arc<World>) {
        let number = self.calls.len();
        let target = self.subject.targets.get(place);
        self.calls.push(Call {
            function,
            target: target.map_or_else(String::new, |state| state.name.clone()),
            effects: 0,
            round: self.rounds,
        });
        match self.mishap(number) {
            Some(Mishap::Before(fate)) => self.meet(place, fate),
            Some(Mishap::MadeDeleted) => {
                for made in self.made.clone() {
                    self.has_met |= self.stays(&made.object);
                    self.subject.world.delete(&made.object);
                }
            }
            Some(Mishap::Twice | Mishap::Killed(_) | Mishap::Conflict(_) | Mishap::AskedFirst) => {
                self.has_met = true;
                return (number, Arc::clone(seen));
            }
            None | Some(Mishap::Meanwhile(_) | Mishap::Touched) => {
                return (number, Arc::clone(seen));
            }
        }
        (number, self.subject.look())
    }

    pub(super) fn mishap(&self, number: usize) -> Option<Mishap> {
        let (call, mishap) = self.twist.mishap?;
        (call == number).then_some(mishap)
    }

    fn meet(&mut self, place: usize, fate: Fate) {
        let Some(name) = self.subject.targets.get(place).map(|state| &state.name) else {
            return;
        };
        let world = &mut self.subject.world;
        let before = world.pod(name);
        match fate {
            Fate::Missing => world.remove_pod(name),
            Fate::Terminating => {
                if before.as_ref().is_some_and(|pod| !pod.deleting) {
                    world.delete(&pod(name));
                }
            }
            Fate::Recreated => world.recreate_pod(name, &self.began),
        }
        self.has_met |= world.pod(name) != before;
    }

    /// Another client changes every object.
    fn touch(&mut self) {
        self.subject.world.touch();
        let uids = self.subject.world.objects();
        let uids = uids.filter_map(|object| object["metadata"]["uid"].as_str());
        self.touched = uids.map(str::to_owned).collect();
        self.has_met |= !self.touched.is_empty();
    }

    pub(super) fn extra_info(&self, place: usize) -> Attributes {
        let state = self.subject.targets.get(place);
        state.map_or_else(Default::default, |state| state.extra_info.clone())
    }

    pub(super) fn has_acted(&self, place: usize) -> bool {
        let state = self.subject.targets.get(place);
        state.is_some_and(|state| state.has_acted)
    }

    /// What the host knew before a call that it repeats.
    pub(super) fn restore(&mut self, place: usize, extra_info: Attributes, has_acted: bool) {
        if let Some(state) = self.subject.targets.get_mut(place) {
            state.extra_info = extra_info;
            state.has_acted = has_acted;
        }
    }

    /// Performs the effects of an answer, as far as nothing goes wrong.
    pub(super) fn perform(
        &mut self,
        number: usize,
        place: usize,
        answer: Result<Operation, ActionError>,
    ) -> Ended {
        let function = self.calls.get(number).map(|call| call.function);
        let mut operation = match answer {
            Ok(operation) => operation,
            Err(error) => {
                self.refuse(function, place, error);
                return Ended::Refused;
            }
        };
        if let Some(call) = self.calls.get_mut(number) {
            call.effects = operation.effects.len();
        }
        let mishap = self.mishap(number);
        match mishap {
            Some(Mishap::Meanwhile(fate)) => self.meet(place, fate),
            Some(Mishap::Touched) => self.touch(),
            Some(Mishap::Killed(performed) | Mishap::Conflict(performed)) => {
                operation.effects.truncate(performed);
            }
            None
            | Some(Mishap::Twice | Mishap::Before(_) | Mishap::MadeDeleted | Mishap::AskedFirst) => {
            }
        }
        let before = self.subject.world.clone();
        let target = self.subject.target(place, &before);
        let mut result = self.subject.world.perform(&operation, &target);
        self.check_writes(function, place, &before);
        if let (Ok(_), Some(Mishap::Conflict(_))) = (&result, mishap) {
            let message = "the object has been modified; please apply your changes to the latest version and try again";
            result = Err(Failure::new("Conflict", message));
        }
        if let Some(Mishap::Killed(_)) = mishap {
            return Ended::Killed;
        }
        let Some(state) = self.subject.targets.get_mut(place) else {
            return Ended::Done;
        };
        match result {
            Ok(is_changed) => {
                state.extra_info = operation.extra_info;
                state.recheck_after = None;
                state.is_refused = false;
                if function == Some(Function::Operate) {
                    state.acted(is_changed);
                }
                Ended::Done
            }
            Err(failure) => {
                if WRONG.contains(&failure.reason.as_str()) {
                    let Failure { reason, message } = &failure;
                    let name = function.map_or("", Function::name);
                    let fault = format!("{name} answers with a wrong effect: {reason}: {message}");
                    self.faults.push(fault);
                }
                state.failure = Some(failure);
                state.is_refused = true;
                state.has_acted = false;
                Ended::Refused
            }
        }
    }

    /// Finds what effects must not do: change another pod of the target's name, and create a second object beside
    /// the first.
    fn check_writes(&mut self, function: Option<Function>, place: usize, before: &World) {
        let Some(state) = self.subject.targets.get(place) else {
            return;
        };
        let function = function.map_or("", Function::name);
        let target = pod(&state.name);
        let (old, new) = (before.object(&target), self.subject.world.object(&target));
        let is_another =
            old.is_some_and(|old| old["metadata"]["uid"].as_str() != state.uid.as_deref());
        if let (Some(old), true, Some(_)) = (old, is_another, &state.uid)
            && let Some(change) = first_change(old, new)
        {
            let fault = format!(
                "{function} changes Pod {}, which is another pod of that name: {change}",
                state.name
            );
            self.faults.push(fault);
        }
        self.count_made(place, before);
    }

    /// Notes the objects that effects created, and how many of a kind there are at the same time.
    fn count_made(&mut self, place: usize, before: &World) {
        let objects = self.subject.world.objects().map(named);
        let new = objects.filter(|object| before.object(object).is_none());
        let new: Vec<_> = new.collect();
        for object in new {
            let kind = object.kind.clone();
            let target = place;
            let made = Made { target, object };
            // It may have been created before, and deleted since.
            self.made.retain(|known| *known != made);
            self.made.push(made);
            let stays = |made: &&Made| {
                made.target == place && made.object.kind == kind && self.stays(&made.object)
            };
            let names = self.made.iter().filter(stays);
            let names: Vec<_> = names.map(|made| made.object.name.clone()).collect();
            let most = self.most.entry((place, kind)).or_default();
            if names.len() > most.len() {
                *most = names;
            }
        }
    }

    /// Whether an object exists and is not being deleted.
    pub(super) fn stays(&self, object: &ObjectReference) -> bool {
        let found = self.subject.world.object(object);
        found.is_some_and(|object| object["metadata"]["deletionTimestamp"].is_null())
    }

    pub(super) fn reported(&mut self, place: usize, report: Result<ProgressReport, ActionError>) {
        let report = match report {
            Ok(report) => report,
            Err(error) => {
                self.refuse(Some(Function::Progress), place, error);
                return;
            }
        };
        let is_ending = self.subject.is_ending();
        let Some(state) = self.subject.targets.get_mut(place) else {
            return;
        };
        // Before a release only a success counts.
        if is_ending && report.progress != OpsProgress::Succeeded {
            return;
        }
        let ProgressReport {
            progress,
            failure,
            extra_info,
            recheck_after,
        } = report;
        state.progress = progress;
        state.failure = failure;
        state.extra_info = extra_info;
        state.recheck_after = recheck_after;
    }

    fn refuse(&mut self, function: Option<Function>, place: usize, error: ActionError) {
        if let ActionError::Plugin(_) = &error {
            let name = function.map_or("", Function::name);
            self.faults.push(format!("{name}: {}", words(&error)));
        }
        if let Some(state) = self.subject.targets.get_mut(place)
            && function != Some(Function::Release)
        {
            state.refuse(error);
        } else if let Some(state) = self.subject.targets.get_mut(place) {
            state.failure = Some(error.failure().clone());
            state.is_refused = false;
        }
    }
}

fn pod(name: &str) -> ObjectReference {
    ObjectReference {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        name: name.to_owned(),
    }
}
