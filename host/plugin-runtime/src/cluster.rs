//! The host's side of the import `cluster`: forwards to the view of the job's namespace.
//!
//! The view decides what may be read; this file only limits how much, and how long a question is: the host
//! remembers the questions. Reading beyond the budget is an answer to the guest (`too-much`); going on
//! regardless ends the call.

use operon_core::{
    action as core,
    selector::{MAX_BYTES, SelectorError},
};
use serde_json::Value;

use crate::{
    bindings::operon::action::{
        cluster::{Host, JobState, ReadError},
        types,
    },
    convert,
    limits::{API_VERSION_BYTES, KIND_BYTES, NAME_BYTES},
    state::State,
};

impl types::Host for State {}

impl Host for State {
    fn get(
        &mut self,
        object: types::ObjectReference,
    ) -> wasmtime::Result<Result<Option<String>, ReadError>> {
        self.budget.host_call()?;
        Ok(self.read_one(object))
    }

    fn find(
        &mut self,
        api_version: String,
        kind: String,
        label_selector: String,
    ) -> wasmtime::Result<Result<Vec<String>, ReadError>> {
        self.budget.host_call()?;
        Ok(self.read_all(&api_version, &kind, &label_selector))
    }

    fn find_pods(
        &mut self,
        label_selector: String,
    ) -> wasmtime::Result<Result<Vec<types::Pod>, ReadError>> {
        self.budget.host_call()?;
        Ok(self.read_pods(&label_selector))
    }

    fn find_job(&mut self, uid: String) -> wasmtime::Result<Result<JobState, ReadError>> {
        self.budget.host_call()?;
        Ok(self.read_job(&uid))
    }
}

impl State {
    fn read_one(&mut self, object: types::ObjectReference) -> Result<Option<String>, ReadError> {
        self.budget.read().map_err(ReadError::TooMuch)?;
        let types::ObjectReference {
            api_version,
            kind,
            name,
        } = object;
        check_kind(&api_version, &kind)?;
        check_name("name", &name)?;
        let Some(cluster) = &self.cluster else {
            return Err(nothing_yet(&kind));
        };
        let object = cluster
            .get(&core::ObjectReference {
                api_version,
                kind,
                name,
            })
            .map_err(convert::read_error)?;
        object.map(|object| self.json(&object)).transpose()
    }

    fn read_all(
        &mut self,
        api_version: &str,
        kind: &str,
        label_selector: &str,
    ) -> Result<Vec<String>, ReadError> {
        self.budget.read().map_err(ReadError::TooMuch)?;
        check_kind(api_version, kind)?;
        check_selector(label_selector)?;
        let Some(cluster) = &self.cluster else {
            return Err(nothing_yet(kind));
        };
        let objects = cluster
            .find(api_version, kind, label_selector)
            .map_err(convert::read_error)?;
        objects.map(|object| self.json(&object)).collect()
    }

    fn read_pods(&mut self, label_selector: &str) -> Result<Vec<types::Pod>, ReadError> {
        self.budget.read().map_err(ReadError::TooMuch)?;
        check_selector(label_selector)?;
        let Some(cluster) = &self.cluster else {
            return Err(nothing_yet("Pod"));
        };
        let pods = cluster
            .find_pods(label_selector)
            .map_err(convert::read_error)?;
        let budget = &mut self.budget;
        pods.map(|pod| {
            budget
                .read_bytes(convert::pod_size(&pod))
                .map_err(ReadError::TooMuch)?;
            Ok(convert::pod(core::PodView::clone(&pod)))
        })
        .collect()
    }

    fn read_job(&mut self, uid: &str) -> Result<JobState, ReadError> {
        self.budget.read().map_err(ReadError::TooMuch)?;
        check_name("uid", uid)?;
        let Some(cluster) = &self.cluster else {
            return Err(nothing_yet("OperationJob"));
        };
        let state = cluster.find_job(uid).map_err(convert::read_error)?;
        Ok(convert::job_state(state))
    }

    fn json(&mut self, object: &Value) -> Result<String, ReadError> {
        let text = object.to_string();
        self.budget
            .read_bytes(text.len())
            .map_err(ReadError::TooMuch)?;
        Ok(text)
    }
}

