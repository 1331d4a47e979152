//! Which of the namespaces that a host is to serve it may read. The others do not exist, or the host has no rights there:
//! they must not hold up the rest, so nothing is cached of them.
//!
//! A host begins with complete caches of all namespaces that it serves, because its controllers rely on that. So when
//! the host may read another one, or one of them no more, it ends and starts again.

use std::{collections::BTreeSet, time::Duration};

use futures::future::join_all;
use k8s_openapi::api::authorization::v1::ResourceAttributes;
use kube::{Client, Resource};
use operon_api::OperationJob;
use operon_core::namespaces::Namespaces;

use crate::{
    access::is_granted,
    health::{Health, WatchHealth},
    store::kind_of,
};

/// How often it is asked again.
const INTERVAL: Duration = Duration::from_secs(30);

/// The wait after the API server did not answer at the start.
const RETRY: Duration = Duration::from_secs(2);

/// The namespaces that a host serves.
pub struct Served {
    client: Client,
    wanted: Namespaces,
    found: Namespaces,
    /// What reports of each of the others that it is not served.
    _missing: Vec<WatchHealth>,
}

impl Served {
    /// Finds out which of these the host may read. If it serves all of the cluster, nothing is asked.
    pub async fn find(client: &Client, wanted: &Namespaces, health: &Health) -> Self {
        let mut missing = Vec::new();
        let mut found = Vec::new();
        for name in wanted.names().unwrap_or_default() {
            if readable(client, name).await {
                found.push(name.clone());
                continue;
            }
            let watch = health.optional().begin(kind_of::<OperationJob>(&()));
            let why = format!(
                "namespace {name:?} does not exist, or the host may not list OperationJobs in it; it is served when it can be read"
            );
            tracing::warn!("{why}");
            watch.refused(&why);
            missing.push(watch);
        }
        Self {
            client: client.clone(),
            wanted: wanted.clone(),
            found: match wanted.names() {
                Some(_) => Namespaces::only(found),
                None => Namespaces::all(),
            },
            _missing: missing,
        }
    }

    /// Those that it may read.
    pub fn namespaces(&self) -> &Namespaces {
        &self.found
    }

    /// Waits until the host may read others. Without an answer nothing changes.
    pub async fn changed(&self) {
        let (Some(wanted), Some(found)) = (self.wanted.names(), self.found.names()) else {
            return std::future::pending().await;
        };
        let found: BTreeSet<_> = found.iter().collect();
        loop {
            tokio::time::sleep(INTERVAL).await;
            let answers = join_all(wanted.iter().map(|name| asked(&self.client, name))).await;
            for (name, answer) in wanted.iter().zip(answers) {
                let is_other = |answer: Option<bool>| {
                    answer.is_some_and(|is_readable| is_readable != found.contains(name))
                };
                if !is_other(answer) {
                    continue;
                }
                // One API server of several may not know of a right yet.
                tokio::time::sleep(RETRY).await;
                if is_other(asked(&self.client, name).await) {
                    tracing::warn!(
                        namespace = name,
                        was_served = found.contains(name),
                        "the namespaces that the host may read have changed; it starts again with others"
                    );
                    return;
                }
            }
        }
    }
}

