//! The next status: what there is after the writes.

use std::time::Duration;

use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::Condition};
use kube::ResourceExt;
use operon_api::{
    colla_set::CollaSetStatus,
    conditions::{POD_DECORATIONS_NOT_APPLIED, Standing, condition, conditions, find},
    keys,
};

use super::{
    Seen, claim_wait,
    decoration::not_applied,
    in_place,
    named::{Named, unknown},
    new_pod::created,
    pair::{LABEL, Pairs},
    plan::Plan,
    pods::{Pods, is_available, is_ready, is_scheduled, revision},
    revision::Revisions,
    scale::is_scaling_in,
    selection::selector,
    update::{is_left_out, is_updating},
};
use crate::{
    action::{Failure, Severity},
    driver::{Asked, Class, Conclusion, Done, Event, Made, Refusal},
    jobs::{
        blocked::waits_for,
        text::{joined, short},
    },
    pod_lifecycle::rule,
};

/// As many pods as desired serve.
const AVAILABLE: &str = "Available";
/// There are as many pods as desired.
const SCALE: &str = "Scale";
/// All pods have the revision of the template.
const UPDATE: &str = "Update";

/// A pod cannot get the template in place though it must.
const IN_PLACE_IMPOSSIBLE: &str = "InPlaceImpossible";
/// A pod cannot be replaced.
const NAME_TOO_LONG: &str = "NameTooLong";

/// When what the API server refused for good is tried again: its rules may have changed.
const RETRY: Duration = Duration::from_mins(5);

/// How long a message may be.
const MESSAGE: usize = 1024;

/// Where a set stands in one respect: whether it is as desired, one CamelCase word, a sentence.
struct Verdict {
    is_met: bool,
    reason: &'static str,
    message: String,
}

impl Verdict {
    fn new(is_met: bool, reason: &'static str, message: String) -> Self {
        Self {
            is_met,
            reason,
            message,
        }
    }
}

/// The next status, and the Events that follow.
pub(super) fn conclude(
    seen: &Seen,
    plan: &Plan,
    done: &Done,
    asked: &Asked,
) -> Conclusion<CollaSetStatus> {
    let object = &*seen.object;
    let previous = object.status.clone().unwrap_or_default();
    let (pods, selector) = match (selector(object), &plan.end) {
        (_, Some(_)) => (Pods::owned(seen), previous.selector.clone()),
        (Ok(selector), None) => (Pods::of(seen, &selector), Some(selector.to_string())),
        (Err(_), None) => return stalled(seen, previous, plan),
    };
    let mut status = count(seen, &pods, selector, &previous);
    // A creation without an answer is repeated before others, so it is not passed over.
    if done.failure.is_some() {
        status.created_pods = previous.created_pods;
    }
    let refusal = refusal(done);
    let unbound = claim_wait::unbound(seen);
    let (available, scale) = (
        availability(
            seen,
            &pods,
            &status,
            unbound.as_ref().and_then(|wait| wait.said(asked)),
        ),
        scaling(seen, plan, &pods, refusal),
    );
    let update = updating(seen, plan, &pods, &status);
    let (standing, reason, message) = standing(seen, refusal, [&scale, &update, &available]);
    status.conditions = conditions(
        &previous.conditions,
        standing,
        &reason,
        &short(&message, MESSAGE),
        object.metadata.generation,
        seen.now,
    );
    let verdicts = [(AVAILABLE, available), (SCALE, scale), (UPDATE, update)];
    let more = verdicts.map(|(type_, verdict)| one(seen, &previous, type_, &verdict));
    status.conditions.extend(more);
    status.conditions.extend(not_applied(seen, &previous));
    let is_final = refusal.is_some_and(|refusal| refusal.class == Class::Invalid);
    Conclusion {
        events: events(&previous, &status, refusal, &pods),
        requeue_after: is_final
            .then_some(RETRY)
            .into_iter()
            .chain(plan.requeue_after)
            .chain(unbound.map(|wait| wait.recheck))
            .min(),
        status,
    }
}

