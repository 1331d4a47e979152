//! The RBAC rules for what an action reads, as a manifest that can be applied beside that of the plugin.

use std::fmt::Write as _;

use kube::core::{ApiResource, GroupVersionKind};
use operon_api::keys;
use operon_core::action::Watch;
use serde_json::json;

/// What the component does not say, and the author has to add.
const EFFECTS: &str = "\
# The manifest of the plugin grants what the action does; a component does not declare these rights:
#   patch       verb patch of the resource, or of its subresource such as pods/status
#   apply       verbs patch and create
#   create      verb create
#   delete      verb delete
#   evict       verb create of pods/eviction
#   event       nothing
#   requirement verb get
# The target's own pod is read without any right.
";

/// ServiceAccount, ClusterRole and ClusterRoleBinding of an action.
pub(super) fn manifest(action: &str, namespace: &str, watches: &[Watch]) -> String {
    let action = action.to_lowercase().replace('_', "-");
    let account = scalar(&format!("action-{action}"));
    // A role of its own: that of the plugin's manifest stays as it is.
    let role = scalar(&format!("action-{action}-reads"));
    let namespace = scalar(namespace);
    format!(
        "\
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {account}
  namespace: {namespace}
  labels:
    # An action may act as this account.
    {label}: \"true\"
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: {role}
{rules}---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: {role}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: {role}
subjects:
- kind: ServiceAccount
  name: {account}
  namespace: {namespace}
",
        label = keys::ACTION_ACCOUNT,
        rules = rules(watches)
    )
}

fn rules(watches: &[Watch]) -> String {
    let mut text = EFFECTS.to_owned();
    if watches.is_empty() {
        text.push_str("rules: []\n");
        return text;
    }
    text.push_str("rules:\n");
    for watch in watches {
        let (group, version) = watch
            .api_version
            .split_once('/')
            .unwrap_or(("", &watch.api_version));
        let kind = GroupVersionKind::gvk(group, version, &watch.kind);
        let resource = ApiResource::from_gvk(&kind).plural;
        // Writing to a String can't fail.
        let _ = write!(
            text,
            "- apiGroups: [{}]\n  resources: [{}]{}\n  verbs: [list, watch]\n",
            scalar(group),
            scalar(&resource),
            guess(group)
        );
    }
    text
}

/// A text in YAML, quoted unless it is plainly a name: a component may declare anything. JSON is YAML.
fn scalar(text: &str) -> String {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let is_name = text.starts_with(|c: char| c.is_ascii_lowercase()) && text.chars().all(fits);
    // What YAML 1.1 reads as another type.
    let is_word = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&text);
    if is_name && !is_word {
        text.to_owned()
    } else {
        json!(text).to_string()
    }
}

/// The plural of a kind is in the API server only; those of Kubernetes are regular.
fn guess(group: &str) -> &'static str {
    if group.is_empty() || !group.contains('.') || group.ends_with(".k8s.io") {
        ""
    } else {
        "    # derived from the kind: compare with `kubectl api-resources`"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(api_version: &str, kind: &str) -> Watch {
        Watch {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            ..Watch::default()
        }
    }

    #[test]
    fn a_rule_lists_and_watches_each_declared_kind() {
        let text = rules(&[
            watch("v1", "Pod"),
            watch("networking.k8s.io/v1", "NetworkPolicy"),
            watch("apps.kusionstack.io/v1alpha1", "CollaSet"),
        ]);
        assert!(text.ends_with(
            "\
rules:
- apiGroups: [\"\"]
  resources: [pods]
  verbs: [list, watch]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [list, watch]
- apiGroups: [apps.kusionstack.io]
  resources: [collasets]    # derived from the kind: compare with `kubectl api-resources`
  verbs: [list, watch]
"
        ));
    }

    #[test]
    fn a_declared_kind_is_only_a_text_in_the_manifest() {
        let text = manifest("x", "ns", &[watch("v1", "Pod\"]\nrules: [\"")]);
        let parsed = serde_yaml_ng::Deserializer::from_str(&text);
        assert_eq!(parsed.count(), 3);
        assert_eq!(text.matches("\nrules:").count(), 1, "{text}");
    }
}