/// Whether the host may read a namespace, asked until there is an answer.
async fn readable(client: &Client, namespace: &str) -> bool {
    loop {
        if let Some(is_readable) = asked(client, namespace).await {
            return is_readable;
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Whether the host may read a namespace; none without an answer. The chart grants all rights in a namespace by one
/// binding, so one of them says whether the others are there.
async fn asked(client: &Client, namespace: &str) -> Option<bool> {
    let attributes = ResourceAttributes {
        group: Some(OperationJob::group(&()).into_owned()),
        resource: Some(OperationJob::plural(&()).into_owned()),
        verb: Some("list".to_owned()),
        namespace: Some(namespace.to_owned()),
        ..ResourceAttributes::default()
    };
    match is_granted(client, attributes).await {
        Ok(is_readable) => Some(is_readable),
        Err(error) => {
            tracing::warn!(
                namespace,
                error = error.chain(),
                "it is not known whether the host may read the namespace"
            );
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    };

    use prometheus_client::{encoding::text::encode, registry::Registry};
    use serde_json::json;

    use super::*;
    use crate::{
        fake::{self, answer},
        metrics::Metrics,
    };

    type Bound = Arc<Mutex<BTreeSet<&'static str>>>;

    /// An API server that grants rights in these namespaces.
    fn client(bound: &Bound) -> Client {
        let bound = Arc::clone(bound);
        fake::client(move |request| {
            let bound = bound.lock().unwrap_or_else(PoisonError::into_inner);
            let is_asked = |name: &&str| {
                let namespace = format!("\"namespace\":\"{name}\"");
                request.body().contains(&namespace)
            };
            let allowed = bound.iter().any(is_asked);
            let review = json!({"spec": {}, "status": {"allowed": allowed}});
            Some(answer(201, &review))
        })
    }

    fn names(namespaces: &Namespaces) -> Vec<&str> {
        let names = namespaces.names().unwrap_or_default();
        names.iter().map(String::as_str).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_namespace_that_cannot_be_read_is_left_out_until_it_can() {
        let bound = Bound::new(Mutex::new(BTreeSet::from(["a"])));
        let mut registry = Registry::default();
        let health = Health::new(Metrics::register(&mut registry));
        let wanted = Namespaces::only(["a", "b"].map(str::to_owned));
        let client = client(&bound);
        let served = Served::find(&client, &wanted, &health).await;
        assert_eq!(names(served.namespaces()), ["a"]);
        let mut metrics = String::new();
        encode(&mut metrics, &registry).expect("metrics");
        let down = "operon_watch_up{kind=\"OperationJob.apps.kusionstack.io\"} 0";
        assert!(metrics.contains(down), "{metrics}");
        let ten_minutes = Duration::from_mins(10);
        let same = tokio::time::timeout(ten_minutes, served.changed()).await;
        assert!(same.is_err(), "nothing has changed");
        assert!(health.broken().is_empty(), "the host is ready");
        for now in [BTreeSet::from(["a", "b"]), BTreeSet::new()] {
            *bound.lock().unwrap_or_else(PoisonError::into_inner) = now;
            let changed = tokio::time::timeout(INTERVAL * 2, served.changed()).await;
            changed.expect("a namespace that comes or goes is noticed");
        }
        let served = Served::find(&client, &wanted, &health).await;
        assert_eq!(served.namespaces(), &Namespaces::only([]));
    }

    #[tokio::test(start_paused = true)]
    async fn one_answer_that_differs_from_all_others_changes_nothing() {
        let asked = Arc::new(AtomicUsize::new(0));
        let number = Arc::clone(&asked);
        let client = fake::client(move |_| {
            let allowed = number.fetch_add(1, Ordering::SeqCst) != 1;
            Some(answer(
                201,
                &json!({"spec": {}, "status": {"allowed": allowed}}),
            ))
        });
        let health = Health::new(Metrics::register(&mut Registry::default()));
        let wanted = Namespaces::only(["a".to_owned()]);
        let served = Served::find(&client, &wanted, &health).await;
        let same = tokio::time::timeout(INTERVAL * 4, served.changed()).await;
        assert!(same.is_err(), "it is asked again before the host ends");
        assert!(asked.load(Ordering::SeqCst) > 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_of_all_namespaces_asks_nothing() {
        let health = Health::new(Metrics::register(&mut Registry::default()));
        let client = fake::client(|request| unreachable!("{request:?}"));
        let served = Served::find(&client, &Namespaces::all(), &health).await;
        assert_eq!(served.namespaces(), &Namespaces::all());
        let same = tokio::time::timeout(INTERVAL * 2, served.changed()).await;
        assert!(same.is_err());
    }
}
