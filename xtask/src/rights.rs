//! Whether the chart grants a right that no story uses, as the API server's audit log shows.
//!
//! A right is a verb on a resource that a ServiceAccount of the chart has. It is used if a request by it, or as it, was not
//! forbidden. A right that no story uses has a reason in `UNUSED`, or is an error; and so is a reason for a right that is used.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use anyhow::{Result, bail};
use operon_devcluster::Progress;
use serde_json::Value;

use crate::audit::{self, Request};
use crate::host::NAMESPACE;
use crate::permissions;

/// A right of a ServiceAccount in the operator's namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Right {
    account: String,
    group: String,
    resource: String,
    verb: String,
}

impl Right {
    fn new(account: &str, group: &str, resource: &str, verb: &str) -> Self {
        Self {
            account: account.to_owned(),
            group: group.to_owned(),
            resource: resource.to_owned(),
            verb: verb.to_owned(),
        }
    }
}

impl fmt::Display for Right {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            account,
            group,
            resource,
            verb,
        } = self;
        let group = if group.is_empty() { "core" } else { group };
        write!(formatter, "{account}: {verb} {resource} ({group})")
    }
}

/// Rights that no request of a story uses, each with its reason. An empty text is any.
struct Unused {
    account: &'static str,
    group: &'static str,
    resource: &'static str,
    verb: &'static str,
    /// Why the right is granted nevertheless.
    #[expect(dead_code, reason = "for who reads it")]
    reason: &'static str,
}

const UNUSED: &[Unused] = &[
    owner("collasets/finalizers"),
    owner("daemonjobs/finalizers"),
    owner("jobflows/finalizers"),
    owner("reactivejobs/finalizers"),
    owner("replicasets/finalizers"),
];

/// A right that the admission plugin OwnerReferencesPermissionEnforcement asks for. No request uses it.
const fn owner(resource: &'static str) -> Unused {
    Unused {
        account: "",
        group: "",
        resource,
        verb: "update",
        reason: "an admission plugin asks for it when an owner reference blocks the deletion of its owner",
    }
}

impl Unused {
    fn covers(&self, right: &Right) -> bool {
        let fits = |wanted: &str, found: &str| wanted.is_empty() || wanted == found;
        fits(self.account, &right.account)
            && fits(self.group, &right.group)
            && fits(self.resource, &right.resource)
            && fits(self.verb, &right.verb)
    }
}

/// The rights that the requests of a log used.
pub(crate) fn used(log: &Path) -> Result<BTreeSet<Right>> {
    let mut used = BTreeSet::new();
    for request in audit::each(log)? {
        used.extend(uses(&request?));
    }
    Ok(used)
}

/// The rights that a request used.
fn uses(request: &Request) -> Vec<Right> {
    let own = |user: &str| {
        let name = user.strip_prefix("system:serviceaccount:")?;
        let name = name.strip_prefix(NAMESPACE)?.strip_prefix(':')?;
        Some(name.to_owned())
    };
    if request.code == 403 {
        return Vec::new();
    }
    let sender = own(&request.user);
    let impersonation = sender
        .as_ref()
        .filter(|_| request.acting_as.is_some())
        .map(|sender| Right::new(sender, "", "serviceaccounts", "impersonate"));
    let actor = match &request.acting_as {
        Some(user) => own(user),
        None => sender,
    };
    let act =
        actor.map(|actor| Right::new(&actor, &request.group, &request.resource, &request.verb));
    impersonation.into_iter().chain(act).collect()
}

