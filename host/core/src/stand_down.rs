//! Whether KusionStack's controllers run in the cluster. They reconcile the same kinds as some of ours, and two
//! controllers of one kind undo each other's writes, so ours stand down meanwhile.
//!
//! The signs are the configuration of KusionStack's admission webhook, and renewals of the Lease by which its
//! replicas elect a leader. Renewals are timed by this host's own clock, from the moment when it saw them: the
//! clocks of two machines are never compared.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use k8s_openapi::api::coordination::v1::LeaseSpec;

#[cfg(test)]
mod tests;

/// The names of KusionStack's MutatingWebhookConfiguration in its releases.
pub const WEBHOOKS: [&str; 2] = [
    "kusionstack-controller-manager-mutating",
    "controller-manager-mutating",
];

/// The name of KusionStack's Lease, in the namespace that KusionStack was installed in. In others it is no sign: users
/// may write Leases there.
pub const LEASE: &str = "kusionstack-controller-manager";

/// After how many durations of the Lease without a renewal it has no holder any more: another replica of
/// KusionStack renews it at the latest after one.
const PATIENCE: u32 = 2;

/// The duration of a Lease that has none.
const DURATION: i32 = 15;

/// The longest duration that counts: KusionStack's own is 15 s.
const LONGEST: i32 = 300;

/// An object by which KusionStack's controllers are recognized.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sign {
    /// The configuration of its webhook, by name.
    Webhook(String),
    /// Its Lease, which is renewed; its namespace.
    Lease(String),
}

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Webhook(name) => write!(f, "MutatingWebhookConfiguration {name:?} exists"),
            Self::Lease(namespace) => {
                write!(f, "Lease {LEASE:?} in namespace {namespace:?} is renewed")
            }
        }
    }
}

impl Sign {
    /// How to end the stand-down.
    pub fn remedy(&self) -> String {
        match self {
            Self::Webhook(name) => format!(
                "To let Operon take over, uninstall KusionStack, including this object: kubectl delete \
                 mutatingwebhookconfiguration {name}"
            ),
            Self::Lease(_) => "To let Operon take over, uninstall KusionStack".to_owned(),
        }
    }
}

/// What is known of KusionStack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Presence {
    /// Its controllers do not run, as far as this host may see.
    #[default]
    Absent,
    /// Its Lease has a holder, and it has not been renewed since this host began to watch: it may have been left
    /// behind.
    Unclear,
    /// Its controllers run.
    Present(Sign),
}

/// The objects that are signs of KusionStack. Times are how long the host has been running.
#[derive(Debug, Default)]
pub struct Signs {
    webhooks: BTreeSet<String>,
    /// By namespace.
    leases: BTreeMap<String, Renewal>,
}

/// The last renewal of a Lease.
#[derive(Debug)]
struct Renewal {
    spec: LeaseSpec,
    /// When this host saw it first.
    seen: Duration,
    /// Whether an earlier one was seen before.
    is_alive: bool,
    /// Whether it was found not to count any more.
    is_over: bool,
}

impl Renewal {
    /// When it counts no more; none if the Lease was released.
    fn end(&self) -> Option<Duration> {
        let holder = self.spec.holder_identity.as_ref();
        holder.filter(|holder| !holder.is_empty())?;
        let seconds = self.spec.lease_duration_seconds.unwrap_or(DURATION);
        let seconds = u64::try_from(seconds.clamp(1, LONGEST)).unwrap_or(1);
        Some(self.seen + Duration::from_secs(seconds) * PATIENCE)
    }
}

impl Signs {
    /// A configuration of a webhook exists, or does not exist any more.
    pub fn webhook(&mut self, name: &str, exists: bool) {
        if exists {
            self.webhooks.insert(name.to_owned());
        } else {
            self.webhooks.remove(name);
        }
    }

    /// A Lease has this spec, or does not exist any more.
    pub fn lease(&mut self, namespace: &str, spec: Option<&LeaseSpec>, now: Duration) {
        let Some(spec) = spec else {
            self.leases.remove(namespace);
            return;
        };
        let known = self.leases.get(namespace);
        if known.is_some_and(|known| known.spec == *spec) {
            return;
        }
        let renewal = Renewal {
            spec: spec.clone(),
            seen: now,
            is_alive: known.is_some(),
            is_over: false,
        };
        self.leases.insert(namespace.to_owned(), renewal);
    }

    /// The watch of the Leases does not work: renewals since the last one may have been missed.
    pub fn leases_unseen(&mut self, now: Duration) {
        for renewal in self.leases.values_mut().filter(|one| !one.is_over) {
            renewal.seen = now;
        }
    }

    /// What the signs mean, and at which time they may mean something else, if nothing changes until then.
    pub fn presence(&mut self, now: Duration) -> (Presence, Option<Duration>) {
        for renewal in self.leases.values_mut() {
            renewal.is_over = renewal.end().is_none_or(|end| end <= now);
        }
        let held = self.leases.iter().filter_map(|(namespace, renewal)| {
            let end = renewal.end().filter(|end| *end > now)?;
            Some((renewal.is_alive, namespace, end))
        });
        let held: Vec<_> = held.collect();
        let until = held.iter().map(|(_, _, end)| *end).min();
        let webhook = WEBHOOKS
            .into_iter()
            .find(|name| self.webhooks.contains(*name));
        let alive = held.iter().find(|(is_alive, _, _)| *is_alive);
        let presence = match (webhook, alive) {
            (Some(name), _) => Presence::Present(Sign::Webhook(name.to_owned())),
            (None, Some((_, namespace, _))) => Presence::Present(Sign::Lease((*namespace).clone())),
            (None, None) if held.is_empty() => Presence::Absent,
            (None, None) => Presence::Unclear,
        };
        (presence, until)
    }
}