fn one(seen: &Seen, previous: &CollaSetStatus, type_: &str, verdict: &Verdict) -> Condition {
    condition(
        &previous.conditions,
        type_,
        if verdict.is_met { "True" } else { "False" },
        verdict.reason,
        &short(&verdict.message, MESSAGE),
        seen.object.metadata.generation,
        seen.now,
    )
}

/// Nothing is done before the spec is changed; the counts stay as they were.
fn stalled(seen: &Seen, previous: CollaSetStatus, plan: &Plan) -> Conclusion<CollaSetStatus> {
    let generation = seen.object.metadata.generation;
    let Failure { reason, message } = plan
        .problem
        .clone()
        .unwrap_or_else(|| Failure::new("InvalidSelector", "spec.selector cannot be used"));
    let conditions = conditions(
        &previous.conditions,
        Standing::Stalled,
        &reason,
        &message,
        generation,
        seen.now,
    );
    let is_new = conditions.first().map(|ready| &ready.message)
        != previous.conditions.first().map(|ready| &ready.message);
    let event = Event {
        severity: Severity::Warning,
        reason: "InvalidSpec",
        message,
        related: None,
    };
    Conclusion {
        status: CollaSetStatus {
            observed_generation: generation,
            conditions,
            ..previous
        },
        events: is_new.then_some(event).into_iter().collect(),
        requeue_after: None,
    }
}

/// The counts and the revisions.
fn count(
    seen: &Seen,
    pods: &Pods<'_>,
    selector: Option<String>,
    previous: &CollaSetStatus,
) -> CollaSetStatus {
    let object = &*seen.object;
    let updated = Revisions::of(seen).updated.map(ResourceExt::name_any);
    // Without its revision the template is not observed yet.
    let observed = match updated {
        Some(_) => object.metadata.generation,
        None => previous.observed_generation,
    };
    let updated = updated.or_else(|| previous.updated_revision.clone());
    let is_updated = |pod: &Pod| updated.is_some() && revision(pod) == updated.as_deref();
    let count = |is: &dyn Fn(&Pod) -> bool| {
        let found = pods.active.iter().filter(|pod| is(pod)).count();
        i32::try_from(found).unwrap_or(i32::MAX)
    };
    let updated_ready_replicas = count(&|pod| is_updated(pod) && is_ready(pod));
    let known = previous.current_revision.clone();
    let is_current = updated_ready_replicas >= object.spec.replicas;
    CollaSetStatus {
        observed_generation: observed,
        current_revision: known.filter(|_| !is_current).or_else(|| updated.clone()),
        updated_revision: updated.clone(),
        selector,
        replicas: count(&|_| true),
        scheduled_replicas: count(&is_scheduled),
        ready_replicas: count(&is_ready),
        available_replicas: count(&is_available),
        updated_replicas: count(&is_updated),
        updated_ready_replicas,
        updated_available_replicas: count(&|pod| is_updated(pod) && is_available(pod)),
        operating_replicas: count(&|pod| is_scaling_in(pod) || is_updating(pod)),
        terminating_replicas: i32::try_from(pods.terminating.len()).unwrap_or(i32::MAX),
        created_pods: created(seen),
        conditions: Vec::new(),
    }
}

/// The first write that the API server refused.
fn refusal(done: &Done) -> Option<&Refusal> {
    let made = done.made.values().filter_map(|made| match made {
        Made::Refused(refusal) => Some(refusal),
        Made::There(_) | Made::Leaving => None,
    });
    made.chain(&done.refused).next()
}

