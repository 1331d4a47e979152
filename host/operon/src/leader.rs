//! Leader election by a Lease: one replica runs the controllers, the others wait.
//!
//! The lease has a client of its own, so that a busy controller never delays its renewal. A process that
//! lost the lease, or slept through its time (a paused or suspended machine), exits immediately: it must not write
//! any more, and a new process begins with fresh caches.

use std::{
    future::ready,
    pin::pin,
    time::{Duration, Instant},
};

use anyhow::Context;
use futures::{Stream, StreamExt};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api, Client, Config,
    runtime::{WatchStreamExt, watcher::watch_object},
};
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder};
use rustix::time::{ClockId, clock_gettime};
use tokio::{sync::watch, task::JoinHandle};

/// How long a lease holds without renewal, and how long before its end it is renewed, in seconds.
const DURATION: u64 = 15;
const GRACE: u64 = 10;

/// How old the last renewal may be, as this process sees it, before it counts as lost: less than the
/// duration of the lease, so that no other process leads by then.
const FRESH: Duration = Duration::from_secs(12);

/// How often this process looks at the time since the last renewal.
const LOOK: Duration = Duration::from_secs(1);

/// How long to wait after the lease could not be reached.
const RETRY: Duration = Duration::from_secs(2);

/// How long a lease that was taken is looked at before its holder leads: longer than two hosts that take it at the same
/// time are apart.
const SETTLE: Duration = Duration::from_millis(300);

/// The most bytes of an identity in a field manager, which may have 128.
const MANAGER_BYTES: usize = 100;

/// The name of the Lease.
pub(crate) const LEASE: &str = "operon";

/// The leadership of this process, once it has it.
pub(crate) struct Leadership {
    client: Client,
    namespace: String,
    identity: String,
    held: watch::Receiver<bool>,
    renewal: JoinHandle<Result<LeaseManager, kube_lease_manager::LeaseManagerError>>,
}

impl Leadership {
    /// Waits until this process leads. A lease that its holder releases is taken immediately; a lease with
    /// a silent holder, when it has expired.
    pub(crate) async fn acquire(
        config: Config,
        namespace: &str,
        identity: &str,
    ) -> anyhow::Result<Self> {
        let client = Client::try_from(config).context("failed to build the lease's client")?;
        let mut contact = Contact::default();
        let mut manager = reach(&client, namespace, identity, &mut contact).await;
        let mut given_up = pin!(given_up(client.clone(), namespace));
        tracing::info!(lease = LEASE, identity, "waiting for leadership");
        loop {
            tokio::select! {
                changed = manager.changed() => match changed {
                    Ok(true) if is_settled(&client, namespace, identity).await => break,
                    Ok(true) => {
                        tracing::info!(lease = LEASE, identity, "another host took the lease at the same time");
                        manager = reach(&client, namespace, identity, &mut contact).await;
                    }
                    Ok(false) => contact.reached(),
                    Err(error) => contact.failed(namespace, &error).await,
                },
                Some(()) = given_up.next() => {
                    // The old manager sleeps until the lease would have expired; a new one checks
                    // immediately.
                    manager = reach(&client, namespace, identity, &mut contact).await;
                }
            }
        }
        contact.reached();
        let (held, renewal) = manager.watch().await;
        tracing::info!(lease = LEASE, identity, "leading");
        Ok(Self {
            client,
            namespace: namespace.to_owned(),
            identity: identity.to_owned(),
            held,
            renewal,
        })
    }

    /// Waits until the lease is lost, or may be another's because this process slept, or could not
    /// renew it.
    pub(crate) async fn lost(&self) {
        let mut held = self.held.clone();
        tokio::select! {
            _ = held.wait_for(|leading| !*leading) => {}
            () = self.ran_out() => {}
        }
    }

    /// Ends when the lease names another holder, or no renewal was seen for too long: a renewal that hangs
    /// does not count, nor does one that this process finds after it slept.
    async fn ran_out(&self) {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut versions = pin!(watch_object(leases, LEASE).default_backoff());
        let (mut renewed, mut seen) = (None, boot_time());
        loop {
            let version = tokio::time::timeout(LOOK, versions.next()).await;
            let now = boot_time();
            if now.saturating_sub(seen) >= FRESH {
                return;
            }
            let spec = match version {
                Ok(Some(Ok(lease))) => lease.and_then(|lease| lease.spec),
                // Nothing is new; or the watch restarts automatically, and the time continues.
                Err(_) | Ok(Some(Err(_))) => continue,
                Ok(None) => return,
            };
            let Some(spec) = spec.filter(|s| s.holder_identity.as_ref() == Some(&self.identity))
            else {
                return;
            };
            if spec.renew_time != renewed {
                (renewed, seen) = (spec.renew_time, now);
            }
        }
    }

