//! What is written to a cluster: what the model decided, and new objects.

use std::fmt;

use anyhow::{Context as _, anyhow};
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions};
use operon_cli_model::{Effect, Kind, Object};

use crate::{
    cluster::{Cluster, timely},
    failure::{Failure, explained},
};

/// The name of what is written, as the API server records it.
const MANAGER: &str = "kubectl-operon";

/// Why something was not written, or may not have been.
#[derive(Debug)]
pub struct Unwritten {
    /// In words that say what to do.
    error: anyhow::Error,
    /// The HTTP status of the API server; none if it did not answer.
    pub code: Option<u16>,
    /// Whether it may have been written.
    pub may_be_done: bool,
}

impl fmt::Display for Unwritten {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:#}", self.error)
    }
}

impl std::error::Error for Unwritten {}

impl Unwritten {
    fn of(failure: Failure, explained: impl FnOnce(Failure) -> anyhow::Error) -> Self {
        Self {
            code: failure.code(),
            may_be_done: failure.may_be_done(),
            error: explained(failure),
        }
    }
}

/// Writes; the sentence about it, and the object as it is then, unless it was deleted.
pub async fn perform(
    cluster: &Cluster,
    object: &Object,
    effect: Effect,
) -> Result<(String, Option<DynamicObject>), Unwritten> {
    let (kind, name) = (object.kind(), object.name());
    let api = cluster.api(kind);
    let what = format!("{} {name:?}", kind.name());
    match effect {
        Effect::Patch { patch, says } => {
            let params = PatchParams {
                field_manager: Some(MANAGER.to_owned()),
                ..PatchParams::default()
            };
            let patched = timely(api.patch(name, &params, &Patch::Merge(patch))).await;
            let explained = |failure| explained(failure, "patch", &what, kind);
            let patched = patched.map_err(|failure| Unwritten::of(failure, explained))?;
            Ok((says, Some(patched)))
        }
        Effect::Create { object, says } => {
            let object = serde_json::from_value(object).context("failed to read the new object");
            let object: DynamicObject = object.map_err(|error| Unwritten {
                error,
                code: None,
                may_be_done: false,
            })?;
            let new = object.metadata.name.as_deref().unwrap_or_default();
            let advice = format!("see `kubectl operon get {}/{new}`", kind.word());
            let created = create(cluster, kind, &object, false, &advice).await?;
            Ok((says, Some(created)))
        }
        Effect::Delete { says } => {
            let preconditions = Preconditions {
                uid: object.metadata().uid.clone(),
                resource_version: None,
            };
            let params = DeleteParams {
                preconditions: Some(preconditions),
                ..DeleteParams::background()
            };
            let deleted = timely(api.delete(name, &params)).await;
            let explained = |failure| explained(failure, "delete", &what, kind);
            deleted.map_err(|failure| Unwritten::of(failure, explained))?;
            Ok((says, None))
        }
    }
}

/// Creates an object of this kind, or only lets the API server check it. `advice` says what to do if there is one of its
/// name.
pub async fn create(
    cluster: &Cluster,
    kind: Kind,
    object: &DynamicObject,
    is_dry: bool,
    advice: &str,
) -> Result<DynamicObject, Unwritten> {
    let params = PostParams {
        field_manager: Some(MANAGER.to_owned()),
        dry_run: is_dry,
    };
    let called = name(kind, object);
    let created = timely(cluster.api(kind).create(&params, object)).await;
    let explained = |failure: Failure| match failure {
        Failure::Refused { code: 409, .. } => anyhow!("{called} exists already; {advice}"),
        // A new object has nothing to be missing but its namespace.
        Failure::Refused {
            code: 404,
            message,
            about,
        } if !about.is_empty() => anyhow!("failed to create {called}: {message}; check -n"),
        failure if !is_dry && failure.may_be_done() => anyhow!(
            "failed to create {called}: {failure}. It may exist: kubectl get {} -n {}",
            kind.word(),
            cluster.namespace
        ),
        failure => explained(failure, "create", &called, kind),
    };
    created.map_err(|failure| Unwritten::of(failure, explained))
}

/// `operationjob.apps.kusionstack.io/web`, as kubectl names an object.
pub fn name(kind: Kind, object: &DynamicObject) -> String {
    let metadata = &object.metadata;
    let name = metadata.name.as_ref().or(metadata.generate_name.as_ref());
    format!(
        "{}.{}/{}",
        kind.name().to_lowercase(),
        kind.group(),
        name.map_or("", String::as_str)
    )
}