fn availability(
    seen: &Seen,
    pods: &Pods<'_>,
    status: &CollaSetStatus,
    unbound: Option<String>,
) -> Verdict {
    let (desired, there) = (seen.object.spec.replicas, status.available_replicas);
    let message = format!("{there} of {desired} pods serve");
    if there >= desired {
        return Verdict::new(true, "PodsAvailable", message);
    }
    if let Some(unbound) = unbound {
        return Verdict::new(false, "PodsUnavailable", format!("{message}: {unbound}"));
    }
    let mut waiting = pods.active.iter().filter(|pod| !is_available(pod));
    let why = waiting.next().map(|pod| match rule::waits_for(pod) {
        Some(rules) => format!("pod {:?} waits for {rules}", pod.name_any()),
        None => waits_for(pod).map_or_else(
            || format!("pod {:?} is not in service yet", pod.name_any()),
            |blocked| blocked.message,
        ),
    });
    let message = why.map_or_else(|| message.clone(), |why| format!("{message}: {why}"));
    Verdict::new(false, "PodsUnavailable", message)
}

fn scaling(seen: &Seen, plan: &Plan, pods: &Pods<'_>, refusal: Option<&Refusal>) -> Verdict {
    let desired = seen.object.spec.replicas;
    let pairs = Pairs::of(pods);
    let counted = pods.active.iter().filter(|pod| !pairs.is_new(pod));
    let there = counted.count();
    let unknown = unknown(seen, pods).map(|unknown| format!(". {unknown}"));
    let unknown = unknown.unwrap_or_default();
    let counts = format!("{there} of {desired} pods exist");
    if let Some(refusal) = refusal {
        let message = format!("{counts}. {}: {}", refusal.reason, refusal.message);
        return Verdict::new(false, "RequestRefused", message);
    }
    if let Some(left) = plan.end.as_ref().and_then(|end| end.left.clone()) {
        return Verdict::new(false, "Deleting", left);
    }
    if let Some((pod, what)) = plan.scale_waits.first() {
        let message = format!("{counts}. Pod {pod:?} is to be removed and waits for {what}");
        return Verdict::new(false, "Waiting", message);
    }
    if let Some(name) = plan.held.first() {
        let message = format!(
            "{counts}. The next pod {name:?} is created when the pod that has this name is gone"
        );
        return Verdict::new(false, "Waiting", message);
    }
    if let Some((id, what)) = plan.claim_waits.first() {
        let message = format!("{counts}. The next pod with the instance id {id} waits for {what}");
        return Verdict::new(false, "Waiting", message);
    }
    let mut too_long = pairs.too_long.iter();
    if let Some(name) = too_long.next().map(|pod| pod.name_any()) {
        let message = format!(
            "{counts}. Pod {name:?} cannot be replaced by a new pod beside it: its name has {} characters, and the \
             label {} of the new pod has room for {LABEL}. Delete the pod instead",
            name.len(),
            keys::PAIR_ORIGIN_NAME
        );
        return Verdict::new(false, NAME_TOO_LONG, message);
    }
    let named = Named::of(&seen.object);
    let is_named = pods.active.iter().any(|pod| named.deletes(pod));
    let is_scaled = usize::try_from(desired).is_ok_and(|desired| desired == there) && !is_named;
    let reason = if is_scaled { "Scaled" } else { "Scaling" };
    Verdict::new(is_scaled, reason, counts + &unknown)
}

fn updating(seen: &Seen, plan: &Plan, pods: &Pods<'_>, status: &CollaSetStatus) -> Verdict {
    let updated = status.updated_revision.as_deref();
    let old = pods.active.iter().filter(|pod| revision(pod) != updated);
    let old = old.count();
    let is_under_way = |pod: &&&Pod| is_updating(pod) || in_place::waits_for_room(pod).is_some();
    let under_way = pods.active.iter().filter(is_under_way).count();
    let total = pods.active.len();
    let counts = format!(
        "{} of {total} pods have revision {:?}",
        total - old,
        updated.unwrap_or_default()
    );
    if let Some((pod, field)) = plan.impossible.first() {
        let message = format!(
            "{counts}. Pod {pod:?} cannot be updated in place, because the new revision differs in {field}, and \
             spec.updateStrategy.podUpgradePolicy is InPlaceOnly"
        );
        return Verdict::new(false, IN_PLACE_IMPOSSIBLE, message);
    }
    if let Some((pod, what)) = plan.update_waits.first() {
        let message = format!("{counts}. The update of pod {pod:?} waits for {what}");
        return Verdict::new(false, "Waiting", message);
    }
    let outdated = pods.active.iter().filter(|pod| revision(pod) != updated);
    let left_out = outdated
        .filter(|pod| is_left_out(&seen.object, pod))
        .count();
    if under_way == 0 && old > 0 && left_out == old {
        let message = format!(
            "{counts}; the others do not have the label {}",
            keys::UPDATE_INCLUDED
        );
        return Verdict::new(true, "LabelledUpdated", message);
    }
    match (under_way, old.min(seen.object.partition())) {
        (0, 0) if old == 0 => Verdict::new(true, "Updated", counts),
        (0, kept) if kept == old => {
            let message = format!("{counts}; the partition keeps {kept} at the previous revision");
            Verdict::new(true, "PartitionReached", message)
        }
        _ => Verdict::new(false, "Updating", counts),
    }
}

