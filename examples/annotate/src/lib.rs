//! The smallest action: it annotates the target's pod with a key from its settings, and a value from the
//! parameters of the job or else from its settings.
//! The commands are in `README.md`.

use operon_sdk::prelude::*;

#[derive(serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
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

#[derive(serde::Deserialize)]
struct Parameters {
    value: Option<String>,
}

/// The key and the value of the annotation.
fn annotation(job: &Job) -> Result<(String, String), ActionError> {
    let Settings { key, value } = job.settings()?;
    let parameters: Parameters = job.parameters()?;
    Ok((key, parameters.value.unwrap_or(value)))
}

/// The action.
#[derive(Debug, Default)]
pub struct Annotate;

impl Action for Annotate {
    fn setup(&self, settings: &str) -> Result<Registration, String> {
        operon_sdk::settings::<Settings>(settings)?;
        let properties = json!({"value": {"type": "string"}});
        let schema =
            json!({"type": "object", "properties": properties, "additionalProperties": false});
        Ok(Registration::default().parameters(&schema))
    }

    fn operate_target(
        &self,
        target: &Target,
        job: &Job,
        _cluster: &dyn Cluster,
    ) -> Result<Operation, ActionError> {
        let (pod, (key, value)) = (target.existing_pod()?, annotation(job)?);
        let operation = Operation::of(target);
        if pod.annotation(&key) == Some(&value) {
            return Ok(operation);
        }
        Ok(operation.patch(pod.edit().set_annotation(&key, &value)))
    }

    fn get_ops_progress(
        &self,
        target: &Target,
        job: &Job,
        _cluster: &dyn Cluster,
    ) -> Result<ProgressReport, ActionError> {
        let (pod, (key, value)) = (target.existing_pod()?, annotation(job)?);
        if pod.annotation(&key) == Some(&value) {
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
        let mut job = FakeJob::new("j1", &["foo"]);
        job.pass::<Annotate>(&mut world);
        job.pass::<Annotate>(&mut world);
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
        let mut job = FakeJob::new("j1", &["foo"]);
        job.job.settings = json!({"key": "example.com/owner", "value": "me"}).to_string();
        job.pass::<Annotate>(&mut world);
        assert_eq!(
            world.expect_pod("foo").annotation("example.com/owner"),
            Some("me")
        );
        assert!(Annotate.setup(r#"{"kee": "x"}"#).is_err());
    }

    #[test]
    fn the_job_may_say_another_value() {
        let mut world = FakeCluster::new();
        world.add_pod("foo", &json!({}));
        let mut job = FakeJob::new("j1", &["foo"]);
        job.job.parameters = json!({"value": "by hand"}).to_string();
        job.pass::<Annotate>(&mut world);
        let pod = world.expect_pod("foo");
        assert_eq!(pod.annotation("operon.dev/annotated"), Some("by hand"));
    }

    #[test]
    fn a_pod_that_does_not_exist_fails_with_its_name() {
        let mut world = FakeCluster::new();
        let mut job = FakeJob::new("j1", &["foo"]);
        job.pass::<Annotate>(&mut world);
        let failure = job.target("foo").failure.clone().expect("it failed");
        assert_eq!(failure.reason, "PodNotFound");
        assert!(failure.message.contains("foo"));
    }
}
