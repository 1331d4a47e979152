//! JobFlows, steps and JobTemplates in the making.
//!
//! As with ReactiveJobs, a scheduling gate or an annotation holds a step's pod back, on real and simulated
//! nodes alike.

use kube::api::{Patch, PatchParams};
use operon_api::JobFlow;
use serde_json::{Value, json};

use crate::{
    workload::{GATE, pod_spec},
    world::World,
};

/// The spec of a Job with one pod, which succeeds immediately.
pub fn job_spec() -> Value {
    let mut pod = pod_spec();
    pod["containers"][0]["command"] = json!(["true"]);
    json!({"template": {"spec": pod}})
}

/// A JobTemplate of such a Job.
pub fn template(name: &str) -> Value {
    json!({
        "apiVersion": "api.practice.com/v1alpha1",
        "kind": "JobTemplate",
        "metadata": {"name": name},
        "spec": {"jobTemplate": job_spec()}
    })
}

/// A step in the making.
#[derive(Clone, Debug)]
pub struct Step(Value);

impl Step {
    /// One whose Job has one pod, which succeeds immediately.
    pub fn of(name: &str) -> Self {
        Self(json!({"name": name, "jobTemplate": job_spec()}))
    }

    /// One that takes a JobTemplate.
    pub fn from_template(name: &str, template: &str) -> Self {
        Self(json!({"name": name, "jobTemplateRef": template}))
    }

    /// It depends on these.
    #[must_use]
    pub fn after(self, steps: &[&str]) -> Self {
        self.with("dependencies", json!(steps))
    }

    /// With this field.
    #[must_use]
    pub fn with(self, field: &str, value: Value) -> Self {
        self.set("", field, value)
    }

    /// With this field of the Job's spec.
    #[must_use]
    pub fn job(self, field: &str, value: Value) -> Self {
        self.set("/jobTemplate", field, value)
    }

    /// With this field of the pod's spec.
    #[must_use]
    pub fn pod(self, field: &str, value: Value) -> Self {
        self.set("/jobTemplate/template/spec", field, value)
    }

    /// With this field of the container.
    #[must_use]
    pub fn container(self, field: &str, value: Value) -> Self {
        self.set("/jobTemplate/template/spec/containers/0", field, value)
    }

    /// Its container runs this script.
    #[must_use]
    pub fn script(self, script: &str) -> Self {
        self.container("command", json!(["sh", "-c", script]))
    }

    /// Its container leaves this as its termination message.
    #[must_use]
    pub fn leaving(self, message: &str) -> Self {
        assert!(!message.contains('\''), "it is quoted in a script");
        self.script(&format!("echo '{message}' > /dev/termination-log"))
    }

    /// Its container fails.
    #[must_use]
    pub fn failing(self) -> Self {
        self.script("echo in vain >&2; exit 3")
            .mark("labels", "operon.dev/devcluster-fail")
    }

    /// Its container runs until somebody ends it.
    #[must_use]
    pub fn endless(self) -> Self {
        self.container("command", json!(["sleep", "1000000"]))
            .mark("annotations", "operon.dev/devcluster-hold")
    }

    /// Its pod does not run before [`World::let_run`].
    #[must_use]
    pub fn gated(self) -> Self {
        self.pod("schedulingGates", json!([{"name": GATE}]))
    }

    /// Marks the pod for simulated nodes.
    fn mark(mut self, kind: &str, key: &str) -> Self {
        self.0["jobTemplate"]["template"]["metadata"][kind][key] = json!("true");
        self
    }

    fn set(mut self, part: &str, field: &str, value: Value) -> Self {
        let part = self.0.pointer_mut(part).and_then(Value::as_object_mut);
        part.expect("a step without jobTemplateRef has these parts")
            .insert(field.to_owned(), value);
        self
    }
}

/// A JobFlow in the making.
#[derive(Clone, Debug)]
pub struct Flow(Value);

impl Flow {
    /// One of these steps.
    pub fn of(name: &str, steps: impl IntoIterator<Item = Step>) -> Self {
        let steps: Vec<_> = steps.into_iter().map(|Step(step)| step).collect();
        Self(json!({
            "apiVersion": "api.practice.com/v1alpha1",
            "kind": "JobFlow",
            "metadata": {"name": name},
            "spec": {"flows": steps}
        }))
    }

    /// With this field of the spec.
    #[must_use]
    pub fn with(mut self, field: &str, value: Value) -> Self {
        self.0["spec"][field] = value;
        self
    }

    /// With one more step.
    #[must_use]
    pub fn and(mut self, Step(step): Step) -> Self {
        let steps = self.0["spec"]["flows"].as_array_mut();
        steps.expect("a list from the beginning").push(step);
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.0["metadata"]["name"].as_str().unwrap_or_default()
    }

    /// The object.
    pub fn manifest(&self) -> Value {
        self.0.clone()
    }

    /// Makes it, or makes the one of that name look like this.
    pub async fn apply(&self, world: &World) -> JobFlow {
        let name = self.name();
        let params = PatchParams::apply("operon-e2e").force();
        let applied = world
            .api::<JobFlow>()
            .patch(name, &params, &Patch::Apply(&self.0))
            .await;
        applied.unwrap_or_else(|error| panic!("failed to apply JobFlow {name}: {error}"))
    }
}