    /// Releases the lease, so that a waiting instance gets it.
    pub(crate) async fn release(self) {
        drop(self.held);
        match tokio::time::timeout(Duration::from_secs(5), self.renewal).await {
            Ok(Ok(Ok(_))) => tracing::info!("leadership released"),
            Ok(Ok(Err(error))) => {
                tracing::warn!(error = %error, "leadership could not be released");
            }
            Ok(Err(_)) | Err(_) => tracing::warn!("leadership could not be released in time"),
        }
    }
}

/// Whether the lease still names this process a moment after this process took it. An expired lease is taken without a
/// condition on its version, so several hosts can take it at the same time: the last of them has it.
async fn is_settled(client: &Client, namespace: &str, identity: &str) -> bool {
    tokio::time::sleep(SETTLE).await;
    let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let spec = leases.get(LEASE).await.ok().and_then(|lease| lease.spec);
    spec.and_then(|spec| spec.holder_identity).as_deref() == Some(identity)
}

/// The field manager of a host: a free lease is applied without force, so the API server refuses the second of two hosts
/// only if they have different field managers. Its end is unique, and a name that is too long begins later.
fn field_manager(identity: &str) -> String {
    let start = identity.ceil_char_boundary(identity.len().saturating_sub(MANAGER_BYTES));
    format!("operon-lease-{}", identity.get(start..).unwrap_or_default())
}

/// A manager of the lease, as soon as the lease can be read. An API server that does not answer is no
/// reason to exit: a new process would not reach it either.
async fn reach(
    client: &Client,
    namespace: &str,
    identity: &str,
    contact: &mut Contact,
) -> LeaseManager {
    loop {
        let manager = LeaseManagerBuilder::new(client.clone(), LEASE)
            .with_namespace(namespace)
            .with_identity(identity)
            .with_field_manager(field_manager(identity))
            .with_duration(DURATION)
            .with_grace(GRACE);
        match manager.build().await {
            Ok(manager) => {
                contact.reached();
                return manager;
            }
            Err(error) => contact.failed(namespace, &error).await,
        }
    }
}

/// Whether the lease can be reached. The beginning and the end of an outage are logged, once each.
#[derive(Default)]
struct Contact {
    lost: Option<Instant>,
}

impl Contact {
    /// A request failed; the next one follows in a moment.
    async fn failed(&mut self, namespace: &str, error: &kube_lease_manager::LeaseManagerError) {
        if self.lost.is_none() {
            self.lost = Some(Instant::now());
            tracing::warn!(namespace, lease = LEASE, error = %error, "the lease can't be reached; trying again");
        }
        tokio::time::sleep(RETRY).await;
    }

    fn reached(&mut self) {
        if let Some(since) = self.lost.take() {
            let seconds = since.elapsed().as_secs();
            tracing::info!(lease = LEASE, seconds, "the lease can be reached again");
        }
    }
}

/// An item whenever a holder of the lease does not hold it any more.
fn given_up(client: Client, namespace: &str) -> impl Stream<Item = ()> + use<> {
    let leases: Api<Lease> = Api::namespaced(client, namespace);
    let holders = watch_object(leases, LEASE)
        .default_backoff()
        .filter_map(|lease| {
            // A failed watch restarts automatically; until then the lease's own time decides.
            let spec = lease.ok().map(|lease| lease.and_then(|lease| lease.spec));
            ready(spec.map(|spec| spec.and_then(|spec| spec.holder_identity)))
        });
    let changes = holders.scan(None, |before: &mut Option<String>, holder| {
        let given_up = before.is_some() && holder.is_none();
        *before = holder;
        ready(Some(given_up))
    });
    changes.filter_map(|given_up| ready(given_up.then_some(())))
}

/// The time since this machine started. It counts while the machine is suspended, which `Instant` does not on Linux.
fn boot_time() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use kube::client::Body;
    use serde_json::json;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_another_host_took_in_the_same_moment_is_not_held() {
        for (spec, is_held) in [
            (json!({"holderIdentity": "one"}), true),
            (json!({"holderIdentity": "two"}), false),
            (json!({}), false),
        ] {
            let lease = json!({"metadata": {"name": LEASE}, "spec": spec}).to_string();
            let service = tower::service_fn(move |_: http::Request<Body>| {
                let answer = http::Response::new(Body::from(lease.clone().into_bytes()));
                std::future::ready(Ok::<_, Infallible>(answer))
            });
            let client = Client::new(service, "ns");
            assert_eq!(is_settled(&client, "ns", "one").await, is_held, "{spec}");
        }
    }

    #[test]
    fn hosts_have_different_field_managers_of_a_length_that_the_api_server_accepts() {
        assert_eq!(field_manager("operon-x7"), "operon-lease-operon-x7");
        let long = |end: &str| field_manager(&format!("{}{end}", "é".repeat(100)));
        assert_ne!(long("a"), long("b"));
        assert!(long("a").len() <= 128);
    }
}
