//! Accessors for the arguments of a call: the target and the job.

use serde::de::DeserializeOwned;

use crate::{ActionError, Job, Pod, Target};

impl Target {
    /// The target's pod.
    ///
    /// # Errors
    /// Terminal `PodNotFound` if it does not exist (any more).
    pub fn existing_pod(&self) -> Result<&Pod, ActionError> {
        self.pod.as_ref().ok_or_else(|| {
            ActionError::terminal("PodNotFound", format!("there is no pod {:?}", self.name))
        })
    }

    /// One entry of what this action recorded for this target.
    pub fn extra(&self, key: &str) -> Option<&str> {
        self.extra_info
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    }
}

impl Job {
    /// The parameters of the job, as a type of the author's.
    ///
    /// # Errors
    /// Terminal `BadParameters` if they are invalid. A schema in `setup` reports that before a target starts.
    pub fn parameters<T: DeserializeOwned>(&self) -> Result<T, ActionError> {
        serde_json::from_str(&self.parameters).map_err(|error| {
            ActionError::terminal("BadParameters", format!("spec.parameters: {error}"))
        })
    }
}
