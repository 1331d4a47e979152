//! Effects as the API server is sent them.

use super::*;
use crate::fake;

#[tokio::test]
async fn an_eviction_says_which_pod_of_the_name_is_meant_and_how_it_ends() {
    let sent = Arc::new(Mutex::new(Value::Null));
    let request = Arc::clone(&sent);
    let client = fake::client(move |asked| {
        let body = serde_json::from_str(asked.body()).unwrap_or_default();
        *request.lock().unwrap_or_else(PoisonError::into_inner) = body;
        Some(fake::answer(201, &json!({"status": "Success"})))
    });
    let evict = Effect::Evict {
        pod: "web-0".to_owned(),
        uid: Some("first".to_owned()),
        resource_version: Some("7".to_owned()),
        grace_period_seconds: Some(5),
    };
    let performer = Performer::of_client(client, "operon", []);
    performer
        .perform(&OnBehalf::any_in("shop"), &evict)
        .await
        .expect("evicted");
    let sent = sent.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let options = &sent["deleteOptions"];
    let meant = json!({"uid": "first", "resourceVersion": "7"});
    assert_eq!(options["preconditions"], meant, "{sent}");
    assert_eq!(options["gracePeriodSeconds"], 5);
    assert_eq!(sent["metadata"]["name"], "web-0");
}

#[tokio::test]
async fn a_pod_whose_eviction_was_accepted_is_not_evicted_again_before_the_watch_reports_it() {
    let sent = Arc::new(Mutex::new(0));
    let requests = Arc::clone(&sent);
    let client = fake::client(move |_| {
        *requests.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Some(fake::answer(201, &json!({"status": "Success"})))
    });
    let performer = Performer::of_client(client, "operon", []);
    for uid in ["u1", "u1", "u2"] {
        let evict = Effect::Evict {
            pod: "web-0".to_owned(),
            uid: Some(uid.to_owned()),
            resource_version: None,
            grace_period_seconds: None,
        };
        performer
            .perform(&OnBehalf::any_in("shop"), &evict)
            .await
            .expect("evicted");
    }
    let sent = *sent.lock().unwrap_or_else(PoisonError::into_inner);
    assert_eq!(sent, 2, "one for each pod");
}

#[test]
fn a_field_manager_is_as_long_as_the_api_server_accepts() {
    assert_eq!(manager("replace"), "operon-action-replace");
    let longest = "p".repeat(114);
    assert_eq!(manager(&longest), format!("operon-action-{longest}"));
    let (one, other) = ("p".repeat(252) + "a", "p".repeat(252) + "b");
    for name in [&one, &other] {
        assert_eq!(manager(name).len(), MANAGER_BYTES);
    }
    assert_ne!(manager(&one), manager(&other));
}

#[tokio::test]
async fn the_api_server_is_not_asked_for_kinds_that_the_host_knows() {
    let client = fake::client(|request| unreachable!("{request:?}"));
    let config = Config::new(http::Uri::from_static("http://localhost"));
    let performers = Performers::new(config, client, "operon-system".to_owned());
    for (api_version, kind, plural) in [
        ("v1", "Pod", "pods"),
        (
            "apps.kusionstack.io/v1alpha1",
            "ResourceContext",
            "resourcecontexts",
        ),
    ] {
        let found = performers.kind(api_version, kind).await.expect(kind);
        assert_eq!(found.plural, plural);
    }
}
