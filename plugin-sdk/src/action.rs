//! The trait an author implements, and the adapter that puts it behind the generated exports. Every call
//! creates a fresh value of the author's type from the settings: nothing is remembered between calls except the
//! state of the cluster and the target's `extra_info`.

use std::marker::PhantomData;

use crate::bindings::exports::operon::action::handler::Guest;
use crate::cluster::HostCluster;
use crate::{
    ActionError, ActionSettings, Cluster, Job, Operation, ProgressReport, Registration, Target,
    settings,
};

/// What an `OperationJob` does to one pod.
///
/// # Guarantees
/// The host calls `get_ops_progress` only after `operate_target`, and `release_target` for each target that
/// ends without success.
///
/// # Assumptions
/// All functions are idempotent: they may be called again at any time, in any state of the cluster.
pub trait Action: Sized {
    /// `spec.settings` of the `ActionPlugin`: [`NoSettings`](crate::NoSettings), or a type of the author's.
    type Settings: ActionSettings;

    /// The action with these settings, which satisfy their schema. Called before each of the other functions.
    fn new(settings: Self::Settings) -> Self;

    /// Called once when the component is loaded: returns what to watch, and the schema of a job's parameters. By
    /// default nothing is watched, and a job can have no parameters.
    ///
    /// # Errors
    /// A message with the reason why the component can't be used; the host then refuses it.
    fn setup(&self) -> Result<Registration, String> {
        Ok(Registration::default())
    }

    /// What to do with the target now; called until the target has finished, whenever the target, or something that the
    /// last call read, has changed, after effects, and when `recheck_after` has passed.
    fn operate_target(
        &self,
        target: &Target,
        job: &Job,
        cluster: &dyn Cluster,
    ) -> Result<Operation, ActionError>;

    /// How far the target is.
    fn get_ops_progress(
        &self,
        target: &Target,
        job: &Job,
        cluster: &dyn Cluster,
    ) -> Result<ProgressReport, ActionError>;

    /// What to undo of a target that failed or was cancelled, wherever its story stopped. By default
    /// nothing.
    fn release_target(
        &self,
        target: &Target,
        job: &Job,
        cluster: &dyn Cluster,
    ) -> Result<Operation, ActionError> {
        let _ = (job, cluster);
        Ok(Operation::of(target))
    }
}

/// What the host gets when it loads the component: the action's registration, with the schema of its settings.
///
/// # Errors
/// The settings do not fit, or the action refuses.
pub(crate) fn set_up<A: Action>(text: &str) -> Result<Registration, String> {
    let registration = A::new(settings(text)?).setup()?;
    Ok(Registration {
        settings_schema: A::Settings::schema().to_string(),
        ..registration
    })
}

/// The action of a call. The settings were checked when the component was loaded with them.
pub(crate) fn action<A: Action>(job: &Job) -> Result<A, ActionError> {
    let settings = settings(&job.settings);
    let settings = settings.map_err(|message| ActionError::terminal("BadSettings", message))?;
    Ok(A::new(settings))
}

/// Joins an [`Action`] to the generated exports; only [`register!`](crate::register) names it.
#[derive(Debug)]
pub struct Adapter<A>(PhantomData<A>);

impl<A: Action> Guest for Adapter<A> {
    fn setup(settings: String) -> Result<Registration, String> {
        set_up::<A>(&settings)
    }

    fn operate_target(target: Target, job: Job) -> Result<Operation, ActionError> {
        action::<A>(&job)?.operate_target(&target, &job, &HostCluster)
    }

    fn get_ops_progress(target: Target, job: Job) -> Result<ProgressReport, ActionError> {
        action::<A>(&job)?.get_ops_progress(&target, &job, &HostCluster)
    }

    fn release_target(target: Target, job: Job) -> Result<Operation, ActionError> {
        action::<A>(&job)?.release_target(&target, &job, &HostCluster)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{FakeCluster, FakeJob};
    use crate::{ActionSettings, NoSettings, Progress};

    #[derive(serde::Deserialize)]
    struct Settings {
        label: String,
    }

    impl ActionSettings for Settings {
        fn schema() -> Value {
            json!({"required": ["label"]})
        }
    }

    /// Succeeds once the pod has a label.
    struct Labelled(Settings);

    impl Action for Labelled {
        type Settings = Settings;

        fn new(settings: Settings) -> Self {
            Self(settings)
        }

        fn setup(&self) -> Result<Registration, String> {
            match self.0.label.as_str() {
                "" => Err("label is empty".to_owned()),
                _ => Ok(Registration::default()),
            }
        }

        fn operate_target(
            &self,
            target: &Target,
            _: &Job,
            _: &dyn Cluster,
        ) -> Result<Operation, ActionError> {
            let patch = target.existing_pod()?.edit().set_label(&self.0.label, "");
            Ok(Operation::of(target).patch(patch))
        }

        fn get_ops_progress(
            &self,
            target: &Target,
            _: &Job,
            _: &dyn Cluster,
        ) -> Result<ProgressReport, ActionError> {
            Ok(match target.existing_pod()?.label(&self.0.label) {
                Some(_) => ProgressReport::succeeded(target),
                None => ProgressReport::processing(target),
            })
        }
    }

    #[test]
    fn an_action_is_created_with_its_settings_for_every_call() {
        let mut world = FakeCluster::new();
        world.add_pod("foo", &json!({}));
        let mut job = FakeJob::<Labelled>::new("j1", &["foo"]).settings(&json!({"label": "a/b"}));
        job.pass(&mut world);
        job.pass(&mut world);
        assert_eq!(job.progress(), [Some(Progress::Succeeded)]);
        assert_eq!(world.expect_pod("foo").label("a/b"), Some(""));
    }

    #[test]
    fn settings_that_do_not_fit_are_refused_when_the_component_is_loaded() {
        let set_up = FakeJob::<Labelled>::set_up;
        let registration = set_up(&json!({"label": "a/b"})).expect("they fit");
        assert_eq!(registration.settings_schema, r#"{"required":["label"]}"#);
        for (settings, message) in [
            (json!({}), "missing field `label`"),
            (json!({"label": 1}), "invalid type"),
            (json!({"label": ""}), "label is empty"),
        ] {
            let error = set_up(&settings).expect_err("they do not fit");
            assert!(error.contains(message), "{error}");
        }
        let none: Result<NoSettings, _> = settings(r#"{"a": 1}"#);
        assert!(none.is_err_and(|error| error.contains("unknown field `a`")));
        assert!(settings::<NoSettings>("{}").is_ok());
    }
}
