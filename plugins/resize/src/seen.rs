//! What the API server and the kubelet say of the resources of a pod's containers.

use operon_sdk::{Pod, Value};

use crate::amounts::{Amounts, ByContainer};

/// The lists of containers in a spec that can be resized, and those of their statuses.
const LISTS: [(&str, &str); 2] = [
    ("containers", "containerStatuses"),
    ("initContainers", "initContainerStatuses"),
];

/// A pod as JSON.
#[derive(Debug)]
pub struct Seen<'a> {
    /// What an action knows of the pod.
    pub pod: &'a Pod,
    object: &'a Value,
}

/// A condition by which the kubelet reports a resize.
#[derive(Debug, PartialEq, Eq)]
pub struct Condition {
    /// One CamelCase word, or empty.
    pub reason: String,
    /// The kubelet's words.
    pub message: String,
    /// The generation of the pod that the kubelet looked at, where it reports one.
    pub generation: Option<i64>,
}

impl<'a> Seen<'a> {
    /// A pod, and the same as JSON.
    pub fn new(pod: &'a Pod, object: &'a Value) -> Self {
        Self { pod, object }
    }

    /// What the spec of a container has.
    pub fn written(&self, container: &str) -> Amounts {
        let mut lists = LISTS.iter().map(|(list, _)| &self.object["spec"][list]);
        let found = lists.find_map(|list| named(list, container));
        found.map_or_else(Amounts::default, |found| Amounts::of(&found["resources"]))
    }

    /// What a container has, as the kubelet reports it; none if it reports nothing.
    pub fn reported(&self, container: &str) -> Option<Amounts> {
        let resources = self.status(container)?.get("resources")?;
        resources.is_object().then(|| Amounts::of(resources))
    }

    /// A container that does not have in its spec what is asked for.
    pub fn unwritten<'b>(&self, asked: &'b ByContainer) -> Option<&'b str> {
        let mut asked = asked.iter();
        let found = asked.find(|(name, asked)| !self.written(name).meet(asked));
        found.map(|(name, _)| name.as_str())
    }

    /// A container that has other resources than asked for, and which.
    pub fn ungiven(&self, asked: &ByContainer) -> Option<String> {
        asked.iter().find_map(|(name, asked)| {
            let difference = match self.reported(name) {
                Some(reported) => reported.difference(asked)?,
                None => "no reported resources".to_owned(),
            };
            Some(format!("container {name:?} has {difference}"))
        })
    }

    /// Whether the kubelet of the pod's node reports resources: it does where it can change them. True as long as no
    /// container runs.
    pub fn is_supported(&self) -> bool {
        let statuses = self.object["status"]["containerStatuses"].as_array();
        let mut running = statuses
            .into_iter()
            .flatten()
            .filter(|status| status["state"]["running"].is_object());
        running.all(|status| status["resources"].is_object())
    }

    /// A condition of this type that is true.
    pub fn condition(&self, name: &str) -> Option<Condition> {
        let conditions = self.object["status"]["conditions"].as_array();
        let mut conditions = conditions.into_iter().flatten();
        let found = conditions.find(|found| found["type"] == name && found["status"] == "True")?;
        let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
        Some(Condition {
            reason: text("reason"),
            message: text("message"),
            generation: found["observedGeneration"].as_i64(),
        })
    }

    /// The list of the spec that has a container.
    pub fn list(&self, container: &str) -> &'static str {
        let mut lists = LISTS.iter().map(|(list, _)| *list);
        let is_in = |list: &&str| named(&self.object["spec"][*list], container).is_some();
        lists.find(is_in).unwrap_or(LISTS[0].0)
    }

    fn status(&self, container: &str) -> Option<&Value> {
        let statuses = &self.object["status"];
        let mut lists = LISTS.iter().map(|(_, list)| &statuses[list]);
        lists.find_map(|list| named(list, container))
    }
}

fn named<'a>(list: &'a Value, name: &str) -> Option<&'a Value> {
    let mut list = list.as_array().into_iter().flatten();
    list.find(|entry| entry["name"] == name)
}
