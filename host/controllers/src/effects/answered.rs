//! Whether the answer to a write is about the object that was asked for. Only then may a cache have it: an answer can
//! come from somewhere else than the API server's storage, for example through an aggregated API.

use kube::core::DynamicObject;
use operon_core::action::ObjectReference;
use serde_json::Value;

use super::Performed;

/// The object that a request is about.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) namespace: &'a str,
    pub(super) object: &'a ObjectReference,
    uid: Option<&'a str>,
}

impl<'a> Asked<'a> {
    /// This object; none: any uid.
    pub(super) fn new(
        namespace: &'a str,
        object: &'a ObjectReference,
        uid: Option<&'a str>,
    ) -> Self {
        Self {
            namespace,
            object,
            uid,
        }
    }

    /// The object that this body describes.
    pub(super) fn about(namespace: &'a str, object: &'a ObjectReference, body: &'a Value) -> Self {
        Self::new(namespace, object, body["metadata"]["uid"].as_str())
    }

    /// Whether an answer is this object.
    pub(super) fn is(&self, answer: &DynamicObject) -> bool {
        let Self {
            namespace,
            object,
            uid,
        } = self;
        let types = answer.types.as_ref();
        let metadata = &answer.metadata;
        types.is_none_or(|types| {
            types.api_version == object.api_version && types.kind == object.kind
        }) && metadata.namespace.as_deref() == Some(*namespace)
            && metadata.name.as_deref() == Some(object.name.as_str())
            && uid.is_none_or(|uid| metadata.uid.as_deref() == Some(uid))
    }

    /// What a write left behind, if its answer is this object.
    pub(super) fn performed(&self, answer: DynamicObject) -> Performed {
        if self.is(&answer) {
            return Performed::Object(Box::new(answer));
        }
        let Self {
            namespace, object, ..
        } = self;
        tracing::debug!(
            object = super::named(namespace, object),
            "the answer to a write is about something else"
        );
        Performed::Nothing
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_object_that_was_asked_for_is_an_answer_for_a_cache() {
        let object = ObjectReference {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            name: "web-0".to_owned(),
        };
        for (uid, changed, value, is_answer) in [
            (Some("u1"), "name", "web-0", true),
            (None, "uid", "u2", true),
            (Some("u1"), "uid", "u2", false),
            (Some("u1"), "name", "web-1", false),
            (Some("u1"), "namespace", "other", false),
            (None, "namespace", "other", false),
        ] {
            let mut answer = json!({"apiVersion": "v1", "kind": "Pod",
                "metadata": {"namespace": "shop", "name": "web-0", "uid": "u1"}});
            answer["metadata"][changed] = value.into();
            let answer: DynamicObject = serde_json::from_value(answer).expect("an object");
            let asked = Asked::new("shop", &object, uid);
            assert_eq!(asked.is(&answer), is_answer, "{uid:?} {changed} {value}");
        }
        let scale = json!({"apiVersion": "autoscaling/v1", "kind": "Scale",
            "metadata": {"namespace": "shop", "name": "web-0", "uid": "u1"}});
        let scale: DynamicObject = serde_json::from_value(scale).expect("an object");
        let asked = Asked::new("shop", &object, None);
        assert!(matches!(asked.performed(scale), Performed::Nothing));
    }
}
