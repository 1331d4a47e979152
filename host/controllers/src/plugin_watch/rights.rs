//! Whether the ServiceAccount of an action may read the kinds that the action declares: asked before the first list,
//! and again for as long as the caches exist, because a watch that has begun may outlive the right to it.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::authorization::v1::ResourceAttributes;
use kube::{Client, core::ApiResource};
use operon_core::{action::LoadError, namespaces::Namespaces};

use crate::{access::is_granted, error::Error};

/// How often it is asked again: a right that was revoked is noticed within a minute, with room for the answers.
const INTERVAL: Duration = Duration::from_secs(45);

/// Called with the reason, as the end of a sentence, as often as it is found that a right is missing.
pub type OnRevoked = Arc<dyn Fn(&str) + Send + Sync>;

/// An account, and what it must be allowed to read.
pub(super) struct Rights {
    pub(super) client: Client,
    pub(super) service_account: String,
    /// Where it reads kinds that are not cluster-scoped.
    pub(super) namespaces: Namespaces,
    /// The kinds that it reads, and whether each is cluster-scoped.
    pub(super) kinds: Vec<(ApiResource, bool)>,
}

impl Rights {
    /// Adds a kind, if the account may read it.
    pub(super) async fn add(
        &mut self,
        kind: &ApiResource,
        is_cluster_scoped: bool,
    ) -> Result<(), LoadError> {
        let refusal = self
            .refusal(kind, is_cluster_scoped)
            .await
            .map_err(|error| LoadError {
                reason: "AccessReviewFailed",
                message: format!(
                    "failed to check whether ServiceAccount {:?} may read {}: {}",
                    self.service_account,
                    kind.plural,
                    error.chain()
                ),
                transient: true,
            })?;
        if let Some(message) = refusal {
            return Err(LoadError {
                reason: "WatchForbidden",
                message,
                transient: true,
            });
        }
        self.kinds.push((kind.clone(), is_cluster_scoped));
        Ok(())
    }

    /// Asks again and again. Without an answer nothing changes: no read succeeds then either.
    pub(super) async fn keep_checking(self, on_revoked: OnRevoked) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            for (kind, is_cluster_scoped) in &self.kinds {
                match self.refusal(kind, *is_cluster_scoped).await {
                    Ok(None) => {}
                    Ok(Some(why)) => on_revoked(&why),
                    Err(error) => tracing::debug!(
                        account = self.service_account,
                        kind = kind.plural,
                        error = error.chain(),
                        "whether the account may still read the kind is not known"
                    ),
                }
            }
        }
    }

    /// Why the account may not list and watch the kind wherever it reads it; none if it may.
    async fn refusal(
        &self,
        kind: &ApiResource,
        is_cluster_scoped: bool,
    ) -> Result<Option<String>, Error> {
        let places = match self.namespaces.names() {
            Some(names) if !is_cluster_scoped => names.iter().map(Some).collect(),
            Some(_) | None => vec![None],
        };
        for namespace in places {
            for verb in ["list", "watch"] {
                let attributes = ResourceAttributes {
                    group: Some(kind.group.clone()),
                    resource: Some(kind.plural.clone()),
                    verb: Some(verb.to_owned()),
                    namespace: namespace.cloned(),
                    ..ResourceAttributes::default()
                };
                if !is_granted(&self.client, attributes).await? {
                    let account = &self.service_account;
                    return Ok(Some(missing(account, verb, &kind.plural, namespace)));
                }
            }
        }
        Ok(None)
    }
}

