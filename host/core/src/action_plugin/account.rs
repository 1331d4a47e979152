//! Which ServiceAccount an action may act as: one that says so itself, and never the host's own. Pure.

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::ResourceExt;
use operon_api::keys;

use crate::action::LoadError;

/// The user that a ServiceAccount is.
pub fn service_account_user(namespace: &str, name: &str) -> String {
    format!("system:serviceaccount:{namespace}:{name}")
}

/// A ServiceAccount of the operator's namespace that an ActionPlugin names.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    /// The operator's namespace.
    pub namespace: &'a str,
    /// `spec.serviceAccountName`
    pub name: &'a str,
    /// The ServiceAccount, if it exists.
    pub account: Option<&'a ServiceAccount>,
}

impl Named<'_> {
    /// Why no action may act as the ServiceAccount; none if an action may, unless it is the host's own.
    pub fn refusal(&self) -> Option<LoadError> {
        let Self {
            namespace,
            name,
            account,
        } = self;
        let (reason, message) = match account {
            None => (
                "ServiceAccountNotFound",
                format!(
                    "spec.serviceAccountName {name:?} does not exist in namespace {namespace:?}"
                ),
            ),
            Some(account) if !allows_actions(account) => (
                "ServiceAccountNotAllowed",
                format!(
                    "ServiceAccount {name:?} lacks the label {}=true, so no action may act as it; if this action shall have its rights, run: kubectl --namespace {namespace} label serviceaccount {name} {}=true",
                    keys::ACTION_ACCOUNT,
                    keys::ACTION_ACCOUNT
                ),
            ),
            Some(_) => return None,
        };
        Some(LoadError {
            reason,
            message,
            transient: false,
        })
    }

    /// Why no action may act as the ServiceAccount on a host that is this user; none if an action may. A host
    /// that does not know who it is might be the ServiceAccount, so it lets no action act.
    pub fn refusal_by_host(&self, host: Option<&str>) -> Option<LoadError> {
        let Some(host) = host.filter(|user| !user.is_empty()) else {
            return Some(LoadError {
                reason: "HostUserUnknown",
                message: "the API server did not say which user the host is, so no action may act: its ServiceAccount could be the host's own".to_owned(),
                transient: true,
            });
        };
        if host == service_account_user(self.namespace, self.name) {
            return Some(LoadError {
                reason: "HostServiceAccount",
                message: format!(
                    "spec.serviceAccountName {:?} is the host's own account; give the action one of its own, with only the rights that it needs",
                    self.name
                ),
                transient: false,
            });
        }
        self.refusal()
    }
}

fn allows_actions(account: &ServiceAccount) -> bool {
    let label = account.labels().get(keys::ACTION_ACCOUNT);
    label.is_some_and(|value| value == "true")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(label: Option<&str>) -> ServiceAccount {
        let mut account = ServiceAccount::default();
        if let Some(value) = label {
            let labels = account.labels_mut();
            labels.insert(keys::ACTION_ACCOUNT.to_owned(), value.to_owned());
        }
        account
    }

    fn refused(
        account: Option<&ServiceAccount>,
        host: Option<&str>,
    ) -> Option<(&'static str, bool)> {
        let named = Named {
            namespace: "system",
            name: "action",
            account,
        };
        let refusal = named.refusal_by_host(host)?;
        Some((refusal.reason, refusal.transient))
    }

    #[test]
    fn an_action_acts_only_as_an_account_that_says_so_and_is_not_the_hosts() {
        let (unlabelled, allowed, denied) =
            (account(None), account(Some("true")), account(Some("false")));
        let host = Some("system:serviceaccount:system:operon");
        let own = Some("system:serviceaccount:system:action");
        for (account, host, reason) in [
            (Some(&allowed), host, None),
            (Some(&allowed), Some("admin"), None),
            // An account of that name in another namespace is another one.
            (
                Some(&allowed),
                Some("system:serviceaccount:other:action"),
                None,
            ),
            (
                Some(&unlabelled),
                host,
                Some(("ServiceAccountNotAllowed", false)),
            ),
            (
                Some(&denied),
                host,
                Some(("ServiceAccountNotAllowed", false)),
            ),
            (None, host, Some(("ServiceAccountNotFound", false))),
            (Some(&allowed), own, Some(("HostServiceAccount", false))),
            (Some(&unlabelled), own, Some(("HostServiceAccount", false))),
            (Some(&allowed), None, Some(("HostUserUnknown", true))),
            (Some(&allowed), Some(""), Some(("HostUserUnknown", true))),
        ] {
            assert_eq!(refused(account, host), reason, "{account:?} {host:?}");
        }
    }

    #[test]
    fn a_refusal_has_the_command_that_ends_it() {
        let unlabelled = account(None);
        let named = Named {
            namespace: "system",
            name: "action",
            account: Some(&unlabelled),
        };
        let refusal = named.refusal().expect("a refusal");
        let command =
            "kubectl --namespace system label serviceaccount action operon.dev/action-account=true";
        assert!(refusal.message.ends_with(command), "{refusal}");
    }
}
