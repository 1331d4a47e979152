//! The ControllerRevisions of a set.

use std::sync::Arc;

use kube::ResourceExt;
use serde_json::json;

use super::set::{named, set, written};
use crate::{
    colla_set::{Driven, Seen},
    driver::{Claim, Kind as _},
};

fn edit_image(seen: &mut Seen, image: &str) {
    seen.edit(|object| {
        let containers = json!([{"name": "main", "image": image}]);
        object.spec.template.0["spec"]["containers"] = containers;
        object.metadata.generation = object.metadata.generation.map(|before| before + 1);
    });
    seen.note_revision();
}

#[test]
fn a_template_that_is_applied_again_is_its_old_revision_which_becomes_the_newest() {
    let mut seen = set(1);
    let first = seen.revision();
    edit_image(&mut seen, "busybox:2");
    let second = seen.revision();
    assert_ne!(first, second);
    assert_eq!(
        (
            named(&seen, &first).revision,
            named(&seen, &second).revision
        ),
        (1, 2)
    );
    edit_image(&mut seen, "busybox");
    assert_eq!(seen.revisions.len(), 2);
    assert_eq!(seen.revision(), first);
    let plan = seen.plan();
    let renumber: Vec<_> = plan.renumber.into_iter().collect();
    assert_eq!(written(&renumber), [first]);
}

#[test]
fn what_a_schema_adds_to_a_template_is_no_new_revision() {
    let mut seen = set(1);
    let status = seen.conclude();
    seen.edit(|object| {
        object.status = Some(status);
        object.spec.template.0["spec"]["restartPolicy"] = json!("Always");
    });
    assert!(seen.plan().revision.is_none());
    // Nor if a user writes it.
    seen.edit(|object| object.metadata.generation = Some(2));
    assert!(seen.plan().revision.is_none());
    seen.edit(|object| object.spec.template.0["spec"]["schedulerName"] = json!("other"));
    assert!(seen.plan().revision.is_some());
}

#[test]
fn a_template_is_not_observed_before_its_revision_exists() {
    let mut seen = set(1);
    let status = seen.conclude();
    seen.edit(|object| {
        object.status = Some(status);
        object.spec.template.0["spec"]["hostNetwork"] = json!(true);
        object.metadata.generation = Some(2);
    });
    let status = seen.conclude();
    assert_eq!(status.observed_generation, Some(1));
    seen.edit(|object| object.status = Some(status));
    assert!(seen.plan().revision.is_some());
}

#[test]
fn as_many_unused_revisions_are_kept_as_the_history_limit_says() {
    let mut seen = set(1);
    seen.serve();
    let used = seen.revision();
    for image in ["a", "b", "c", "d"] {
        edit_image(&mut seen, image);
    }
    assert!(seen.plan().delete.is_empty());
    seen.edit(|object| object.spec.history_limit = Some(1));
    let deleted = written(&seen.plan().delete);
    assert_eq!(deleted.len(), 2);
    assert!(!deleted.contains(&used) && !deleted.contains(&seen.revision()));
}

#[test]
fn a_pod_that_has_finished_and_has_no_owner_keeps_no_revision() {
    let mut seen = set(1);
    seen.serve();
    for image in ["a", "b"] {
        edit_image(&mut seen, image);
    }
    seen.edit(|object| object.spec.history_limit = Some(0));
    let kept = written(&seen.plan().delete);
    seen.pod(
        0,
        &json!({"metadata": {"ownerReferences": []}, "status": {"phase": "Failed"}}),
    );
    let deleted = written(&seen.plan().delete);
    assert_eq!((kept.len(), deleted.len()), (1, 2));
}

#[test]
fn a_revision_without_an_owner_is_adopted_and_one_of_another_set_is_not() {
    let mut seen = set(1);
    let found = seen.revisions.pop().expect("the revision");
    let start = seen.plan().revision.expect("it is missing");
    let claim = |found| Driven::claim(&seen, &start, &found);
    assert_eq!(claim(json!(*found)), Claim::Mine);
    let mut orphan = (*found).clone();
    orphan.metadata.owner_references = None;
    assert!(matches!(claim(json!(orphan)), Claim::Adopt(_)));
    let mut foreign = (*found).clone();
    foreign.owner_references_mut()[0].uid = "another".to_owned();
    assert_eq!(claim(json!(foreign)), Claim::Others);
    let mut changed = (*found).clone();
    changed.data.as_mut().expect("data").0 = json!({"spec": {}});
    assert_eq!(claim(json!(changed)), Claim::Others);
    seen.revisions.push(Arc::new(changed));
    assert!(seen.plan().revision.is_some());
}