/// The rights that the chart can grant to its ServiceAccounts.
fn granted(objects: &[Value]) -> BTreeSet<Right> {
    let list = |value: &Value| -> Vec<String> {
        let texts = value.as_array().into_iter().flatten();
        texts.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut granted = BTreeSet::new();
    for binding in objects {
        let role = &binding["roleRef"];
        let rules = objects.iter().filter(|object| {
            object["kind"] == role["kind"] && object["metadata"]["name"] == role["name"]
        });
        let rules = rules.filter_map(|role| role["rules"].as_array()).flatten();
        let Some(account) = binding["subjects"][0]["name"].as_str() else {
            continue;
        };
        for rule in rules {
            for group in list(&rule["apiGroups"]) {
                for resource in list(&rule["resources"]) {
                    let verbs = list(&rule["verbs"]).into_iter();
                    granted.extend(verbs.map(|verb| Right::new(account, &group, &resource, &verb)));
                }
            }
        }
    }
    granted
}

/// Fails if the chart grants a right that was not used.
pub(crate) fn check(used: &BTreeSet<Right>, progress: &Progress) -> Result<()> {
    let granted = granted(&permissions::with_everything(progress)?);
    compare(&granted, used, UNUSED)?;
    progress.say(format!(
        "the stories use the {} rights of the chart's accounts, but for those with a reason",
        granted.len()
    ));
    Ok(())
}

fn compare(granted: &BTreeSet<Right>, used: &BTreeSet<Right>, reasons: &[Unused]) -> Result<()> {
    let unused = granted.difference(used);
    let lacks_reason = |right: &&Right| !reasons.iter().any(|reason| reason.covers(right));
    let unused: Vec<_> = unused.filter(lacks_reason).map(Right::to_string).collect();
    if !unused.is_empty() {
        bail!(
            "no story uses these rights: remove them from the chart, write a story, or give a reason in xtask/src/rights.rs:\n  {}",
            unused.join("\n  ")
        );
    }
    let needless = reasons.iter().find(|reason| {
        let mut covered = granted.iter().filter(|right| reason.covers(right));
        covered.all(|right| used.contains(right))
    });
    match needless {
        Some(Unused {
            account,
            group,
            resource,
            verb,
            ..
        }) => bail!(
            "xtask/src/rights.rs has a reason for a right that a story uses, or that is not granted: {account} {verb} {resource} {group}"
        ),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn right(resource: &str, verb: &str) -> Right {
        Right::new("action-x", "", resource, verb)
    }

    fn reason(resource: &'static str) -> Unused {
        Unused {
            account: "",
            group: "",
            resource,
            verb: "",
            reason: "a test",
        }
    }

    #[test]
    fn a_request_uses_the_right_of_whom_it_acts_as_and_the_right_to_act_so() {
        let host = format!("system:serviceaccount:{NAMESPACE}:operon");
        let mut request = audit::answered(&host, "patch", "pods", "a", 0.0);
        assert_eq!(uses(&request), [Right::new("operon", "", "pods", "patch")]);
        request.acting_as = Some(format!("system:serviceaccount:{NAMESPACE}:action-x"));
        let impersonation = Right::new("operon", "", "serviceaccounts", "impersonate");
        assert_eq!(uses(&request), [impersonation, right("pods", "patch")]);
        request.code = 403;
        assert!(uses(&request).is_empty());
        let other = audit::answered(
            "system:serviceaccount:other:operon",
            "get",
            "pods",
            "a",
            0.0,
        );
        assert!(uses(&other).is_empty());
    }

    #[test]
    fn what_a_binding_grants_is_found() {
        let role = json!({"kind": "Role", "metadata": {"name": "r"}, "rules": [
            {"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get"]},
        ]});
        let unbound = json!({"kind": "ClusterRole", "metadata": {"name": "r"}, "rules": [
            {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]},
        ]});
        let binding = json!({
            "kind": "RoleBinding", "roleRef": {"kind": "Role", "name": "r"},
            "subjects": [{"name": "action-x"}],
        });
        let found = granted(&[role, unbound, binding]);
        let wanted = BTreeSet::from([right("pods", "get"), right("pods/log", "get")]);
        assert_eq!(found, wanted);
    }

    #[test]
    fn a_right_is_used_or_has_a_reason_and_never_both() {
        let granted = BTreeSet::from([right("pods", "get"), right("nodes", "get")]);
        let used = BTreeSet::from([right("pods", "get")]);
        assert!(compare(&granted, &used, &[]).is_err());
        assert!(compare(&granted, &used, &[reason("nodes")]).is_ok());
        assert!(compare(&granted, &granted, &[reason("nodes")]).is_err());
        let unknown = [reason("nodes"), reason("secrets")];
        assert!(compare(&granted, &used, &unknown).is_err());
    }
}
