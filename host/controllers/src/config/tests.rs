//! The watches as they ship, over an API server by script that lets ConfigMaps be watched and Secrets not.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use prometheus_client::registry::Registry;
use serde_json::{Value, json};

use super::*;
use crate::{
    fake::{self, answer, eventually},
    metrics::Metrics,
};

const REFUSED: &str = "secrets is forbidden: User \"system:serviceaccount:operon:operon\" cannot list resource \"secrets\" in API group \"\" at the cluster scope";

/// How often Secrets were listed, and whether that is allowed.
#[derive(Default)]
struct Secrets {
    lists: AtomicUsize,
    are_allowed: AtomicBool,
}

fn list(kind: &str, items: &Value) -> Value {
    json!({"kind": kind, "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items})
}

fn client(secrets: &Arc<Secrets>) -> Client {
    let secrets = Arc::clone(secrets);
    fake::client(move |request| {
        let uri = request.uri().to_string();
        if uri.contains("watch=true") {
            return None;
        }
        let item = json!({
            "metadata": {"name": "a", "namespace": "default", "uid": "u", "resourceVersion": "1"},
            "data": {"key": "value"},
        });
        if uri.contains("/configmaps") {
            return Some(answer(200, &list("ConfigMapList", &json!([item]))));
        }
        secrets.lists.fetch_add(1, Ordering::SeqCst);
        Some(if secrets.are_allowed.load(Ordering::SeqCst) {
            answer(200, &list("SecretList", &json!([])))
        } else {
            let status = json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": REFUSED, "reason": "Forbidden", "code": 403,
            });
            answer(403, &status)
        })
    })
}

fn object(triggers: &Value) -> ReactiveJob {
    let object = json!({
        "apiVersion": "batch.cs.sap.com/v1alpha1",
        "kind": "ReactiveJob",
        "metadata": {"name": "test", "namespace": "default", "uid": "1"},
        "spec": {
            "triggers": triggers,
            "jobTemplate": {"spec": {"template": {"spec": {"containers": [{
                "name": "main",
                "envFrom": [{"configMapRef": {"name": "a"}}, {"secretRef": {"name": "b"}}],
            }]}}}},
        },
    });
    serde_json::from_value(object).expect("a ReactiveJob")
}

struct Setting {
    configs: Configs,
    secrets: Arc<Secrets>,
    listed: Arc<AtomicUsize>,
}

fn setting() -> Setting {
    let (secrets, listed) = (Arc::<Secrets>::default(), Arc::<AtomicUsize>::default());
    let count = Arc::clone(&listed);
    let on_listed = move || {
        count.fetch_add(1, Ordering::SeqCst);
    };
    let health = Health::new(Metrics::register(&mut Registry::default()));
    let configs = Configs::new(
        client(&secrets),
        Arc::default(),
        Arc::new(|_, _| {}),
        Arc::new(on_listed),
        &Namespaces::all(),
        &health,
    );
    Setting {
        configs,
        secrets,
        listed,
    }
}

/// Longer than a watch that is refused waits before it tries again.
const LONGER: Duration = Duration::from_millis(2500);

#[tokio::test]
async fn what_can_be_watched_is_known_although_secrets_may_not_be() {
    let Setting {
        configs,
        secrets,
        listed,
    } = setting();
    let both = object(&json!({"configMaps": true, "secrets": true}));
    configs.watches.changed(&both, true);
    assert!(configs.state(&both).is_listing);
    eventually("the answer", || !configs.state(&both).is_listing).await;
    let state = configs.state(&both);
    let names: Vec<_> = state.known.keys().collect();
    assert_eq!(names, ["ConfigMap/a"]);
    assert_eq!(
        state.unwatched,
        [format!(
            "changes of Secrets in namespace \"default\" go unnoticed, because the host can't watch them: {REFUSED}; the chart's value reactiveJob.triggers.secrets grants the permission"
        )]
    );
    assert_eq!(listed.load(Ordering::SeqCst), 1);

    // The right is granted later.
    secrets.are_allowed.store(true, Ordering::SeqCst);
    eventually("another list", || configs.state(&both).unwatched.is_empty()).await;
    let state = configs.state(&both);
    assert_eq!(state.unwatched, [""; 0]);
    assert_eq!(state.known["Secret/b"], ABSENT);
    let is_woken = || listed.load(Ordering::SeqCst) == 2;
    eventually("whoever waited is woken", is_woken).await;
}

