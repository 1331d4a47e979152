//! What happens to which request. Pure: the proxy asks for every request, and does what it hears.

use std::{collections::BTreeMap, fmt, str::FromStr};

use anyhow::Context as _;
use clap::ValueEnum;

use crate::request::About;

/// A write of a story: which of its kind it is. Writes of different kinds are made at the same time, so their order is
/// another one in every run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Point {
    /// Verb and resource: `patch pods`.
    what: String,
    /// Its number among these, from 1.
    number: u32,
}

impl fmt::Display for Point {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.what, self.number)
    }
}

impl FromStr for Point {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (what, number) = text.rsplit_once(' ').context("`patch pods 1` expected")?;
        Ok(Self {
            what: what.to_owned(),
            number: number.parse()?,
        })
    }
}

/// What goes wrong at a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fault {
    /// The host is killed, and the write never arrives
    KillBefore,
    /// The write is made, and the host is killed
    KillAfter,
    /// The write is made, and the connection ends without an answer
    Lose,
    /// The answer is 409 Conflict
    #[value(name = "409")]
    Conflict,
    /// The answer is 429 with Retry-After
    #[value(name = "429")]
    TooMany,
    /// The answer is 500
    #[value(name = "500")]
    Internal,
    /// The answer is 503
    #[value(name = "503")]
    Unavailable,
    /// A watch is silent from now on
    Freeze,
    /// A watch is silent for 60 s
    Delay,
    /// A watch ends with 410
    #[value(name = "410")]
    Gone,
    /// A watch ends with 410 before the write, and the list that follows is answered after it, as it was before it
    Stale,
    /// The leader does not reach its Lease any more
    Lease,
    /// The leader does not reach the API server any more
    Partition,
    /// etcd is killed and started again
    Etcd,
    /// The API server is killed and started again
    Apiserver,
}

impl Fault {
    /// How it is given on the command line.
    pub(crate) fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Whether one watch is what it is about.
    pub(crate) fn is_of_watch(self) -> bool {
        matches!(self, Self::Freeze | Self::Delay | Self::Gone | Self::Stale)
    }
}

/// What the proxy does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Passes it on.
    Pass,
    /// Does this with it.
    Strike(Fault),
    /// Never answers it.
    Hang,
}

/// One fault at one write of a namespace; or none, and the writes are counted.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    namespace: String,
    fault: Option<(Point, Fault)>,
    counts: BTreeMap<String, u32>,
    /// All writes, in their order.
    pub(crate) writes: Vec<Point>,
    /// What has been struck.
    pub(crate) struck: bool,
}

impl Plan {
    pub(crate) fn new(namespace: &str, fault: Option<(Point, Fault)>) -> Self {
        Self {
            namespace: namespace.to_owned(),
            fault,
            ..Self::default()
        }
    }

    /// What to do with the next request.
    pub(crate) fn next(&mut self, about: &About) -> Act {
        let fault = self.fault.as_ref().map(|(_, fault)| *fault);
        let is_lease = about.resource == "leases";
        match fault {
            Some(Fault::Partition) if self.struck => return Act::Hang,
            Some(Fault::Lease) if self.struck && is_lease => return Act::Hang,
            _ => {}
        }
        if !about.is_write_in(&self.namespace) {
            return Act::Pass;
        }
        let what = about.to_string();
        let count = self.counts.entry(what.clone()).or_default();
        *count += 1;
        let point = Point {
            what,
            number: *count,
        };
        self.writes.push(point.clone());
        match &self.fault {
            Some((wanted, fault)) if !self.struck && *wanted == point => {
                self.struck = true;
                Act::Strike(*fault)
            }
            Some(_) | None => Act::Pass,
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper::Method;

    use super::*;

    fn request(method: &Method, path: &str) -> About {
        About::of(method, path, "").expect("a request about objects")
    }

    fn plan(fault: Fault) -> Plan {
        Plan::new(
            "shop",
            Some(("patch pods 2".parse().expect("a point"), fault)),
        )
    }

    #[test]
    fn the_fault_strikes_the_write_of_that_number_once() {
        let patch = request(&Method::PATCH, "/api/v1/namespaces/shop/pods/a");
        let status = request(&Method::PATCH, "/api/v1/namespaces/shop/pods/a/status");
        let other = request(&Method::PATCH, "/api/v1/namespaces/other/pods/a");
        let list = request(&Method::GET, "/api/v1/namespaces/shop/pods");
        let mut plan = plan(Fault::Lose);
        let acts = [&patch, &list, &status, &other, &patch, &patch].map(|about| plan.next(about));
        let strike = Act::Strike(Fault::Lose);
        assert_eq!(
            acts,
            [
                Act::Pass,
                Act::Pass,
                Act::Pass,
                Act::Pass,
                strike,
                Act::Pass
            ]
        );
        let writes: Vec<_> = plan.writes.iter().map(ToString::to_string).collect();
        let wanted = [
            "patch pods 1",
            "patch pods/status 1",
            "patch pods 2",
            "patch pods 3",
        ];
        assert_eq!(writes, wanted);
    }

    #[test]
    fn a_partition_hangs_everything_that_follows_or_the_lease_alone() {
        let patch = request(&Method::PATCH, "/api/v1/namespaces/shop/pods/a");
        let leases = "/apis/coordination.k8s.io/v1/namespaces/operon-system/leases/operon";
        let lease = request(&Method::PATCH, leases);
        for (fault, of_patch) in [(Fault::Partition, Act::Hang), (Fault::Lease, Act::Pass)] {
            let mut plan = plan(fault);
            let acts = [&lease, &patch, &patch, &lease, &patch].map(|about| plan.next(about));
            let strike = Act::Strike(fault);
            assert_eq!(acts, [Act::Pass, Act::Pass, strike, Act::Hang, of_patch]);
        }
    }

    #[test]
    fn a_point_and_a_fault_are_read_as_they_are_printed() {
        let point: Point = "try-to-create jobs 12".parse().expect("a point");
        assert_eq!(point.to_string(), "try-to-create jobs 12");
        assert!("patch pods".parse::<Point>().is_err());
        for fault in Fault::value_variants() {
            assert_eq!(Fault::from_str(&fault.name(), false).ok(), Some(*fault));
        }
    }
}
