//! The smallest action: it annotates the target's pod with a key and a value from its settings.
//! Copy this crate to start your own; `README.md` beside it has the commands.

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

/// The action.
#[derive(Debug, Default)]
pub struct Annotate;

impl Action for Annotate {
    fn setup(&self, settings: &str) -> Result<Registration, String> {
        operon_sdk::settings::<Settings>(settings).map(|_| Registration::default())
    }

    fn operate_target(
        &self,
        target: &Target,
        job: &Job,
        _cluster: &dyn Cluster,
    ) -> Result<Operation, ActionError> {
        let (pod, settings) = (target.existing_pod()?, job.settings::<Settings>()?);
        let operation = Operation::of(target);
        if pod.annotation(&settings.key) == Some(&settings.value) {
            return Ok(operation);
        }
        Ok(operation.patch(pod.edit().set_annotation(&settings.key, &settings.value)))
    }

    fn get_ops_progress(
        &self,
        target: &Target,
        job: &Job,
        _cluster: &dyn Cluster,
    ) -> Result<ProgressReport, ActionError> {
        let (pod, settings) = (target.existing_pod()?, job.settings::<Settings>()?);
        if pod.annotation(&settings.key) == Some(&settings.value) {
            return Ok(ProgressReport::succeeded(target));
        }
        let message = format!("the annotation {:?} is not there yet", settings.key);
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
    fn a_pod_that_does_not_exist_fails_with_its_name() {
        let mut world = FakeCluster::new();
        let mut job = FakeJob::new("j1", &["foo"]);
        job.pass::<Annotate>(&mut world);
        let failure = job.target("foo").failure.clone().expect("it failed");
        assert_eq!(failure.reason, "PodNotFound");
        assert!(failure.message.contains("foo"));
    }
}
