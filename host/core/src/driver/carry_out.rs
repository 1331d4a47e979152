//! Carries out the writes of a plan: batch after batch, and side by side within one.

use futures::{StreamExt as _, stream};
use serde_json::{Value, json};

use super::{Batch, Claim, Class, Done, Kind, Made, Needs, Port, Refusal, Start, Write};
use crate::action::{Effect, ObjectReference, PatchKind};

/// How many writes of one object run at the same time.
const SIDE_BY_SIDE: usize = 16;

/// Carries out batches in their order.
pub(super) async fn carry_out<K: Kind>(
    port: &impl Port<K>,
    seen: &K::Seen,
    batches: Vec<Batch>,
) -> Done {
    let mut done = Done::default();
    for Batch { writes, needs } in batches {
        if needs == Needs::Previous && !done.is_all_done() {
            continue;
        }
        let writing: Vec<_> = writes
            .iter()
            .map(|write| one::<K>(port, seen, write))
            .collect();
        let written: Vec<_> = stream::iter(writing).buffered(SIDE_BY_SIDE).collect().await;
        for (write, result) in writes.into_iter().zip(written) {
            done.note(write, result);
        }
        done.is_cut_short |= needs == Needs::Previous && done.failure.is_some();
    }
    done
}

impl Done {
    /// Whether every write so far was carried out.
    fn is_all_done(&self) -> bool {
        let mut made = self.made.values();
        let is_there = made.all(|made| matches!(made, Made::There(_)));
        is_there && self.refused.is_empty() && self.failure.is_none()
    }

    fn note(&mut self, write: Write, result: Result<Option<Made>, Refusal>) {
        match (write, result) {
            (Write::Make(start), Ok(Some(made))) => {
                self.made.insert(start.subject, made);
            }
            (_, Ok(_)) => {}
            (Write::Make(start), Err(refusal)) if refusal.is_refused() => {
                self.made.insert(start.subject, Made::Refused(refusal));
            }
            (Write::Do(_), Err(refusal)) if refusal.is_refused() => self.refused.push(refusal),
            (Write::Make(_) | Write::Do(_), Err(failure)) => {
                self.failure.get_or_insert(failure);
            }
        }
    }
}

async fn one<K: Kind>(
    port: &impl Port<K>,
    seen: &K::Seen,
    write: &Write,
) -> Result<Option<Made>, Refusal> {
    match write {
        Write::Make(start) => make(port, seen, start).await.map(Some),
        Write::Do(effect) => match port.perform(effect).await {
            Err(refusal) if refusal.class == Class::Gone => Ok(None),
            result => result.map(|_| None),
        },
    }
}

/// Creates an object under the first of its names that no other object has, or finds that it exists
/// already: the answer to the request that created it may have been lost.
async fn make<K: Kind>(
    port: &impl Port<K>,
    seen: &K::Seen,
    start: &Start,
) -> Result<Made, Refusal> {
    for name in &start.names {
        let object = start.reference(name);
        let known = port.known(&object);
        // An object that is being deleted is not read repeatedly.
        if known.is_some_and(|known| K::claim(seen, start, &known) == Claim::Leaving) {
            return Ok(Made::Leaving);
        }
        let create = Effect::Create(start.named(name));
        let refusal = match port.perform(&create).await {
            Ok(made) => return Ok(Made::There(made)),
            // Without an answer the object may exist: no other object must be created until that is known.
            Err(refusal) if matches!(refusal.class, Class::Exists | Class::Unavailable) => refusal,
            Err(refusal) => return Err(refusal),
        };
        let found = match port.get(&object).await {
            // It was deleted in between, or not created: the next reconcile creates it.
            Err(gone) if gone.class == Class::Gone => return Err(refusal),
            found => found?,
        };
        match K::claim(seen, start, &found) {
            Claim::Mine => return Ok(Made::There(found)),
            Claim::Adopt(patch) => {
                let adopted = port.perform(&adoption(object, &found, patch)).await?;
                return Ok(Made::There(adopted));
            }
            Claim::Others => {}
            Claim::Leaving => return Ok(Made::Leaving),
        }
    }
    Ok(Made::Refused(Refusal::names_taken(start)))
}

/// The patch that takes over another operator's object, if its version is unchanged.
fn adoption(object: ObjectReference, found: &Value, patch: Value) -> Effect {
    let text = |pointer: &str| found.pointer(pointer).and_then(Value::as_str);
    Effect::Patch {
        object,
        subresource: None,
        kind: PatchKind::Merge,
        body: patch,
        uid: text("/metadata/uid").map(str::to_owned),
        resource_version: text("/metadata/resourceVersion").map(str::to_owned),
    }
}

impl Start {
    fn reference(&self, name: &str) -> ObjectReference {
        let text = |key: &str| self.body[key].as_str().unwrap_or_default().to_owned();
        ObjectReference {
            api_version: text("apiVersion"),
            kind: text("kind"),
            name: name.to_owned(),
        }
    }

    fn named(&self, name: &str) -> Value {
        let mut body = self.body.clone();
        body["metadata"]["name"] = json!(name);
        body
    }
}
