//! Whether RBAC grants a request: the API server is asked, as the account whose rights are meant. A 403
//! alone does not say so, because quotas, policies and webhooks refuse with the same code.

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::{Api, Client, api::PostParams};

/// Whether RBAC grants this to the account of the client.
///
/// # Errors
/// The API server did not answer.
pub(crate) async fn is_granted(
    client: &Client,
    attributes: ResourceAttributes,
) -> Result<bool, kube::Error> {
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(attributes),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let answer = reviews.create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}