/// A kind with longer names exists nowhere, and can't be declared.
fn check_kind(api_version: &str, kind: &str) -> Result<(), ReadError> {
    for (what, text, most) in [
        ("an apiVersion", api_version, API_VERSION_BYTES),
        ("a kind", kind, KIND_BYTES),
    ] {
        if text.len() > most {
            let message = format!("{what} of {} bytes; at most {most}", text.len());
            return Err(ReadError::NotDeclared(message));
        }
    }
    Ok(())
}

fn check_name(what: &str, name: &str) -> Result<(), ReadError> {
    if name.len() > NAME_BYTES {
        let message = format!("a {what} of {} bytes; at most {NAME_BYTES}", name.len());
        return Err(ReadError::TooMuch(message));
    }
    Ok(())
}

fn check_selector(selector: &str) -> Result<(), ReadError> {
    if selector.len() > MAX_BYTES {
        let error = SelectorError::TooLong(selector.len()).to_string();
        return Err(ReadError::BadSelector(error));
    }
    Ok(())
}

/// There is no view during setup, while the action declares what it reads.
fn nothing_yet(kind: &str) -> ReadError {
    ReadError::NotDeclared(format!("{kind}: setup can't read objects"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{budget::Budget, log::LogLines};

    /// A view in which nothing exists. It is not to see texts beyond these bytes.
    struct Nothing(usize);

    impl Nothing {
        fn see(&self, texts: &[&str]) {
            for text in texts {
                assert!(text.len() <= self.0, "{} bytes", text.len());
            }
        }
    }

    impl core::ClusterView for Nothing {
        fn get(&self, object: &core::ObjectReference) -> Result<Option<Value>, core::ReadError> {
            self.see(&[&object.api_version, &object.kind, &object.name]);
            Ok(None)
        }

        fn find(
            &self,
            api_version: &str,
            kind: &str,
            label_selector: &str,
        ) -> Result<Box<dyn Iterator<Item = Value>>, core::ReadError> {
            self.see(&[api_version, kind, label_selector]);
            Ok(Box::new(std::iter::empty()))
        }

        fn find_pods(&self, selector: &str) -> Result<core::FoundPods<'_>, core::ReadError> {
            self.see(&[selector]);
            Ok(Box::new(std::iter::empty()))
        }

        fn find_job(&self, uid: &str) -> Result<core::JobState, core::ReadError> {
            self.see(&[uid]);
            Ok(core::JobState::Absent)
        }
    }

    #[test]
    fn a_read_with_a_text_beyond_its_limit_is_refused_before_anything_sees_it() {
        let refusals = |version: usize, kind: usize, name: usize, selector: usize| {
            let cluster = Some(Arc::new(Nothing(MAX_BYTES)) as Arc<dyn core::ClusterView>);
            let mut state = State::new(Budget::new(0, 1), cluster, LogLines::default());
            let text = |bytes: usize| "x".repeat(bytes);
            let object = types::ObjectReference {
                api_version: text(version),
                kind: text(kind),
                name: text(name),
            };
            [
                state.read_one(object).err(),
                state.read_job(&text(name)).err(),
                state
                    .read_all(&text(version), &text(kind), &text(selector))
                    .err(),
                state.read_pods(&text(selector)).err(),
            ]
            .map(|error| match error {
                None => "read",
                Some(ReadError::NotDeclared(_)) => "not declared",
                Some(ReadError::NotServed(_)) => "not served",
                Some(ReadError::BadSelector(_)) => "bad selector",
                Some(ReadError::TooMuch(_)) => "too much",
            })
        };
        let (version, kind, name) = (API_VERSION_BYTES, KIND_BYTES, NAME_BYTES);
        let undeclared = ["not declared", "read", "not declared", "read"];
        assert_eq!(refusals(version, kind, name, MAX_BYTES), ["read"; 4]);
        for (beyond, wanted) in [
            (refusals(version + 1, kind, name, MAX_BYTES), undeclared),
            (refusals(version, kind + 1, name, MAX_BYTES), undeclared),
            (
                refusals(version, kind, name + 1, MAX_BYTES),
                ["too much", "too much", "read", "read"],
            ),
            (
                refusals(version, kind, name, MAX_BYTES + 1),
                ["read", "read", "bad selector", "bad selector"],
            ),
            (
                refusals(1 << 20, 1 << 20, 1 << 20, 1 << 20),
                ["not declared", "too much", "not declared", "bad selector"],
            ),
        ] {
            assert_eq!(beyond, wanted);
        }
    }
}
