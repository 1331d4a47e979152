//! Users edit the CPU of the pods, and nodes have room for that, have none now, or never.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Cluster, Work, at, work};
use crate::simulation::{Chance, plurals::PODS};

/// The container, in the spec of the CollaSet.
const CONTAINER: &str = "/template/spec/containers/0";

impl Cluster {
    pub(super) fn edit_cpu(&self, chance: &mut Chance) {
        let cpu = chance.pick(&["100m", "200m", "300m"]);
        self.edit(|spec| at(spec, CONTAINER)["resources"] = requests(cpu));
    }

    /// All pods serve when their CPU is edited, and their nodes have room for that, have none now, or never.
    pub(super) fn resize(&mut self, chance: &mut Chance) {
        for _ in 0..3 {
            self.everybody_works();
            self.world.pass(Duration::from_secs(3));
        }
        self.edit_cpu(chance);
        for _ in 0..8 {
            let time = chance.pick(&[300, 2500, 15_000]);
            self.world.pass(Duration::from_millis(time));
            self.world.change(|state, now| {
                for pod in state.objects.all(PODS) {
                    let works = [
                        Work::Defer,
                        Work::Defer,
                        Work::Refuse,
                        Work::Start,
                        Work::Probe,
                    ];
                    let what = chance.pick(&works);
                    work(&mut state.objects, pod, what, now);
                }
            });
        }
    }

    /// Whether the container restarts for another CPU.
    pub(super) fn edit_resize_policy(&self, chance: &mut Chance) {
        let policy = chance.pick(&["NotRequired", "RestartContainer"]);
        self.edit(|spec| at(spec, CONTAINER)["resizePolicy"] = resize_policy(policy));
    }
}

/// The resources of a container with so much CPU.
pub(super) fn requests(cpu: &str) -> Value {
    json!({"requests": {"cpu": cpu}})
}

/// What another CPU does to a container.
pub(super) fn resize_policy(policy: &str) -> Value {
    json!([{"resourceName": "cpu", "restartPolicy": policy}])
}