#[tokio::test]
async fn a_watch_ends_when_no_object_needs_it() {
    for edit in [None, Some(json!({"configMaps": true}))] {
        let Setting {
            configs, secrets, ..
        } = setting();
        let both = object(&json!({"configMaps": true, "secrets": true}));
        configs.watches.changed(&both, true);
        configs.state(&both);
        let is_listed = || secrets.lists.load(Ordering::SeqCst) > 0;
        eventually("a first list", is_listed).await;
        match &edit {
            Some(triggers) => configs.watches.changed(&object(triggers), true),
            None => configs.watches.changed(&both, false),
        }
        let lists = secrets.lists.load(Ordering::SeqCst);
        tokio::time::sleep(LONGER).await;
        // A reconcile that was under way does not begin it again.
        assert!(configs.state(&both).is_listing);
        tokio::time::sleep(LONGER).await;
        assert_eq!(secrets.lists.load(Ordering::SeqCst), lists);
    }
}

#[tokio::test]
async fn what_nobody_asks_for_is_not_watched() {
    let Setting { configs, .. } = setting();
    let none = object(&json!({}));
    configs.watches.changed(&none, true);
    assert_eq!(configs.state(&none), ConfigState::default());
}

fn secret(uid: &str, value: &str) -> SecretContent {
    let object = json!({
        "metadata": {"name": "b", "namespace": "default", "uid": uid},
        "data": {"key": value},
    });
    serde_json::from_value(object).expect("a Secret")
}

#[test]
fn the_digest_of_a_secret_can_be_verified_only_by_who_knows_its_uid() {
    let digest = secret("u", "dmFsdWU=").keyed();
    assert_eq!(secret("u", "dmFsdWU=").keyed(), digest);
    assert_ne!(secret("u", "b3RoZXI=").keyed(), digest);
    assert_ne!(secret("v", "dmFsdWU=").keyed(), digest);
    // What an older version wrote, by which its Jobs are recognized.
    let unkeyed = hex(&Sha256::digest(r#"{"key":"dmFsdWU="}"#)[..8]);
    assert_eq!(secret("u", "dmFsdWU=").unkeyed(), unkeyed);
    assert!(!digest.contains(&unkeyed));
}

#[tokio::test]
async fn nothing_of_the_content_is_kept_in_the_cache() {
    let client = fake::client(|request| {
        let item = json!({
            "metadata": {
                "name": "b", "namespace": "default", "uid": "u", "resourceVersion": "1",
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{\"data\": …}"},
            },
            "data": {"key": "dmFsdWU="},
        });
        let is_watch = request.uri().to_string().contains("watch=true");
        (!is_watch).then(|| answer(200, &list("SecretList", &json!([item]))))
    });
    let health = Health::new(Metrics::register(&mut Registry::default()));
    let (on_change, on_listed) = (Arc::new(|_: &str, _: &Reference| {}), Arc::new(|| {}));
    let configs = Configs::new(
        client,
        Arc::default(),
        on_change,
        on_listed,
        &Namespaces::all(),
        &health,
    );
    let secrets = object(&json!({"secrets": true}));
    configs.watches.changed(&secrets, true);
    eventually("the answer", || !configs.state(&secrets).is_listing).await;
    let cache = configs.watches.secrets(|| unreachable!("it has begun"));
    let kept = cache.expect("a cache").store.state();
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].metadata.annotations, Some(BTreeMap::new()));
    let state = configs.state(&secrets);
    assert_eq!(state.known["Secret/b"], secret("u", "dmFsdWU=").keyed());
    assert_eq!(state.unkeyed["Secret/b"], secret("u", "dmFsdWU=").unkeyed());
}
