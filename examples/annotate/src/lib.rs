//! The smallest action: it annotates the target's pod with a key from its settings, and a value from the
//! parameters of the job or else from its settings.
//! The commands are in `README.md`.

use operon_sdk::prelude::*;

/// `spec.settings` of the ActionPlugin: the annotation, unless the job says another value.
#[derive(Debug, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    key: String,
    value: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            key: "operon.dev/annotated".to_owned(),
            value: "true".to_owned(),
        }
    }
}

impl ActionSettings for Settings {
    fn schema() -> Value {
        let text = json!({"type": "string", "minLength": 1});
        json!({"type": "object", "properties": {"key": text, "value": text}, "additionalProperties": false})
    }
}

/// What a job may say in `spec.parameters`.
#[derive(serde::Deserialize)]
struct Parameters {
    value: Option<String>,
}

/// The action.
#[derive(Debug)]
pub struct Annotate {
    settings: Settings,
}

impl Annotate {
    /// The value of the annotation.
    fn value(&self, job: &Job) -> Result<String, ActionError> {
        let Parameters { value } = job.parameters()?;
        Ok(value.unwrap_or_else(|| self.settings.value.clone()))
    }
}

impl Action for Annotate {
    type Settings = Settings;

    fn new(settings: Settings) -> Self {
        Self { settings }
    }

    fn setup(&self) -> Result<Registration, String> {
        let value = json!({"type": "string"});
        let parameters = json!({"type": "object", "properties": {"value": value}, "additionalProperties": false});
        Ok(Registration::default().parameters(&parameters))
    }

    fn operate_target(
        &self,
        target: &Target,
        job: &Job,
        _cluster: &dyn Cluster,
    ) -> Result<Operation, ActionError> {
        let (pod, key, value) = (target.existing_pod()?, &self.settings.key, self.value(job)?);
        let operation = Operation::of(target);
        if pod.annotation(key) == Some(&value) {
            return Ok(operation);
        }
        Ok(operation.patch(pod.edit().set_annotation(key, &value)))
    }

    fn get_ops_progress(
        &self,
        target: &Target,
        job: &Job,
        _cluster: &dyn Cluster,
    ) -> Result<ProgressReport, ActionError> {
        let (pod, key, value) = (target.existing_pod()?, &self.settings.key, self.value(job)?);
        if pod.annotation(key) == Some(&value) {
            return Ok(ProgressReport::succeeded(target));
        }
        let message = format!("the annotation {key:?} is not there yet");
        Ok(ProgressReport::processing(target).waiting_for("NotAnnotated", message))
    }
}

operon_sdk::register!(Annotate);

#[cfg(test)]
mod tests {
    use super::*;
    use operon_sdk::testing::{FakeCluster, FakeJob};

    #[test]
    fn the_pod_is_annotated_by_one_write_and_the_job_succeeds() {
        let mut world = FakeCluster::new();
        world.add_pod("foo", &json!({}));
        let mut job = FakeJob::<Annotate>::new("j1", &["foo"]);
        job.pass(&mut world);
        job.pass(&mut world);
        assert_eq!(
            world.expect_pod("foo").annotation("operon.dev/annotated"),
            Some("true")
        );
        assert_eq!(job.progress(), [Some(Progress::Succeeded)]);
        assert_eq!(world.writes().len(), 1);
    }

    #[test]
    fn the_settings_say_which_annotation() {
        let mut world = FakeCluster::new();
        world.add_pod("foo", &json!({}));
        let mut job = FakeJob::<Annotate>::new("j1", &["foo"])
            .settings(&json!({"key": "example.com/owner", "value": "me"}));
        job.pass(&mut world);
        assert_eq!(
            world.expect_pod("foo").annotation("example.com/owner"),
            Some("me")
        );
        assert!(FakeJob::<Annotate>::set_up(&json!({"kee": "x"})).is_err());
    }

    #[test]
    fn the_job_may_say_another_value() {
        let mut world = FakeCluster::new();
        world.add_pod("foo", &json!({}));
        let mut job =
            FakeJob::<Annotate>::new("j1", &["foo"]).parameters(&json!({"value": "by hand"}));
        job.pass(&mut world);
        let pod = world.expect_pod("foo");
        assert_eq!(pod.annotation("operon.dev/annotated"), Some("by hand"));
    }

    #[test]
    fn a_pod_that_does_not_exist_fails_with_its_name() {
        let mut world = FakeCluster::new();
        let mut job = FakeJob::<Annotate>::new("j1", &["foo"]);
        job.pass(&mut world);
        let failure = job.target("foo").failure.clone().expect("it failed");
        assert_eq!(failure.reason, "PodNotFound");
        assert!(failure.message.contains("foo"));
    }
}
