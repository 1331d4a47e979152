//! A flow as it is in the cluster now.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use kube::{Api, Client, Config};
use operon_api::JobFlow;
use operon_controllers::apply::client_config;

/// How long the cluster may take.
const LIMIT: Duration = Duration::from_secs(15);

/// Reads a flow; without a namespace, from that of the current context.
pub(super) fn flow(namespace: Option<&str>, name: &str) -> anyhow::Result<JobFlow> {
    let read = async {
        let read = tokio::time::timeout(LIMIT, read(namespace, name)).await;
        read.unwrap_or_else(|_| {
            Err(anyhow!(
                "the cluster did not answer within {} s",
                LIMIT.as_secs()
            ))
        })
    };
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start the runtime")?
        .block_on(read)
}

async fn read(namespace: Option<&str>, name: &str) -> anyhow::Result<JobFlow> {
    let config = Config::infer().await.map_err(|error| {
        anyhow!(
            "{name:?} is not a file, and no cluster was found to read the JobFlow from: {error}"
        )
    })?;
    let server = config.cluster_url.to_string();
    let client = Client::try_from(client_config(config)).context("failed to build a client")?;
    let namespace = namespace.unwrap_or(client.default_namespace()).to_owned();
    let flows: Api<JobFlow> = Api::namespaced(client, &namespace);
    flows
        .get(name)
        .await
        .map_err(|error| explained(error, &namespace, name))
        .with_context(|| format!("failed to read JobFlow {name:?} from {server}"))
}

/// The error in words that say what to do about it.
fn explained(error: kube::Error, namespace: &str, name: &str) -> anyhow::Error {
    let kube::Error::Api(status) = &error else {
        // The errors above the first cause repeat it in their own texts.
        return anyhow!("{}", anyhow::Error::from(error).root_cause());
    };
    let is_about_it = status
        .details
        .as_ref()
        .is_some_and(|about| about.name == name);
    match status.code {
        404 if is_about_it => anyhow!("it does not exist in namespace {namespace:?}"),
        404 => anyhow!("the cluster does not serve JobFlows: Operon's CRDs are not installed"),
        _ => anyhow!("{}", status.message),
    }
}
