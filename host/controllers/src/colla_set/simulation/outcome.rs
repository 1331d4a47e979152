//! What a CollaSet is in the end, when nothing goes wrong any more.

use std::collections::BTreeSet;

use operon_api::keys;
use operon_core::pod_lifecycle::labels::SERVICE_AVAILABLE;
use serde_json::{Value, json};

use super::{
    Cluster, HISTORY_LIMIT, NAME, claims, decoration,
    kubelet::{has_condition, is_active},
    promises::{labels, owner},
};
use crate::simulation::{
    Objects, name_of,
    plurals::{CLAIMS, COLLA_SETS, CONTEXTS, PODS, REVISIONS, RULES},
};

impl Cluster {
    /// All pods and claims are as the CollaSet desires, and nothing is left over.
    pub(super) fn assert_is_as_desired(&self) {
        let state = self.world.server.state();
        let object = state.objects.get(COLLA_SETS, NAME).expect("a CollaSet");
        decoration::assert_is_reported(object, &state.objects);
        let mut pods = state.objects.all(PODS);
        // A pod that has finished or was excluded is not adopted.
        let was_excluded = |pod: &Value| labels(pod).contains_key(keys::ORPHANED);
        pods.retain(|pod| owner(pod).is_string() || (is_active(pod) && !was_excluded(pod)));
        let (uid, status) = (&object["metadata"]["uid"], &object["status"]);
        let rules = state.objects.all(RULES);
        let seen = || format!("{object:#}\n{pods:#?}\n{rules:#?}");
        assert_eq!(object["spec"]["replicas"], pods.len(), "{}", seen());
        let updated = &status["updatedRevision"];
        let mut ids = BTreeSet::new();
        for pod in &pods {
            assert_eq!(owner(pod), uid, "{}", seen());
            let all = labels(pod);
            assert_eq!(*updated, all[keys::CONTROLLER_REVISION], "{}", seen());
            assert!(all.contains_key(SERVICE_AVAILABLE), "{}", seen());
            assert!(has_condition(pod, "Ready"), "{}", seen());
            assert!(ids.insert(all[keys::INSTANCE_ID].clone()), "{}", seen());
            let left = all.keys().find(|key| is_left_over(key));
            assert_eq!(left, None, "{}", seen());
            assert_mounts(object, pod, &state.objects, &seen);
            let annotations = &pod["metadata"]["annotations"];
            assert!(annotations[keys::IN_PLACE_UPDATE].is_null(), "{}", seen());
            let mut said = annotations.as_object().into_iter().flatten();
            let left = said.find(|(key, _)| key.starts_with(keys::TRANSITION_DETAIL));
            assert_eq!(left, None, "{}", seen());
            let runs = &pod["spec"]["containers"][0]["image"];
            let desired = &object["spec"]["template"]["spec"]["containers"][0];
            assert_eq!(*runs, desired["image"], "{}", seen());
            let has = &pod["status"]["containerStatuses"][0]["resources"];
            assert_eq!(*has, desired["resources"], "{}", seen());
        }
        // With Delete, no claim is left that no pod needs.
        for claim in state.objects.all(CLAIMS) {
            let is_left = claims::purpose(&claim)[0] == uid
                && claims::pods_of(&state.objects, name_of(&claim)).is_empty();
            assert!(!is_left, "{claim:#}: {}", seen());
        }
        for count in [
            "replicas",
            "availableReplicas",
            "readyReplicas",
            "updatedReplicas",
            "updatedAvailableReplicas",
        ] {
            assert_eq!(status[count], pods.len(), "{count}: {}", seen());
        }
        assert_eq!(
            status["observedGeneration"],
            object["metadata"]["generation"]
        );
        for rule in state.objects.all(RULES) {
            let status = &rule["status"];
            assert!(status["details"].is_null(), "{rule:#}");
            // A pod that was excluded from the CollaSet is selected all the same.
            let all = state.objects.all(PODS);
            let selected = all.iter().filter(|pod| labels(pod).contains_key("app"));
            assert_eq!(status["selectedPods"], selected.count(), "{rule:#}");
        }
        let context = state.objects.get(CONTEXTS, NAME);
        let entries = context.map(|context| context["spec"]["contexts"].clone());
        let entries: Vec<Value> = entries
            .and_then(|entries| serde_json::from_value(entries).ok())
            .unwrap_or_default();
        let remembered = entries.iter().map(|entry| {
            assert_eq!(entry["data"], json!({"Owner": NAME, "Revision": updated}));
            entry["id"].to_string()
        });
        let remembered: Vec<_> = remembered.collect();
        let of_pods = ids.iter().map(|id| id.parse::<u32>().expect("a number"));
        let mut of_pods: Vec<_> = of_pods.collect();
        of_pods.sort_unstable();
        let of_pods: Vec<_> = of_pods.iter().map(ToString::to_string).collect();
        assert_eq!(remembered, of_pods, "the context says what there is");
        let mut revisions = state.objects.all(REVISIONS);
        revisions.retain(|revision| owner(revision) == uid);
        // A finished pod that was orphaned keeps the revision that it has.
        let all = state.objects.all(PODS);
        let orphans = all.iter().filter(|pod| !owner(pod).is_string());
        let kept: BTreeSet<_> = orphans
            .filter_map(|pod| labels(pod).remove(keys::CONTROLLER_REVISION))
            .collect();
        revisions.retain(|revision| !kept.contains(name_of(revision)));
        assert!(revisions.len() <= HISTORY_LIMIT + 1, "{revisions:#?}");
    }
}

/// A pod mounts one claim of each template, of its own id, and it is the only pod that does.
fn assert_mounts(object: &Value, pod: &Value, objects: &Objects, seen: &dyn Fn() -> String) {
    let templates = object["spec"]["volumeClaimTemplates"].as_array();
    let templates = templates.into_iter().flatten();
    let wanted: BTreeSet<_> = templates
        .map(|one| one["metadata"]["name"].to_string())
        .collect();
    let all: Vec<_> = claims::mounted(pod);
    let found = all.iter().map(|name| {
        let claim = objects.get(CLAIMS, name);
        assert!(claim.is_some(), "no claim {name}: {}", seen());
        let claim = claim.unwrap_or(&Value::Null);
        let [of, id, template, _] = claims::purpose(claim);
        let said = (of, id);
        let meant = (
            &object["metadata"]["uid"],
            &pod["metadata"]["labels"][keys::INSTANCE_ID],
        );
        // One that a user deleted stays as it was until its pod goes.
        let is_deleted = claim["metadata"]["deletionTimestamp"].is_string();
        assert!(is_deleted || said == meant, "{claim:#}: {}", seen());
        assert_eq!(claims::pods_of(objects, name).len(), 1, "{}", seen());
        template.to_string()
    });
    assert_eq!(found.collect::<BTreeSet<_>>(), wanted, "{}", seen());
    assert_eq!(all.len(), wanted.len(), "{}", seen());
}

/// A label of a lifecycle, a pair or a request: none is left on a pod that is as desired.
fn is_left_over(key: &str) -> bool {
    let domain = key.split('/').next().unwrap_or_default();
    let is_of_lifecycle = domain.ends_with("podopslifecycle.kusionstack.io");
    let is_of_set = domain == "collaset.kusionstack.io";
    (is_of_lifecycle && key != SERVICE_AVAILABLE) || (is_of_set && key != keys::INSTANCE_ID)
}
