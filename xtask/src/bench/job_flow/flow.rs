//! The flows of the bench: which steps they have, and which depends on which.

use serde_json::{Value, json};

use crate::bench::test_bed::NAMESPACE;

/// On how many steps of the layer before a step depends.
const FAN_IN: usize = 3;

/// A flow.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) name: String,
    pub(super) steps: Vec<Step>,
}

/// A step of it.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) name: String,
    pub(super) dependencies: Vec<String>,
}

impl Flow {
    /// One whose steps depend each on three of the layer before.
    pub(super) fn layered(steps: usize, layers: usize) -> Self {
        let width = steps / layers;
        let name = |layer: usize, place: usize| format!("step-{layer:02}-{place:02}");
        let step = |layer: usize, place: usize| Step {
            name: name(layer, place),
            dependencies: layer.checked_sub(1).map_or_else(Vec::new, |before| {
                let near = (place..place + FAN_IN.min(width)).map(|other| other % width);
                near.map(|other| name(before, other)).collect()
            }),
        };
        let all = (0..layers).flat_map(|layer| (0..width).map(move |place| (layer, place)));
        Self {
            name: "bench".to_owned(),
            steps: all.map(|(layer, place)| step(layer, place)).collect(),
        }
    }

    /// One with the graph of job-deploy-operator's example.
    pub(super) fn of_five(number: usize) -> Self {
        let steps: [(&str, &[&str]); 5] = [
            ("job1", &[]),
            ("job2", &["job1"]),
            ("job3", &["job1", "job2"]),
            ("job4", &[]),
            ("job5", &["job2", "job4"]),
        ];
        let steps = steps.map(|(name, dependencies)| Step {
            name: name.to_owned(),
            dependencies: dependencies.iter().map(ToString::to_string).collect(),
        });
        Self {
            name: format!("flow-{number:03}"),
            steps: steps.into(),
        }
    }

    /// What the Job of a step is called.
    pub(super) fn job(&self, step: &str) -> String {
        format!("{}-{step}", self.name)
    }

    /// The flow as people write them: parameters for all, and a short template in each step.
    pub(super) fn manifest(&self) -> Value {
        let steps = self.steps.iter().map(|step| {
            json!({
                "name": step.name,
                "dependencies": step.dependencies,
                "jobTemplate": {"template": {"spec": {"containers": [{
                    "name": "main",
                    "image": "registry.example/step:1.0",
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["sh", "-c", "work"],
                }]}}},
            })
        });
        json!({
            "apiVersion": "api.practice.com/v1alpha1",
            "kind": "JobFlow",
            "metadata": {"name": self.name, "namespace": NAMESPACE, "labels": {"team": "bench"}},
            "spec": {
                "globalParams": {
                    "env": [{"name": "FOO", "value": "bar"}, {"name": "QUE", "value": "pasa"}],
                    "labels": {"key1": "value1"},
                    "annotations": {"key1": "value1"},
                },
                "flows": steps.collect::<Vec<_>>(),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_depends_on_three_of_the_layer_before() {
        let flow = Flow::layered(12, 3);
        let steps: Vec<_> = flow
            .steps
            .iter()
            .map(|step| (step.name.as_str(), step.dependencies.join(" ")))
            .collect();
        assert_eq!(steps.len(), 12);
        assert_eq!(steps.first(), Some(&("step-00-00", String::new())));
        let before = "step-01-03 step-01-00 step-01-01".to_owned();
        assert_eq!(steps.last(), Some(&("step-02-03", before)));
        let thin = Flow::layered(2, 2);
        let dependencies = thin.steps.last().map(|step| step.dependencies.len());
        assert_eq!(dependencies, Some(1));
    }
}