/// What is not granted, and what grants it.
fn missing(account: &str, verb: &str, kind: &str, namespace: Option<&String>) -> String {
    let (place, roles) = match namespace {
        Some(namespace) => (
            format!("in namespace {namespace:?}"),
            "a RoleBinding in that namespace",
        ),
        None => (
            "in all namespaces".to_owned(),
            "a ClusterRole and a ClusterRoleBinding",
        ),
    };
    format!(
        "ServiceAccount {account:?} may not {verb} {kind} {place}, but the action declares that it reads them; grant the permission with {roles}"
    )
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    };

    use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
    use serde_json::json;

    use super::*;
    use crate::{fake, store::AbortOnDrop};

    /// The account's rights, in an API server that counts the questions.
    struct Asked {
        may_read: AtomicBool,
        questions: AtomicUsize,
    }

    fn rights(asked: &Arc<Asked>) -> Rights {
        let asked = Arc::clone(asked);
        let client = fake::client(move |request| {
            asked.questions.fetch_add(1, Ordering::Relaxed);
            let is_pods = request.body().contains("pods");
            let allowed = is_pods || asked.may_read.load(Ordering::Relaxed);
            let status = json!({"spec": {}, "status": {"allowed": allowed}});
            Some(fake::answer(201, &status))
        });
        Rights {
            client,
            service_account: "action".to_owned(),
            namespaces: Namespaces::all(),
            kinds: Vec::new(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_right_that_is_revoked_is_noticed_within_a_minute_and_seldom_asked_for() {
        let asked = Arc::new(Asked {
            may_read: AtomicBool::new(true),
            questions: AtomicUsize::new(0),
        });
        let mut rights = rights(&asked);
        for kind in [
            ApiResource::erase::<Pod>(&()),
            ApiResource::erase::<ConfigMap>(&()),
        ] {
            rights
                .add(&kind, false)
                .await
                .expect("the account may read it");
        }
        let revoked = Arc::new(Mutex::new(Vec::new()));
        let reasons = Arc::clone(&revoked);
        let on_revoked = move |why: &str| {
            let mut reasons = reasons.lock().unwrap_or_else(PoisonError::into_inner);
            reasons.push(why.to_owned());
        };
        let task = tokio::spawn(rights.keep_checking(Arc::new(on_revoked)));
        let found = || {
            revoked
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone()
        };
        tokio::time::sleep(Duration::from_mins(10)).await;
        assert!(found().is_empty(), "{:?}", found());
        let questions = asked.questions.load(Ordering::Relaxed);
        assert!(questions <= 4 * 15, "{questions} in ten minutes");
        asked.may_read.store(false, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_mins(1)).await;
        let reasons = found();
        assert!(!reasons.is_empty(), "nothing was noticed");
        let why = "ServiceAccount \"action\" may not list configmaps in all namespaces";
        for reason in reasons {
            assert!(reason.starts_with(why), "{reason}");
        }
        // The questions end with what asks them.
        drop(AbortOnDrop(task));
        tokio::time::sleep(Duration::from_secs(1)).await;
        let questions = asked.questions.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_mins(10)).await;
        assert_eq!(asked.questions.load(Ordering::Relaxed), questions);
    }

    #[tokio::test]
    async fn a_kind_that_the_account_may_not_read_is_not_watched() {
        let asked = Arc::new(Asked {
            may_read: AtomicBool::new(false),
            questions: AtomicUsize::new(0),
        });
        let mut rights = rights(&asked);
        let kind = ApiResource::erase::<ConfigMap>(&());
        let refusal = rights.add(&kind, false).await.expect_err("a refusal");
        assert_eq!(
            (refusal.reason, refusal.transient),
            ("WatchForbidden", true)
        );
        assert!(rights.kinds.is_empty());
    }

    #[tokio::test]
    async fn an_account_needs_its_rights_in_each_namespace_and_those_to_nodes_in_the_cluster() {
        let client = fake::client(|request| {
            let body = request.body();
            let is_nodes = body.contains("\"nodes\"");
            let allowed = if is_nodes {
                !body.contains("\"namespace\"")
            } else {
                body.contains("\"namespace\":\"a\"")
            };
            let status = json!({"spec": {}, "status": {"allowed": allowed}});
            Some(fake::answer(201, &status))
        });
        let mut rights = Rights {
            client,
            service_account: "action".to_owned(),
            namespaces: Namespaces::only(["a".to_owned()]),
            kinds: Vec::new(),
        };
        let (pods, nodes) = (
            ApiResource::erase::<Pod>(&()),
            ApiResource::erase::<Node>(&()),
        );
        rights.add(&pods, false).await.expect("the right in a");
        rights.add(&nodes, true).await.expect("the right to nodes");
        rights.namespaces = Namespaces::only(["a", "b"].map(str::to_owned));
        let refusal = rights.add(&pods, false).await.expect_err("none in b");
        let why = "ServiceAccount \"action\" may not list pods in namespace \"b\"";
        assert!(refusal.message.starts_with(why), "{}", refusal.message);
    }
}
