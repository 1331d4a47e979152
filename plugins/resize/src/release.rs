//! What a release puts back: the resources that the job has written and that the container did not get.
//!
//! Another client's change stays. So does a request or a limit that the spec did not have before, because the API server
//! removes none from a pod that exists.

use operon_sdk::{Cluster, ContainerKind, Patch, ReadError, Target};

use crate::{
    amounts::{Amounts, ByContainer},
    plan, quantity,
    record::Record,
    seen::Seen,
};

/// The patch of a release, if something must be put back.
pub fn patch(target: &Target, cluster: &dyn Cluster) -> Result<Option<Patch>, ReadError> {
    let Some(pod) = target.pod.as_ref().filter(|pod| pod.live()) else {
        return Ok(None);
    };
    let Some(Record { asked, previous }) = Record::of(target) else {
        return Ok(None);
    };
    let object = cluster.get(&pod.reference())?.unwrap_or_default();
    let seen = Seen::new(pod, &object);
    let mut back = ByContainer::new();
    for (name, asked) in &asked {
        let can = pod.container(name).is_some_and(|container| {
            matches!(
                container.kind,
                ContainerKind::Ordinary | ContainerKind::Sidecar
            )
        });
        let has_it = seen
            .reported(name)
            .is_some_and(|reported| reported.meet(asked));
        let Some(previous) = previous.get(name).filter(|_| can && !has_it) else {
            continue;
        };
        let amounts = to_put_back(&seen.written(name), asked, previous);
        if !amounts.is_empty() {
            back.insert(name.clone(), amounts);
        }
    }
    Ok((!back.is_empty()).then(|| plan::patch(&seen, &back)))
}

/// The previous requests and limits of a container that the spec has as the job wrote them.
fn to_put_back(written: &Amounts, asked: &Amounts, previous: &Amounts) -> Amounts {
    previous.filtered(|kind, resource, amount| {
        let is_ours = |kind| {
            let both = written.get(kind, resource).zip(asked.get(kind, resource));
            both.is_some_and(|(found, asked)| quantity::is_same(resource, found, asked))
        };
        let is_changed = written
            .get(kind, resource)
            .is_some_and(|found| !quantity::is_same(resource, found, amount));
        // The API server refuses a limit that is lower than the request, also if one of them stays.
        let staying = |kind| {
            let stays = previous.get(kind, resource).is_none() || !is_ours(kind);
            written.get(kind, resource).filter(|_| stays)
        };
        let is_refused = match kind {
            "requests" => {
                staying("limits").is_some_and(|limit| quantity::is_larger(resource, amount, limit))
            }
            _ => staying("requests")
                .is_some_and(|request| quantity::is_larger(resource, request, amount)),
        };
        is_ours(kind) && is_changed && !is_refused
    })
}
