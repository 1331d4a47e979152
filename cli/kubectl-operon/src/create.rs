//! Creates an object, and says what became of it.

use anyhow::bail;
use kube::api::{DynamicObject, PostParams};
use operon_cli_cluster::{Cluster, Failure, explained, timely};
use operon_cli_model::Kind;

use crate::{act::MANAGER, output::name};

/// Creates an object of this kind, or only lets the API server check it. `advice` says what to do if there is one of its
/// name.
pub(crate) async fn create(
    cluster: &Cluster,
    kind: Kind,
    object: &DynamicObject,
    is_dry: bool,
    advice: &str,
) -> anyhow::Result<DynamicObject> {
    let params = PostParams {
        field_manager: Some(MANAGER.to_owned()),
        dry_run: is_dry,
    };
    let called = name(kind, object);
    match timely(cluster.api(kind).create(&params, object)).await {
        Ok(created) => Ok(created),
        Err(Failure::Refused { code: 409, .. }) => bail!("{called} exists already; {advice}"),
        // A new object has nothing to be missing but its namespace.
        Err(Failure::Refused {
            code: 404,
            message,
            about,
        }) if !about.is_empty() => bail!("failed to create {called}: {message}; check -n"),
        Err(failure) if !is_dry && failure.may_be_done() => bail!(
            "failed to create {called}: {failure}. It may exist: kubectl get {} -n {}",
            kind.word(),
            cluster.namespace
        ),
        Err(failure) => Err(explained(failure, "create", &called, kind)),
    }
}
