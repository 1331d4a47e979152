use http::{Request, Response};
use kube::{client::Body, core::ApiResource};
use serde_json::{Value, json};

use super::*;
use crate::{effects::OnBehalf, fake};

/// The answers of an API server whose webhook, quota or RBAC forbids every write. RBAC grants everything
/// but these `verb resource[/subresource]`.
fn forbids(denied: &'static [&'static str]) -> Performer {
    let answer = move |request: &Request<String>| -> Option<Response<Body>> {
        if !request.uri().path().ends_with("selfsubjectaccessreviews") {
            let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
                "code": 403, "reason": "Forbidden", "message": "no"});
            return Some(fake::answer(403, &status));
        }
        let mut review: Value = serde_json::from_str(request.body()).expect("a review");
        let asked = &review["spec"]["resourceAttributes"];
        let text = |key: &str| asked[key].as_str().unwrap_or_default();
        assert_eq!(text("namespace"), "shop");
        let name = asked["name"].as_str();
        assert!([None, Some("web-0")].contains(&name), "{name:?}");
        let subresource = text("subresource");
        let slash = if subresource.is_empty() { "" } else { "/" };
        let asked = format!("{} {}{slash}{subresource}", text("verb"), text("resource"));
        review["status"] = json!({"allowed": !denied.contains(&asked.as_str())});
        Some(fake::answer(201, &review))
    };
    let pods = ApiResource::erase::<k8s_openapi::api::core::v1::Pod>(&());
    Performer::of_client(fake::client(answer), "test", [pods])
}

fn pod() -> ObjectReference {
    ObjectReference {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        name: "web-0".to_owned(),
    }
}

/// An eviction, a deletion, a patch of a subresource, an apply and a creation.
fn effects() -> [Effect; 5] {
    let body = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web-0"}});
    [
        Effect::Evict {
            pod: "web-0".to_owned(),
            uid: None,
            resource_version: None,
            grace_period_seconds: None,
        },
        Effect::Delete {
            object: pod(),
            uid: None,
            resource_version: None,
            grace_period_seconds: None,
            propagation: operon_core::action::Propagation::Background,
        },
        Effect::Patch {
            object: pod(),
            subresource: Some("resize".to_owned()),
            kind: operon_core::action::PatchKind::Merge,
            body: json!({}),
            uid: None,
            resource_version: None,
        },
        Effect::Apply(body.clone()),
        Effect::Create(body),
    ]
}

async fn refused(performer: &Performer, effect: &Effect) -> ActionError {
    let error = performer.perform(&OnBehalf::any_in("shop"), effect).await;
    let error = error.expect_err("the API server forbids it");
    let needed = Access::to_perform(effect);
    performer.action_error("shop", &needed, error).await
}

#[tokio::test]
async fn a_403_that_rbac_did_not_cause_is_tried_again() {
    let performer = forbids(&[]);
    for effect in effects() {
        let error = refused(&performer, &effect).await;
        assert!(
            matches!(&error, ActionError::Retry(failure, None) if failure.reason == "Forbidden"),
            "{effect:?}: {error:?}"
        );
    }
}

#[tokio::test]
async fn a_missing_permission_fails_the_target() {
    let performer = forbids(&[
        "create pods/eviction",
        "delete pods",
        "patch pods/resize",
        "create pods",
    ]);
    for effect in effects() {
        let error = refused(&performer, &effect).await;
        assert!(
            matches!(&error, ActionError::Terminal(failure) if failure.reason == "Forbidden"),
            "{effect:?}: {error:?}"
        );
    }
}

#[tokio::test]
async fn a_rule_that_names_objects_grants_no_creation() {
    let answer = |request: &Request<String>| -> Option<Response<Body>> {
        if !request.uri().path().ends_with("selfsubjectaccessreviews") {
            let status = json!({"kind": "Status", "status": "Failure", "code": 403});
            return Some(fake::answer(403, &status));
        }
        let mut review: Value = serde_json::from_str(request.body()).expect("a review");
        let name = &review["spec"]["resourceAttributes"]["name"];
        review["status"] = json!({"allowed": name == "web-0"});
        Some(fake::answer(201, &review))
    };
    let pods = ApiResource::erase::<k8s_openapi::api::core::v1::Pod>(&());
    let performer = Performer::of_client(fake::client(answer), "test", [pods]);
    for effect in effects() {
        let error = refused(&performer, &effect).await;
        let is_terminal = matches!(error, ActionError::Terminal(_));
        assert_eq!(
            is_terminal,
            matches!(effect, Effect::Create(_)),
            "{effect:?}: {error:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_access_review_without_an_answer_does_not_hold_up_a_call() {
    let performer = Performer::of_client(
        fake::client(|request| {
            let is_review = request.uri().path().ends_with("selfsubjectaccessreviews");
            let status = json!({"kind": "Status", "status": "Failure", "code": 403});
            (!is_review).then(|| fake::answer(403, &status))
        }),
        "test",
        [ApiResource::erase::<k8s_openapi::api::core::v1::Pod>(&())],
    );
    let [evict, ..] = effects();
    let limit = std::time::Duration::from_mins(1);
    let error = tokio::time::timeout(limit, refused(&performer, &evict)).await;
    assert!(matches!(error, Ok(ActionError::Retry(..))), "{error:?}");
}

#[tokio::test]
async fn a_requirement_that_the_account_may_not_read_fails_the_target() {
    let requirements = [Requirement {
        object: pod(),
        uid: "u".to_owned(),
        resource_version: None,
    }];
    let needed = Access::to_check(&requirements);
    for (denied, fails) in [(&["get pods"][..], true), (&[], false)] {
        let performer = forbids(denied);
        let error = performer.require("shop", &requirements).await;
        let error = error.expect_err("the API server forbids it");
        let error = performer.action_error("shop", &needed, error).await;
        let is_terminal = matches!(error, ActionError::Terminal(_));
        assert_eq!(is_terminal, fails, "{error:?}");
    }
}
