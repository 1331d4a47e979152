//! What the benches' tables have in common: the host's requests and what its process spent, as rows;
//! and how numbers are written.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

use super::machine::Usage;
use super::metrics::Counted;
use super::table::Table;
use crate::audit::Request;

/// Whom the host is to the API server.
pub(super) const HOST: &str = "system:serviceaccount:operon-system:operon";

/// The most memory that the host should have at any time, in MiB.
const PEAK_GOAL: f64 = 96.0;

/// How large an object may be, in KiB: more than that etcd does not take in one request.
const OBJECT_LIMIT: f64 = 1536.0;

/// What the host spent on something.
#[derive(Debug)]
pub(super) struct Spent {
    /// What its process had used before.
    pub(super) before: Usage,
    /// What its process had used after.
    pub(super) after: Usage,
    /// What it counted meanwhile.
    pub(super) counted: Counted,
}

impl Spent {
    /// How often the controller looked at its objects, and how long that took.
    pub(super) fn passes(&self) -> String {
        let Counted {
            passes, pass_time, ..
        } = &self.counted;
        number_and_mean(*passes, *pass_time)
    }

    /// How often actions were called, and how long that took.
    pub(super) fn calls(&self) -> String {
        let Counted {
            calls, call_time, ..
        } = &self.counted;
        number_and_mean(*calls, *call_time)
    }

    /// Calls of actions about targets for each of so many things, all and by their cause.
    pub(super) fn calls_by_cause(&self, number: usize) -> String {
        let causes = &self.counted.causes;
        let per_one = |calls: f64| calls / count(number);
        let all = per_one(causes.values().sum());
        let each = causes.iter().filter(|(_, calls)| **calls > 0.0);
        let each: Vec<_> = each
            .map(|(cause, calls)| format!("{cause} {:.1}", per_one(*calls)))
            .collect();
        format!("{all:.1} ({})", each.join(", "))
    }

    /// Processor time and memory: for `all` of something, of which there were `number`, each `one`.
    pub(super) fn process_rows(&self, table: &mut Table, all: &str, one: &str, number: usize) {
        let Self { before, after, .. } = self;
        let cpu = after.cpu - before.cpu;
        let per_one = 1000.0 * cpu / count(number);
        table.row(
            format!("the host's processor time for {all}"),
            format!("{}, {per_one:.1} ms per {one}", seconds(cpu)),
        );
        table.row(
            format!("the host's processor time before {all}"),
            seconds(before.cpu),
        );
        table.row(
            format!("the host's resident memory before and after {all}"),
            format!("{:.0} MiB, {:.0} MiB", before.rss, after.rss),
        );
        peak_row(table, *after);
    }
}

/// A row of the most memory that the host's process ever had.
pub(super) fn peak_row(table: &mut Table, usage: Usage) {
    table.goal(
        "the host's peak resident memory",
        format!("{:.0} MiB", usage.peak_rss),
        &format!("below {PEAK_GOAL} MiB"),
        usage.peak_rss < PEAK_GOAL,
    );
}

/// The host's requests that arrived within these moments.
pub(super) fn ours(requests: &[Request], from: f64, to: f64) -> Vec<Request> {
    requests
        .iter()
        .filter(|r| r.user == HOST && r.within(from, to))
        .cloned()
        .collect()
}

/// How many writes of all clients the API server carried out within these moments.
pub(super) fn writes_of_all(requests: &[Request], from: f64, to: f64) -> usize {
    requests
        .iter()
        .filter(|r| r.is_write() && r.succeeded() && r.within(from, to))
        .count()
}

/// How many of these are GETs and LISTs. Those of the Lease come with its renewal, by leader election.
pub(super) fn reads(requests: &[Request]) -> usize {
    requests
        .iter()
        .filter(|r| r.is_read() && !is_lease(r))
        .count()
}

/// How many of these are writes, the Lease's apart.
pub(super) fn writes(requests: &[Request]) -> usize {
    requests
        .iter()
        .filter(|r| r.is_write() && !is_lease(r))
        .count()
}

/// Whether a request is leader election's.
pub(super) fn is_lease(request: &Request) -> bool {
    request.concerns("leases")
}

/// Writes of some kind.
pub(super) struct Writes<'a> {
    /// How many were carried out, by their verb.
    done: BTreeMap<&'a str, usize>,
    /// How many were not.
    pub(super) refused: usize,
}

impl<'a> Writes<'a> {
    /// The writes among these requests that are of that kind.
    pub(super) fn among(requests: &'a [Request], kind: impl Fn(&Request) -> bool) -> Self {
        let writes = requests.iter().filter(|r| r.is_write() && kind(r));
        let (succeeded, refused): (Vec<_>, Vec<_>) = writes.partition(|r| r.succeeded());
        let mut done = BTreeMap::new();
        for request in succeeded {
            *done.entry(request.verb.as_str()).or_default() += 1;
        }
        Self {
            done,
            refused: refused.len(),
        }
    }

    /// How many were carried out.
    pub(super) fn done(&self) -> usize {
        self.done.values().sum()
    }

