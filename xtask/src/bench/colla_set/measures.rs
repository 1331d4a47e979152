//! What a run of the bench means: the measures that the audit log and the host's process give.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};

use crate::audit::Request;
use crate::bench::load;
use crate::bench::report::{self, HOST, Spent, Writes, count, is_lease, seconds};
use crate::bench::table::Table;

/// How much of what the API server takes from plain clients should be used.
const SHARE: f64 = 0.8;

/// The most processor time that the host should need for a pod, in milliseconds.
const CPU: f64 = 28.0;

/// What was seen beside the audit log.
#[derive(Debug)]
pub(super) struct Run {
    /// How many pods there are.
    pub(super) pods: usize,
    /// What happened to all of them, in order.
    pub(super) phases: Vec<Phase>,
    /// Begin and end of the time in which nothing happened.
    pub(super) idle: (f64, f64),
    /// Patches a second of plain clients.
    pub(super) limit: Option<f64>,
}

/// Something that happened to all pods.
#[derive(Debug)]
pub(super) struct Phase {
    /// What happened to them.
    pub(super) what: &'static str,
    /// The resource whose last write ends it.
    pub(super) last: &'static str,
    /// Its begin, and when the host was quiet again.
    pub(super) window: (f64, f64),
    /// To how many pods it happened.
    pub(super) done: usize,
    /// What the host spent on it.
    pub(super) spent: Spent,
}

impl Phase {
    /// The most requests of the host that one pod should need, if that is limited.
    fn requests_goal(&self) -> Option<f64> {
        match self.what {
            "replaced" => Some(13.0),
            "updated in place" => Some(10.0),
            _ => None,
        }
    }
}

/// What the audit log has of a phase.
#[derive(Debug)]
struct Counts {
    /// From its begin to the last status, in seconds.
    wall: f64,
    /// All requests that the host sent because of it.
    ours: Vec<Request>,
    /// All successful writes until the last status, whoever sent them.
    all_writes: usize,
}

impl Counts {
    fn of(requests: &[Request], phase: &Phase) -> Result<Self> {
        let (begin, quiet) = phase.window;
        let ours = report::ours(requests, begin, quiet);
        let is_last = |r: &&Request| r.resource == phase.last && r.is_write() && r.succeeded();
        let end = ours.iter().rev().find(is_last);
        let end = end
            .with_context(|| format!("the audit log has no write of {}", phase.last))?
            .answered;
        Ok(Self {
            wall: end - begin,
            all_writes: report::writes_of_all(requests, begin, end),
            ours,
        })
    }
}

/// The measures.
#[derive(Debug)]
pub(super) struct Measures {
    run: Run,
    /// For each phase.
    counts: Vec<Counts>,
    /// What the host asked for while nothing happened.
    idle: Vec<Request>,
}

impl Measures {
    /// Takes the measures.
    pub(super) fn take(requests: &[Request], run: Run) -> Result<Self> {
        let counts = run.phases.iter().map(|phase| Counts::of(requests, phase));
        Ok(Self {
            counts: counts.collect::<Result<_>>()?,
            idle: report::ours(requests, run.idle.0, run.idle.1),
            run,
        })
    }

    /// A table for each phase, with the host's requests, and one for the whole.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for (phase, counts) in self.run.phases.iter().zip(&self.counts) {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "All pods are {}:\n", phase.what);
            let _ = writeln!(text, "{}", self.phase(phase, counts).markdown());
            let _ = writeln!(text, "{}", report::groups(&counts.ours));
        }
        text + &self.whole().markdown()
    }

    fn phase(&self, phase: &Phase, counts: &Counts) -> Table {
        let mut table = Table::default();
        let pods = self.run.pods;
        table.goal(
            format!("pods {}", phase.what),
            phase.done.to_string(),
            "all",
            phase.done == pods,
        );
        self.time(&mut table, counts);
        requests(&mut table, phase, counts, pods);
        let Spent { before, after, .. } = &phase.spent;
        table.row(
            "passes over CollaSets, mean time of one",
            phase.spent.passes(),
        );
        if phase.spent.counted.calls > 0.0 {
            let calls = phase.spent.calls();
            table.row("calls of the action, mean time of one", calls);
        }
        let cpu = after.cpu - before.cpu;
        let per_pod = 1000.0 * cpu / count(pods);
        table.goal(
            "the host's processor time",
            format!("{}, {per_pod:.1} ms per pod", seconds(cpu)),
            &format!("at most {CPU} ms per pod"),
            per_pod < CPU + 0.05,
        );
        table.row(
            "the host's resident memory before and after",
            format!("{:.0} MiB, {:.0} MiB", before.rss, after.rss),
        );
        table
    }

    fn time(&self, table: &mut Table, counts: &Counts) {
        let Counts {
            wall, all_writes, ..
        } = counts;
        let (pods, writes) = (count(self.run.pods), count(*all_writes));
        table.row("time until the last status", seconds(*wall));
        table.row("pods per second", format!("{:.1}", pods / wall));
        table.row(
            "writes of everybody meanwhile, per pod and per second",
            format!("{:.1}, {:.0}", writes / pods, writes / wall),
        );
        let name = "pods per second, of what the API server takes";
        match self.run.limit {
            None => table.row(name, "no curl here"),
            Some(limit) => {
                let share = writes / wall / limit;
                let possible = limit * pods / writes;
                table.goal(
                    name,
                    format!("{:.0} % of {possible:.1}", share * 100.0),
                    &format!("at least {:.0} %", SHARE * 100.0),
                    share >= SHARE,
                );
            }
        }
    }

    /// The measures of the whole run.
    fn whole(&self) -> Table {
        let mut table = Table::default();
        let limit = self.run.limit;
        table.row(
            format!(
                "pod patches per second from {} plain clients, afterwards",
                load::CLIENTS
            ),
            limit.map_or("no curl here".to_owned(), |limit| format!("{limit:.0}")),
        );
        report::idle_rows(&mut table, &self.idle, self.run.idle);
        if let Some(phase) = self.run.phases.last() {
            report::peak_row(&mut table, phase.spent.after);
        }
        table
    }
}

