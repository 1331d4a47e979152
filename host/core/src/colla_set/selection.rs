//! Which pods a CollaSet selects.

use kube::core::{Selector, SelectorExt as _};
use operon_api::{CollaSet, embedded::PodTemplateSpec};
use serde_json::Value;

use super::claim_template;
use crate::{action::Failure, pod_lifecycle::labels::Labels};

/// The selector of a CollaSet, which matches its own template.
///
/// # Errors
/// It selects everything, cannot be read, or does not match the labels of the template; or the template has a
/// label that only controllers set; or the claim templates cannot be used.
pub(super) fn selector(object: &CollaSet) -> Result<Selector, Failure> {
    let refused = |message: String| Failure::new("InvalidSelector", message);
    let selector = Selector::try_from(object.spec.selector.clone())
        .map_err(|error| refused(format!("spec.selector cannot be read: {error}")))?;
    if selector.selects_all() {
        let message = "spec.selector selects every pod: add a label to spec.selector.matchLabels";
        return Err(refused(message.to_owned()));
    }
    if !selector.matches(&texts(&object.spec.template, "labels")) {
        let message = format!(
            "spec.selector ({selector}) does not match spec.template.metadata.labels: the pods would not \
             belong to the CollaSet"
        );
        return Err(refused(message));
    }
    let template = &object.spec.template;
    let reserved = texts(template, "labels")
        .into_keys()
        .find(|key| is_reserved(key));
    if let Some(key) = reserved {
        let message = format!(
            "spec.template.metadata.labels has {key:?}, which only controllers set on pods: remove it"
        );
        return Err(Failure::new("InvalidTemplate", message));
    }
    if let Some(problem) = claim_template::problem(&object.spec.volume_claim_templates) {
        return Err(problem);
    }
    let restart = template
        .at(&["spec", "restartPolicy"])
        .and_then(Value::as_str);
    if let Some(policy) = restart.filter(|policy| *policy != "Always") {
        let message = format!(
            "spec.template.spec.restartPolicy is {policy:?}; only \"Always\" is supported, because a pod that \
             has finished is created again"
        );
        return Err(Failure::new("InvalidTemplate", message));
    }
    Ok(selector)
}

/// Whether a label is one of the protocols' own.
fn is_reserved(key: &str) -> bool {
    let domain = key.split('/').next().unwrap_or_default();
    domain.ends_with("podopslifecycle.kusionstack.io") || domain == "collaset.kusionstack.io"
}

/// The labels or the annotations of a template.
pub(crate) fn texts(template: &PodTemplateSpec, field: &str) -> Labels {
    let texts = template.at(&["metadata", field]);
    let texts = texts.and_then(Value::as_object).into_iter().flatten();
    texts
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}
