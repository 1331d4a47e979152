//! The host's side of the import `cluster`: forwards to the view of the job's namespace.
//!
//! The view decides what may be read; this file only limits how much. Reading beyond the budget is an
//! answer to the guest (`too-much`); going on regardless ends the call.

use operon_core::action as core;
use serde_json::Value;

use crate::{
    bindings::operon::action::{
        cluster::{Host, JobState, ReadError},
        types,
    },
    convert,
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

/// There is no view during setup, while the action declares what it reads.
fn nothing_yet(kind: &str) -> ReadError {
    ReadError::NotDeclared(format!("{kind}: setup can't read objects"))
}
