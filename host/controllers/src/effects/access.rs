//! Which permissions an operation needs, and whether RBAC grants them: that decides the class of a refusal.
//! A missing permission fails the target; after a refusal by a quota, a policy or a webhook, the target
//! waits.

use k8s_openapi::api::authorization::v1::ResourceAttributes;
use operon_core::action::{ActionError, Effect, ObjectReference, Requirement};

use super::{Performer, reference};
use crate::{access::is_granted, error::Error};

/// One permission: a verb on an object or on a subresource of it, or on all objects of a kind if the name is
/// empty.
#[derive(Debug, PartialEq, Eq)]
pub struct Access {
    verb: &'static str,
    object: ObjectReference,
    subresource: Option<String>,
}

impl Access {
    /// What performing this effect needs.
    pub fn to_perform(effect: &Effect) -> Vec<Self> {
        match effect {
            Effect::Patch {
                object,
                subresource,
                ..
            } => vec![Self {
                subresource: subresource.clone(),
                ..Self::to("patch", object.clone())
            }],
            // Whether it creates depends on whether the object exists.
            Effect::Apply(body) => ["patch", "create"]
                .into_iter()
                .filter_map(|verb| Some(Self::to(verb, reference(body)?)))
                .collect(),
            // The API server authorizes a creation before it knows the name: a rule for some names grants none.
            Effect::Create(body) => {
                let unnamed = reference(body).map(|object| ObjectReference {
                    name: String::new(),
                    ..object
                });
                unnamed
                    .map(|object| Self::to("create", object))
                    .into_iter()
                    .collect()
            }
            Effect::Delete { object, .. } => vec![Self::to("delete", object.clone())],
            Effect::Evict { pod, .. } => {
                let pod = ObjectReference {
                    api_version: "v1".to_owned(),
                    kind: "Pod".to_owned(),
                    name: pod.clone(),
                };
                vec![Self {
                    subresource: Some("eviction".to_owned()),
                    ..Self::to("create", pod)
                }]
            }
            Effect::Event { .. } => Vec::new(),
        }
    }

    /// What checking these requirements needs.
    pub fn to_check(requirements: &[Requirement]) -> Vec<Self> {
        let objects = requirements.iter().map(|one| one.object.clone());
        objects.map(|object| Self::to("get", object)).collect()
    }

    fn to(verb: &'static str, object: ObjectReference) -> Self {
        Self {
            verb,
            object,
            subresource: None,
        }
    }
}

impl Performer {
    /// A failure as the error of the target. Of a 403 it finds out whether one of these permissions is
    /// missing; if that cannot be found out, the target waits.
    pub async fn action_error(
        &self,
        namespace: &str,
        needed: &[Access],
        error: Error,
    ) -> ActionError {
        let mut may = true;
        if error.is_forbidden() {
            for access in needed {
                may = may && self.may(namespace, access).await;
            }
        }
        error.into_action_error(may)
    }

    async fn may(&self, namespace: &str, access: &Access) -> bool {
        let Access {
            verb,
            object,
            subresource,
        } = access;
        let Ok(kind) = self.kinds.find(&object.api_version, &object.kind).await else {
            return true;
        };
        let attributes = ResourceAttributes {
            namespace: Some(namespace.to_owned()),
            group: Some(kind.group),
            version: Some(kind.version),
            resource: Some(kind.plural),
            subresource: subresource.clone(),
            name: Some(object.name.clone()).filter(|name| !name.is_empty()),
            verb: Some((*verb).to_owned()),
            ..ResourceAttributes::default()
        };
        match is_granted(&self.client, attributes).await {
            Ok(granted) => granted,
            Err(error) => {
                let object = super::named(namespace, object);
                let error = error.chain();
                tracing::debug!(error, verb, object, "no answer to an access review");
                true
            }
        }
    }
}

#[cfg(test)]
mod tests;
