//! A CollaSet and what exists of it, in the making.

use std::sync::Arc;

use k8s_openapi::{
    api::{apps::v1::ControllerRevision, core::v1::Pod},
    jiff::Timestamp,
};
use kube::ResourceExt;
use operon_api::{CollaSet, keys};
use serde_json::{Value, json};

use crate::{
    action::Effect,
    colla_set::{
        Driven, Seen,
        plan::{Plan, plan},
    },
    driver::{Done, Kind as _, Start, Write},
};

/// The time of every test.
pub(super) const NOW: i64 = 1_700_000_000;

/// A set of so many pods, without any yet; its revision and its finalizer exist.
pub(super) fn set(replicas: i32) -> Seen {
    let object = json!({
        "metadata": {"name": "foo", "namespace": "shop", "uid": "set-uid", "generation": 1, "finalizers": [keys::COLLA_SET_FINALIZER]},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "foo"}},
            "template": {
                "metadata": {"labels": {"app": "foo"}},
                "spec": {"containers": [{"name": "main", "image": "busybox"}]},
            },
        },
    });
    let mut seen = Seen {
        object: Arc::new(serde_json::from_value(object).expect("a CollaSet")),
        pods: Vec::new(),
        revisions: Vec::new(),
        claims: Vec::new(),
        can_resize: true,
        context: None,
        mates: std::collections::BTreeSet::new(),
        decorations: Vec::new(),
        now: Timestamp::from_second(NOW).expect("a time"),
    };
    seen.note_revision();
    seen
}

impl Seen {
    /// The revision of the template is created, if it is missing.
    pub(super) fn note_revision(&mut self) {
        if let Some(start) = self.plan().revision {
            self.revisions
                .push(Arc::new(created(&start, "revision-uid")));
        }
    }

    /// The plan once the ids that it needs are reserved.
    pub(super) fn plan(&self) -> Plan {
        let mut seen = self.clone();
        seen.note_context();
        plan(&seen)
    }

    /// The plan of this moment.
    pub(super) fn plan_now(&self) -> Plan {
        plan(self)
    }

    /// The context is written, if that is due; whether it was.
    pub(super) fn note_context(&mut self) -> bool {
        let Some(write) = self.plan_now().context else {
            return false;
        };
        let written = match write {
            Write::Make(start) => created(&start, "context-uid"),
            Write::Do(Effect::Patch { body, .. }) => {
                let context = self.context.as_ref().expect("a context");
                crate::driver::memory::patched(&**context, &body)
            }
            Write::Do(other) => unreachable!("{other:?}"),
        };
        self.context = Some(Arc::new(written));
        true
    }

    /// The name of the revision of the template.
    pub(super) fn revision(&self) -> String {
        self.conclude().updated_revision.expect("a revision")
    }

    pub(super) fn conclude(&self) -> operon_api::colla_set::CollaSetStatus {
        self.conclude_after(&Done::default())
    }

    pub(super) fn conclude_after(&self, done: &Done) -> operon_api::colla_set::CollaSetStatus {
        let asked = crate::driver::Asked::default();
        let conclusion = Driven::conclude(self, &self.plan(), done, &asked);
        conclusion.expect("a conclusion").status
    }

    pub(super) fn edit(&mut self, change: impl FnOnce(&mut CollaSet)) {
        change(Arc::make_mut(&mut self.object));
    }

    /// The template is edited, and its revision created.
    pub(super) fn edit_template(&mut self, pointer: &str, value: Value) {
        self.edit(|object| {
            let mut template = json!(object.spec.template);
            crate::driver::memory::merge(&mut template, &at(pointer, value));
            object.spec.template = serde_json::from_value(template).expect("a template");
            object.metadata.generation = object.metadata.generation.map(|before| before + 1);
        });
        self.note_revision();
    }

    /// The pods that the plan creates exist now, and serve.
    pub(super) fn serve(&mut self) {
        self.note_context();
        let Plan { create, pair, .. } = self.plan_now();
        for start in create.into_iter().chain(pair) {
            let mut pod: Pod = created(&start, &format!("uid-{}", start.subject));
            let status = json!({
                "phase": "Running",
                "conditions": [{"type": "Ready", "status": "True"}],
            });
            pod.status = serde_json::from_value(status).expect("a status");
            pod.spec.get_or_insert_default().node_name = Some("n1".to_owned());
            let labels = pod.labels_mut();
            labels.insert(
                crate::pod_lifecycle::labels::SERVICE_AVAILABLE.to_owned(),
                "1".to_owned(),
            );
            self.pods.push(Arc::new(pod));
        }
        self.note_context();
    }

    /// Changes a pod, by its place.
    pub(super) fn pod(&mut self, place: usize, patch: &Value) {
        let pod = self.pods.get_mut(place).expect("a pod");
        *pod = Arc::new(crate::driver::memory::patched(&**pod, patch));
    }
}

/// An object that has only this, at a path of keys, in which `~` stands for a slash.
fn at(path: &str, value: Value) -> Value {
    let keys = path.rsplit('/');
    keys.fold(value, |inner, key| json!({key.replace('~', "/"): inner}))
}

/// An object as the API server returns it.
pub(super) fn created<K: serde::de::DeserializeOwned>(start: &Start, uid: &str) -> K {
    let mut body = start.body.clone();
    body["metadata"]["name"] = json!(start.names[0]);
    body["metadata"]["namespace"] = json!("shop");
    body["metadata"]["uid"] = json!(uid);
    body["metadata"]["resourceVersion"] = json!("1");
    serde_json::from_value(body).expect("an object of its kind")
}

/// The names of the objects that these writes change or delete.
pub(super) fn written(effects: &[Effect]) -> Vec<String> {
    let names = effects.iter().filter_map(|effect| match effect {
        Effect::Patch { object, .. } | Effect::Delete { object, .. } => Some(object.name.clone()),
        _ => None,
    });
    names.collect()
}

/// The labels that a write changes.
pub(super) fn labels(effect: &Effect) -> Value {
    let Effect::Patch { body, .. } = effect else {
        return Value::Null;
    };
    body["metadata"]["labels"].clone()
}

/// A revision of a set, by its name.
pub(super) fn named<'a>(seen: &'a Seen, name: &str) -> &'a ControllerRevision {
    let mut revisions = seen.revisions.iter();
    revisions
        .find(|one| one.name_any() == name)
        .expect("a revision")
}