    /// How many with this verb were carried out.
    pub(super) fn of(&self, verb: &str) -> usize {
        self.done.get(verb).copied().unwrap_or(0)
    }

    /// How many were sent.
    pub(super) fn all(&self) -> usize {
        self.done() + self.refused
    }

    /// A row of these, for each `one` of `number` things.
    pub(super) fn row(
        &self,
        table: &mut Table,
        what: &str,
        (one, number): (&str, usize),
        goal: &str,
        met: bool,
    ) {
        let per_one = count(self.done()) / count(number);
        let refused = self.refused;
        let value = format!(
            "{per_one:.2} ({}); {refused} more were refused",
            self.by_verb()
        );
        table.goal(format!("{what} per {one}"), value, goal, met);
    }

    /// Those that were carried out, for people: `1000 delete, 2000 patch`.
    pub(super) fn by_verb(&self) -> String {
        let verbs: Vec<String> = self
            .done
            .iter()
            .map(|(verb, count)| format!("{count} {verb}"))
            .collect();
        verbs.join(", ")
    }
}

/// Requests by the account that they ran as, verb, resource and status, as Markdown.
pub(super) fn groups(requests: &[Request]) -> String {
    let mut groups: BTreeMap<(&str, &str, &str, u64), usize> = BTreeMap::new();
    for request in requests {
        let account = request.acting_as.as_deref().unwrap_or(&request.user);
        let account = account.rsplit(':').next().unwrap_or_default();
        *groups
            .entry((account, &request.verb, &request.resource, request.code))
            .or_default() += 1;
    }
    let mut text = String::from(
        "| ServiceAccount | verb | resource | status | requests |\n|---|---|---|---|---|\n",
    );
    for ((account, verb, resource, code), count) in groups {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {account} | {verb} | {resource} | {code} | {count} |"
        );
    }
    text
}

/// Rows of a while in which nothing happened: the host should not have asked for anything.
pub(super) fn idle_rows(table: &mut Table, requests: &[Request], (from, to): (f64, f64)) {
    for (what, count) in [
        ("writes", writes(requests)),
        ("GETs and LISTs", reads(requests)),
    ] {
        table.goal(
            format!("{what} of ours while nothing happens (the Lease's apart)"),
            format!("{count} in {:.0} s", to - from),
            "0",
            count == 0,
        );
    }
}

/// Rows of what the host asked for to read, and of all that it asked for: of `number` things, each `one`.
pub(super) fn request_rows(table: &mut Table, requests: &[Request], one: &str, number: usize) {
    let read = reads(requests);
    table.goal(
        "GETs and LISTs of ours, caches being full",
        read.to_string(),
        "0",
        read == 0,
    );
    let all = requests.iter().filter(|r| !is_lease(r)).count();
    table.row(
        format!("requests of ours per {one}, all together"),
        format!("{:.2}", count(all) / count(number)),
    );
}

/// A row of how large these objects became, with what an object may be at most.
pub(super) fn size_row(table: &mut Table, objects: &[Value]) {
    let size = |part: &Value| count(part.to_string().len()) / 1024.0;
    let largest = |sizes: &mut dyn Iterator<Item = f64>| sizes.fold(0.0, f64::max);
    let status = largest(&mut objects.iter().map(|object| size(&object["status"])));
    let whole = largest(&mut objects.iter().map(size));
    table.goal(
        "largest status, largest object with it and its managedFields",
        format!("{status:.1} KiB, {whole:.1} KiB"),
        &format!("below {OBJECT_LIMIT} KiB"),
        whole < OBJECT_LIMIT,
    );
}

/// The shortest time between two of these requests that are about the same object.
pub(super) fn shortest_interval<'a>(requests: impl Iterator<Item = &'a Request>) -> Option<f64> {
    let mut last: BTreeMap<&str, f64> = BTreeMap::new();
    let gaps = requests.filter_map(|r| Some(r.received - last.insert(&r.name, r.received)?));
    gaps.reduce(f64::min)
}

/// The median, and the time that 99 of 100 stay below.
pub(super) fn p50_and_p99(times: &[f64]) -> String {
    let [p50, p99] = [50, 99].map(|percent| seconds(percentile(times, percent)));
    format!("{p50}, {p99}")
}

/// The time that so many of 100 stay below.
pub(super) fn percentile(times: &[f64], percent: usize) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(place).copied().unwrap_or(f64::NAN)
}

fn number_and_mean(number: f64, time: f64) -> String {
    format!("{number:.0}, {}", seconds(time / number.max(1.0)))
}

/// A time, as people read it.
pub(super) fn seconds(time: f64) -> String {
    if time.abs() < 0.01 {
        format!("{:.2} ms", time * 1000.0)
    } else if time.abs() < 1.0 {
        format!("{:.0} ms", time * 1000.0)
    } else {
        format!("{time:.2} s")
    }
}

/// A number of things, to calculate with.
pub(super) fn count(number: usize) -> f64 {
    u32::try_from(number).map_or(f64::MAX, f64::from)
}
