//! Several sets whose ids are in one ResourceContext.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use kube::ResourceExt;
use operon_api::{ResourceContext, keys};
use serde_json::json;

use super::set::{created, set};
use crate::{
    action::Effect,
    colla_set::{Seen, pods::instance_id},
    driver::{
        Write,
        memory::{Chance, patched},
    },
};

const NAMES: [&str; 3] = ["blue", "green", "red"];

/// Sets that share a context. Each sees the version of it that its cache has.
struct Pool {
    sets: Vec<Seen>,
    context: Option<Arc<ResourceContext>>,
    version: u64,
}

impl Pool {
    fn new(replicas: i32) -> Self {
        let sets = NAMES.map(|name| {
            let mut seen = set(replicas);
            seen.edit(|object| {
                object.metadata.name = Some(name.to_owned());
                object.metadata.uid = Some(format!("{name}-uid"));
                let selector = json!({"matchLabels": {"app": name}});
                object.spec.selector = serde_json::from_value(selector).expect("a selector");
                object.spec.template.0["metadata"]["labels"]["app"] = json!(name);
                let strategy = json!({"context": "pool"});
                object.spec.scale_strategy =
                    Some(serde_json::from_value(strategy).expect("a strategy"));
            });
            seen.revisions.clear();
            seen.note_revision();
            seen
        });
        Self {
            sets: sets.into(),
            context: None,
            version: 0,
        }
    }

    /// The cache of a set learns of the context as it is now.
    fn look(&mut self, place: usize) {
        let seen = &mut self.sets[place];
        seen.context.clone_from(&self.context);
        let name = seen.object.name_any();
        let others = NAMES.iter().filter(|other| **other != name);
        seen.mates = others.map(|other| (*other).to_owned()).collect();
    }

    /// A set is reconciled: its pods are created, and the context is written if it is still the version that
    /// the set saw.
    fn reconcile(&mut self, place: usize) {
        let plan = self.sets[place].plan_now();
        for start in plan.create.iter().chain(&plan.pair) {
            let uid = format!("{}-{}", self.sets[place].object.name_any(), start.subject);
            self.sets[place].pods.push(Arc::new(created(start, &uid)));
        }
        for effect in &plan.edit {
            let Effect::Patch { object, body, .. } = effect else {
                continue;
            };
            let pods = &mut self.sets[place].pods;
            let pod = pods.iter_mut().find(|pod| pod.name_any() == object.name);
            let pod = pod.expect("a pod");
            *pod = Arc::new(patched(&**pod, body));
        }
        let next: ResourceContext = match (plan.context, &self.context) {
            (Some(Write::Make(start)), None) => created(&start, "context-uid"),
            (
                Some(Write::Do(Effect::Patch {
                    body,
                    resource_version,
                    ..
                })),
                Some(known),
            ) if resource_version == known.metadata.resource_version => patched(&**known, &body),
            _ => return,
        };
        self.version += 1;
        let mut next = next;
        next.metadata.resource_version = Some(self.version.to_string());
        self.context = Some(Arc::new(next));
        self.look(place);
    }

    fn assert_ids_differ(&self) {
        let mut holders = BTreeMap::new();
        for seen in &self.sets {
            for pod in &seen.pods {
                let id = instance_id(pod).expect("an id");
                let other = holders.insert(id, pod.name_any());
                assert_eq!(other, None, "{id} of {}", pod.name_any());
            }
        }
    }
}

#[test]
fn sets_that_share_a_context_never_have_the_same_id() {
    for seed in 0..200 {
        let chance = &mut Chance::new(seed);
        let mut pool = Pool::new(3);
        for _ in 0..60 {
            let place = chance.of(NAMES.len());
            match chance.of(8) {
                0..=2 => pool.look(place),
                3 => {
                    let replicas = i32::try_from(chance.of(6)).expect("few");
                    pool.sets[place].edit(|object| object.spec.replicas = replicas);
                    let pods = &mut pool.sets[place].pods;
                    pods.truncate(usize::try_from(replicas).expect("few"));
                }
                4 => {
                    let pods = &mut pool.sets[place].pods;
                    if !pods.is_empty() {
                        pods.remove(chance.of(pods.len()));
                    }
                }
                _ => pool.reconcile(place),
            }
            pool.assert_ids_differ();
        }
        for _ in 0..5 {
            for place in 0..NAMES.len() {
                pool.look(place);
                pool.reconcile(place);
            }
        }
        pool.assert_ids_differ();
        let pods = pool.sets.iter().flat_map(|seen| &seen.pods);
        let ids: BTreeSet<_> = pods.filter_map(|pod| instance_id(pod)).collect();
        let context = pool.context.as_ref().expect("a context");
        let known = context.spec.contexts.iter().flatten();
        let known: BTreeSet<_> = known.filter_map(|one| u32::try_from(one.id).ok()).collect();
        assert!(ids.is_subset(&known), "{ids:?} {known:?}");
        assert_eq!(context.owner_references().len(), NAMES.len());
    }
}

#[test]
fn an_id_that_another_set_has_in_the_context_is_given_up_by_the_pod_that_has_it_too() {
    let mut pool = Pool::new(2);
    for place in [0, 0, 1, 1] {
        pool.look(place);
        pool.reconcile(place);
    }
    let of = |pool: &Pool, place: usize| -> Vec<_> {
        let pods = pool.sets[place].pods.iter();
        pods.filter_map(|pod| instance_id(pod)).collect()
    };
    assert_eq!((of(&pool, 0), of(&pool, 1)), (vec![0, 1], vec![2, 3]));
    pool.sets[1].pod(
        0,
        &json!({"metadata": {"labels": {keys::INSTANCE_ID: "0"}}}),
    );
    for place in [1, 1, 0] {
        pool.look(place);
        pool.reconcile(place);
    }
    assert_eq!((of(&pool, 0), of(&pool, 1)), (vec![0, 1], vec![2, 3]));
}

#[test]
fn ids_of_a_set_that_does_not_exist_any_more_are_free_unless_its_pods_were_kept() {
    let mut pool = Pool::new(2);
    for place in [0, 0, 1, 1] {
        pool.look(place);
        pool.reconcile(place);
    }
    let mut left = pool.sets[0].pods.clone();
    let seen = &mut pool.sets[1];
    seen.mates.clear();
    seen.edit(|object| object.spec.replicas = 3);
    for pod in &mut left {
        Arc::make_mut(pod).metadata.owner_references = None;
    }
    let mut with_pods = seen.clone();
    with_pods.pods.extend(left);
    let id = |seen: &Seen| {
        let create = seen.plan().create;
        create[0].body["metadata"]["labels"][keys::INSTANCE_ID].clone()
    };
    assert_eq!(id(seen), "0");
    assert_eq!(id(&with_pods), "4");
}
