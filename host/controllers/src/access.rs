//! Who an account is to the API server, and whether RBAC grants it a request: the API server is asked, as
//! that account. A 403 alone does not say so, because quotas, policies and webhooks refuse with the same
//! code.

use k8s_openapi::api::{
    authentication::v1::SelfSubjectReview,
    authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec},
};
use kube::{Api, Client, api::PostParams};

use crate::{apply::within_limit, error::Error};

/// Whether RBAC grants this to the account of the client.
///
/// # Errors
/// The API server did not answer, or not in time.
pub(crate) async fn is_granted(
    client: &Client,
    attributes: ResourceAttributes,
) -> Result<bool, Error> {
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(attributes),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let params = PostParams::default();
    let request = reviews.create(&params, &review);
    let object = || "a SelfSubjectAccessReview".to_owned();
    let answer = within_limit("create", object, request).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

/// The name of the user that the account of the client is; none if the API server does not say.
///
/// # Errors
/// The API server did not answer, or not in time.
pub(crate) async fn user(client: &Client) -> Result<Option<String>, Error> {
    let reviews: Api<SelfSubjectReview> = Api::all(client.clone());
    let (params, review) = (PostParams::default(), SelfSubjectReview::default());
    let request = reviews.create(&params, &review);
    let object = || "a SelfSubjectReview".to_owned();
    let status = within_limit("create", object, request).await?.status;
    let user = status.and_then(|status| status.user_info);
    Ok(user.and_then(|user| user.username))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fake;

    #[tokio::test(start_paused = true)]
    async fn an_api_server_that_does_not_answer_who_the_host_is_is_not_waited_for_long() {
        let client = fake::client(|_| None);
        let asked = tokio::time::timeout(Duration::from_mins(1), user(&client)).await;
        let answer = asked.expect("an answer within a minute");
        assert!(matches!(answer, Err(Error::Timeout { .. })), "{answer:?}");
    }
}
