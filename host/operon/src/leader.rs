//! Leader election by a Lease: one replica runs the controllers, the others wait.
//!
//! The lease has a client of its own, so that a busy controller never delays its renewal. A process
//! that lost the lease, or slept through its time (a paused machine), exits at once: it must not write
//! any more, and a new process begins with fresh caches.

use std::time::{Duration, Instant};

use anyhow::Context;
use kube::{Client, Config};
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder};
use tokio::{sync::watch, task::JoinHandle};

/// How long a lease holds without renewal, and how long before its end it is renewed.
const DURATION: u64 = 15;
const GRACE: u64 = 5;

/// The name of the Lease.
const LEASE: &str = "operon";

/// The leadership of this process, once it has it.
pub(crate) struct Leadership {
    held: watch::Receiver<bool>,
    renewal: JoinHandle<Result<LeaseManager, kube_lease_manager::LeaseManagerError>>,
}

impl Leadership {
    /// Waits until this process leads.
    pub(crate) async fn acquire(
        config: Config,
        namespace: &str,
        identity: &str,
    ) -> anyhow::Result<Self> {
        let client = Client::try_from(config).context("failed to build the lease's client")?;
        let manager = LeaseManagerBuilder::new(client, LEASE)
            .with_namespace(namespace)
            .with_identity(identity)
            .with_field_manager("operon-lease")
            .with_duration(DURATION)
            .with_grace(GRACE)
            .build()
            .await
            .with_context(|| format!("failed to reach Lease {namespace}/{LEASE}"))?;
        let (mut held, renewal) = manager.watch().await;
        tracing::info!(lease = LEASE, identity, "waiting for leadership");
        held.wait_for(|leading| *leading)
            .await
            .context("the lease's renewal ended")?;
        tracing::info!(lease = LEASE, identity, "leading");
        Ok(Self { held, renewal })
    }

    /// Waits until the lease is lost, or may have been taken while this process slept.
    pub(crate) async fn lost(&self) {
        let mut held = self.held.clone();
        tokio::select! {
            _ = held.wait_for(|leading| !*leading) => {}
            () = slept() => {}
        }
    }

    /// Gives the lease to whoever waits for it.
    pub(crate) async fn release(self) {
        drop(self.held);
        match tokio::time::timeout(Duration::from_secs(5), self.renewal).await {
            Ok(Ok(Ok(_))) => tracing::info!("leadership released"),
            Ok(Ok(Err(error))) => {
                tracing::warn!(error = %error, "leadership could not be released")
            }
            Ok(Err(_)) | Err(_) => tracing::warn!("leadership could not be released in time"),
        }
    }
}

/// Ends when the process did not run for so long that its lease may be another's.
async fn slept() {
    let mut last = Instant::now();
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if last.elapsed() > Duration::from_secs(DURATION) {
            return;
        }
        last = Instant::now();
    }
}
