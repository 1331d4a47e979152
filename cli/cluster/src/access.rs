//! What the user may do: the API server is asked, as that user.

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::{Api, api::PostParams};
use operon_cli_model::{Kind, Right};

use crate::{
    cluster::{Cluster, timely},
    failure::Failure,
};

/// A request that the API server may refuse to the user.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Access {
    /// What is done.
    pub right: Right,
    /// To an object of this kind.
    pub kind: Kind,
    /// In this namespace.
    pub namespace: String,
    /// Of this name; none if it is new.
    pub name: Option<String>,
}

impl Cluster {
    /// Why the user may not do this; none if the user may.
    ///
    /// # Errors
    /// It is not known.
    pub async fn refusal(&self, access: &Access) -> Result<Option<String>, Failure> {
        let attributes = ResourceAttributes {
            verb: Some(access.right.verb().to_owned()),
            group: Some(access.kind.group().to_owned()),
            resource: Some(access.kind.plural().to_owned()),
            namespace: Some(access.namespace.clone()),
            name: access.name.clone(),
            ..ResourceAttributes::default()
        };
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(attributes),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        };
        let reviews: Api<SelfSubjectAccessReview> = Api::all(self.client());
        let answer = timely(reviews.create(&PostParams::default(), &review)).await?;
        let status = answer.status.unwrap_or_default();
        Ok((!status.allowed).then(|| access.refused(status.reason.as_deref())))
    }
}

impl Access {
    /// The refusal in words, with the reason of the API server.
    fn refused(&self, reason: Option<&str>) -> String {
        let reason = reason.filter(|reason| !reason.is_empty());
        let reason = reason.map_or(String::new(), |reason| format!(" ({reason})"));
        format!(
            "you may not {} {}.{} in namespace {}{reason}; an administrator of the namespace or of the cluster can grant this right",
            self.right.verb(),
            self.kind.plural(),
            self.kind.group(),
            self.namespace
        )
    }
}
