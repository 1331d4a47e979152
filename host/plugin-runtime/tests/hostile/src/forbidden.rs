//! Effects that the host refuses whatever the account may do, chosen by the name of the target.

use crate::guest::bindings::{
    exports::operon::action::handler::{Operation, Target},
    operon::action::types::{Effect, Event, ObjectReference, Patch, PatchKind, Severity},
};

/// The operation of a target with such a name; none for all others.
pub(crate) fn operate(target: &Target) -> Option<Operation> {
    let owner = |kind: &str, uid: &str, controller: bool| {
        format!(
            r#"{{"metadata":{{"ownerReferences":[{{"apiVersion":"v1","kind":"{kind}","name":"{}","uid":"{uid}","controller":{controller}}}]}}}}"#,
            target.name
        )
    };
    let uid = target.uid.as_deref().unwrap_or_default();
    let effects = match target.name.as_str() {
        "connects" => vec![patch(target, Some("proxy"), "{}".into())],
        "holds" => {
            let body = r#"{"metadata":{"finalizers":["hostile.example/for-ever"]}}"#;
            vec![patch(target, None, body.into())]
        }
        "holds-by-status" => {
            let body = r#"{"metadata":{"finalizers":["hostile.example/for-ever"]}}"#;
            vec![patch(target, Some("status"), body.into())]
        }
        "gives-away" => vec![patch(target, None, owner("Pod", uid, true))],
        "orphans" => vec![patch(target, None, owner("Pod", "no-such-uid", false))],
        "many-events" => vec![event(), event(), event()],
        _ => return None,
    };
    Some(Operation {
        requirements: Vec::new(),
        limit: None,
        effects,
        extra_info: Vec::new(),
        unfinished: None,
        extra: Vec::new(),
    })
}

fn patch(target: &Target, subresource: Option<&str>, body: String) -> Effect {
    Effect::Patch(Patch {
        object: ObjectReference {
            api_version: "v1".into(),
            kind: "Pod".into(),
            name: target.name.clone(),
        },
        subresource: subresource.map(Into::into),
        kind: PatchKind::Merge,
        body,
        uid: target.uid.clone(),
        resource_version: None,
    })
}

fn event() -> Effect {
    Effect::Event(Event {
        severity: Severity::Warning,
        reason: "Flood".into(),
        message: "one of many".into(),
    })
}