/// Which requests are of a kind.
type Kind = fn(&Request) -> bool;

/// What the host asked for.
fn requests(table: &mut Table, phase: &Phase, counts: &Counts, pods: usize) {
    let ours = &counts.ours;
    let all = ours.iter().filter(|r| !is_lease(r) && r.verb != "watch");
    let per_pod = count(all.count()) / count(pods);
    let name = "requests of ours per pod, all together";
    match phase.requests_goal() {
        None => table.row(name, format!("{per_pod:.2}")),
        Some(most) => table.goal(
            name,
            format!("{per_pod:.2}"),
            &format!("at most {most}"),
            per_pod < most + 0.005,
        ),
    }
    let kinds: [(&str, Kind); 4] = [
        ("pod writes", |r| {
            r.concerns("pods") && r.resource != "pods/status"
        }),
        ("writes of pods' statuses", |r| r.resource == "pods/status"),
        ("Events", |r| r.concerns("events")),
        ("all other writes", |r| {
            !r.concerns("pods") && !r.concerns("events") && !is_lease(r)
        }),
    ];
    for (kind, is_one) in kinds {
        let writes = Writes::among(ours, is_one);
        let refused = writes.refused;
        let done = writes.done();
        table.row(
            format!("{kind} of ours, per pod"),
            format!(
                "{done}, {:.2} ({}); {refused} more were refused",
                count(done) / count(pods),
                writes.by_verb()
            ),
        );
    }
    let is_status = |r: &&Request| r.resource == "collasets/status" && r.user == HOST;
    let gap = report::shortest_interval(ours.iter().filter(is_status));
    table.goal(
        "shortest interval between writes of the status of one CollaSet",
        gap.map_or("none".to_owned(), seconds),
        "at most one a second",
        gap.is_none_or(|gap| gap >= 1.0),
    );
    let read = report::reads(ours);
    table.goal(
        "GETs and LISTs of ours, caches being full",
        read.to_string(),
        "0",
        read == 0,
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::answered as request;
    use crate::bench::machine::Usage;
    use crate::bench::metrics::Counted;

    fn phase(what: &'static str, last: &'static str, window: (f64, f64)) -> Phase {
        let usage = |cpu, rss| Usage {
            cpu,
            rss,
            peak_rss: rss,
        };
        Phase {
            what,
            last,
            window,
            done: 2,
            spent: Spent {
                before: usage(1.0, 30.0),
                after: usage(1.05, 40.0),
                counted: Counted {
                    passes: 4.0,
                    pass_time: 0.02,
                    calls: 0.0,
                    call_time: 0.0,
                    ..Counted::default()
                },
            },
        }
    }

    #[test]
    fn a_phase_ends_with_its_last_status_and_counts_what_the_host_asked_for_until_it_was_quiet()
    -> Result<()> {
        let requests = [
            request(HOST, "patch", "pods", "a", 9.0),
            request(HOST, "patch", "pods", "a", 10.0),
            request("kwok", "patch", "pods/status", "a", 11.0),
            request(HOST, "patch", "collasets/status", "app", 13.75),
            request(HOST, "create", "events", "a", 15.0),
            request(HOST, "patch", "leases", "operon", 16.0),
            request(HOST, "patch", "pods", "a", 21.0),
        ];
        let phase = phase("updated in place", "collasets/status", (10.0, 20.0));
        let counts = Counts::of(&requests, &phase)?;
        assert!((counts.wall - 4.0).abs() < 1e-9);
        assert_eq!((counts.all_writes, counts.ours.len()), (3, 4));
        let run = Run {
            pods: 2,
            phases: vec![phase],
            idle: (30.0, 40.0),
            limit: Some(1.0),
        };
        let text = Measures::take(&requests, run)?.text();
        for row in [
            "pods updated in place ",
            "| 75 % of 0.7 ",
            "at least 80 %: **missed**",
            "| 1.50 ",
            "at most 10: met",
            "| 50 ms, 25.0 ms per pod ",
        ] {
            assert!(text.contains(row), "{row} in\n{text}");
        }
        Ok(())
    }
}