/// What kstatus reads.
fn standing(
    seen: &Seen,
    refusal: Option<&Refusal>,
    verdicts: [&Verdict; 3],
) -> (Standing, String, String) {
    let object = &*seen.object;
    if object.metadata.deletion_timestamp.is_some() {
        let [scale, ..] = verdicts;
        let message = format!("the CollaSet is being deleted: {}", scale.message);
        return (Standing::Reconciling, "Deleting".to_owned(), message);
    }
    let mut all_unmet = verdicts.into_iter().filter(|verdict| !verdict.is_met);
    let Some(unmet) = all_unmet.next() else {
        let message = format!("{} pods serve", object.spec.replicas);
        return (Standing::Ready, "Available".to_owned(), message);
    };
    let messages = [unmet].into_iter().chain(all_unmet);
    let message = joined(messages.map(|verdict| &verdict.message));
    if object.spec.paused == Some(true) {
        let message = format!("spec.paused is true: {message}");
        return (Standing::Reconciling, "Paused".to_owned(), message);
    }
    let is_final = refusal.is_some_and(|refusal| refusal.class == Class::Invalid);
    let is_stalled = is_final || [IN_PLACE_IMPOSSIBLE, NAME_TOO_LONG].contains(&unmet.reason);
    let standing = if is_stalled {
        Standing::Stalled
    } else {
        Standing::Reconciling
    };
    (standing, unmet.reason.to_owned(), message)
}

/// What became different.
fn events(
    previous: &CollaSetStatus,
    status: &CollaSetStatus,
    refusal: Option<&Refusal>,
    pods: &Pods<'_>,
) -> Vec<Event> {
    let event = |severity, reason, message| Event {
        severity,
        reason,
        message,
        related: None,
    };
    let mut events = Vec::new();
    let created = usize::try_from(status.created_pods - previous.created_pods).unwrap_or(0);
    if created > 0 {
        let new = pods.active.iter().rev().take(created.min(10));
        let names: Vec<_> = new.map(|pod| pod.name_any()).collect();
        let more = if created > names.len() {
            " and more"
        } else {
            ""
        };
        let message = format!("created {}{more}", names.join(", "));
        events.push(event(Severity::Normal, "PodsCreated", message));
    }
    let decorations = |status: &CollaSetStatus| {
        let found = find(&status.conditions, POD_DECORATIONS_NOT_APPLIED);
        found.map(|found| found.message.clone())
    };
    if let Some(message) = decorations(status).filter(|_| decorations(previous).is_none()) {
        events.push(event(
            Severity::Warning,
            POD_DECORATIONS_NOT_APPLIED,
            message,
        ));
    }
    let is_refused = |status: &CollaSetStatus| {
        let mut scale = status.conditions.iter().filter(|one| one.type_ == SCALE);
        scale.any(|one| one.reason == "RequestRefused")
    };
    if let Some(refusal) = refusal.filter(|_| !is_refused(previous)) {
        let message = format!("{}: {}", refusal.reason, refusal.message);
        events.push(event(Severity::Warning, "RequestRefused", message));
    }
    events
}
