//! Whether RBAC grants a request: the API server is asked, as the account whose rights are meant. A 403
//! alone does not say so, because quotas, policies and webhooks refuse with the same code.

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
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
