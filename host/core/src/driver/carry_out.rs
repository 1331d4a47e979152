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
            found => found.map_err(Refusal::of_read)?,
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

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use kube::core::Status;

    use super::*;
    use crate::{
        colla_set::{Driven, Seen},
        driver::{Asked, Conclusion, Next, Question, StatusWrite},
    };

    /// A world in which no creation is answered, and reads are refused with this code.
    struct Unanswered(u16);

    impl Port<Driven> for Unanswered {
        fn seen(&self) -> Option<Seen> {
            None
        }

        fn seen_again(&self, before: Seen) -> Seen {
            before
        }

        fn known(&self, _object: &ObjectReference) -> Option<Value> {
            None
        }

        async fn get(&self, _object: &ObjectReference) -> Result<Value, Refusal> {
            let status = Status::failure("no", "InternalError").with_code(self.0);
            Err(Refusal::answered("failed to get Pod shop/a", &status))
        }

        async fn perform(&self, _effect: &Effect) -> Result<Value, Refusal> {
            Err(Refusal::unanswered("Timeout", "no answer".to_owned()))
        }

        async fn ask(&self, _question: &Question) -> Asked {
            Asked::default()
        }

        fn status_write(&self) -> StatusWrite<<Driven as Kind>::Status> {
            StatusWrite::None
        }

        fn report(&self, _: &Seen, _: Conclusion<<Driven as Kind>::Status>) -> Next {
            Next::default()
        }
    }

    #[test]
    fn a_creation_without_an_answer_is_no_refusal_although_the_object_cannot_be_read() {
        let object = json!({"metadata": {}, "spec": {"selector": {}, "template": {}}});
        let seen = Seen {
            object: std::sync::Arc::new(serde_json::from_value(object).expect("a CollaSet")),
            pods: Vec::new(),
            revisions: Vec::new(),
            claims: Vec::new(),
            can_resize: true,
            context: None,
            mates: std::collections::BTreeSet::new(),
            decorations: Vec::new(),
            now: k8s_openapi::jiff::Timestamp::UNIX_EPOCH,
        };
        let start = Start {
            subject: "1".to_owned(),
            names: vec!["a".to_owned()],
            body: json!({"apiVersion": "v1", "kind": "Pod"}),
        };
        for (code, is_refused) in [(500, false), (503, false), (403, true)] {
            let batch = Batch::independent([Write::Make(start.clone())]);
            let port = Unanswered(code);
            let done = carry_out::<Driven>(&port, &seen, vec![batch]);
            let done = done.now_or_never().expect("nothing waits");
            assert_eq!(done.failure.is_none(), is_refused, "{code}");
            assert_eq!(done.made.is_empty(), !is_refused, "{code}");
        }
    }
}
