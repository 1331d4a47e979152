//! Faults at every write of Operon's host: each scenario runs once without a fault, which finds its writes, and then
//! again with one fault at one write each. Every run must come to the same end.
//!
//! `cargo xtask faults` starts it with a cluster whose chart is installed and whose host is ended.

mod plan;
mod proxy;
mod request;
mod run;
mod scenario;
mod soak;
mod state;
mod watches;

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum as _};
use futures::{FutureExt as _, StreamExt as _, stream};

use crate::{
    plan::{Fault, Point},
    proxy::Strike,
    run::{Course, run},
    scenario::Scenario,
};

/// Which faults to make.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only these scenarios [default: all]
    #[arg(long)]
    scenario: Vec<Scenario>,
    /// Only these faults [default: all]
    #[arg(long)]
    fault: Vec<Fault>,
    /// Only at this write, as a failure prints it: "patch pods 2"
    #[arg(long)]
    at: Vec<Point>,
    /// Only of the watch of this resource
    #[arg(long, value_name = "RESOURCE")]
    watch: Option<String>,
    /// At so many writes, chosen by the seed [default: all]
    #[arg(long)]
    points: Option<usize>,
    /// About how long, in minutes
    #[arg(long)]
    minutes: Option<u64>,
    /// No faults: one host and random load for these minutes, and what the host holds
    #[arg(long, requires = "minutes")]
    soak: bool,
    /// Print what each step leads to without a fault
    #[arg(long)]
    show: bool,
    /// What chooses the faults and their order
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// One run to make.
#[derive(Clone, Debug)]
struct Case {
    scenario: Scenario,
    strike: Strike,
}

impl Case {
    /// The command that makes this run again.
    fn command(&self) -> String {
        let Strike {
            point,
            fault,
            watch,
        } = &self.strike;
        let watch = Some(watch).filter(|_| fault.is_of_watch());
        let watch = watch.map_or_else(String::new, |watch| format!(" --watch {watch}"));
        let (scenario, fault) = (self.scenario.name(), fault.name());
        format!("cargo xtask faults --scenario {scenario} --fault {fault} --at \"{point}\"{watch}")
    }
}

/// Runs that go on beside each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Group {
    /// They keep the machine busy.
    Busy,
    /// They mostly wait.
    Waiting,
    /// There is one Lease.
    Lease,
    /// They stop the whole cluster.
    Alone,
}

impl Group {
    fn of(fault: Fault) -> Self {
        match fault {
            Fault::Freeze | Fault::Delay => Self::Waiting,
            Fault::Lease | Fault::Partition => Self::Lease,
            Fault::Etcd | Fault::Apiserver => Self::Alone,
            _ => Self::Busy,
        }
    }

    /// How many at a time.
    fn width(self) -> usize {
        match self {
            Self::Busy => 4,
            Self::Waiting => 8,
            Self::Lease | Self::Alone => 1,
        }
    }

    /// How long one takes.
    fn length(self) -> Duration {
        Duration::from_secs(match self {
            Self::Busy => 15,
            Self::Waiting => 120,
            Self::Lease => 45,
            Self::Alone => 30,
        })
    }
}

/// What became of a run.
enum End {
    Same,
    /// There was no such write this time.
    NotStruck,
    Divergent,
}

#[tokio::main]
async fn main() -> ExitCode {
    match faults(Arguments::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn faults(arguments: Arguments) -> Result<bool> {
    let begin = Instant::now();
    let limit = arguments.minutes.map(Duration::from_mins);
    if arguments.soak {
        let length = limit.context("--minutes is missing")?;
        return soak::soak(length, arguments.seed).await.map(|()| true);
    }
    let mut scenarios = arguments.scenario.clone();
    if scenarios.is_empty() {
        scenarios = Scenario::value_variants().to_vec();
    }
    let first = scenarios.iter().map(|scenario| async {
        let course = contained(Box::pin(run(*scenario, None, None))).await;
        let course = course.with_context(|| format!("{} without a fault", scenario.name()))?;
        println!("{}: {} writes", scenario.name(), course.writes.len());
        anyhow::Ok((*scenario, course))
    });
    let courses: Arc<[_]> = futures::future::try_join_all(first).await?.into();
    if arguments.show {
        show(&courses);
    }
    let cases = cases(&courses, &arguments);
    let points: usize = courses.iter().map(|(_, course)| course.writes.len()).sum();
    // The end of the cluster's parts is for last.
    let until = limit.map(|limit| begin + limit);
    let until_alone = limit.map(|limit| begin + limit.mul_f64(0.8));
    let with = |group, until| in_group(group, &cases, &courses, until);
    let (busy, waiting, lease) = tokio::join!(
        with(Group::Busy, until_alone),
        with(Group::Waiting, until_alone),
        with(Group::Lease, until_alone),
    );
    let alone = with(Group::Alone, until).await;
    let ends: Vec<_> = [busy, waiting, lease, alone]
        .into_iter()
        .flatten()
        .collect();
    let count = |wanted: fn(&End) -> bool| ends.iter().filter(|end| wanted(end)).count();
    let divergent = count(|end| matches!(end, End::Divergent));
    let without = count(|end| matches!(end, End::NotStruck));
    println!(
        "{points} write points, {} faults, {divergent} divergent ({without} writes were not made again; {} s)",
        ends.len() - without,
        begin.elapsed().as_secs()
    );
    Ok(divergent == 0)
}

fn show(courses: &[(Scenario, Course)]) {
    for (scenario, course) in courses {
        for point in &course.writes {
            println!("{}: {point}", scenario.name());
        }
        for (step, state) in course.states.iter().enumerate() {
            println!("{}, step {}:\n{state}", scenario.name(), step + 1);
        }
    }
}

/// The runs to make, in an order that the seed gives.
fn cases(courses: &[(Scenario, Course)], arguments: &Arguments) -> Vec<Case> {
    let hash = |what: &dyn Fn(&mut DefaultHasher)| {
        let mut hasher = DefaultHasher::new();
        arguments.seed.hash(&mut hasher);
        what(&mut hasher);
        hasher.finish()
    };
    let points = courses.iter().flat_map(|(scenario, course)| {
        // What is given may be a write that not every run makes.
        let points = &arguments.at;
        let points = if points.is_empty() {
            &course.writes
        } else {
            points
        };
        points.iter().map(move |point| (*scenario, point))
    });
    let mut points: Vec<_> = points.collect();
    points.sort_by_cached_key(|(scenario, point)| {
        hash(&|hasher| (scenario.name(), point.to_string()).hash(hasher))
    });
    points.truncate(arguments.points.unwrap_or(usize::MAX));
    let mut cases = Vec::new();
    for (place, (scenario, point)) in points.into_iter().enumerate() {
        for (number, fault) in Fault::value_variants().iter().enumerate() {
            let is_wanted = if arguments.fault.is_empty() {
                is_due(*fault, place)
            } else {
                arguments.fault.contains(fault)
            };
            if !is_wanted {
                continue;
            }
            // One watch at a time; over all points it is every one.
            let kinds = scenario.kinds();
            let [_, _, _, plural] = kinds[(place + number) % kinds.len()];
            let watch = arguments.watch.clone().unwrap_or_else(|| plural.to_owned());
            let strike = Strike {
                point: point.clone(),
                fault: *fault,
                watch,
            };
            cases.push(Case { scenario, strike });
        }
    }
    cases.sort_by_cached_key(|case| hash(&|hasher| case.command().hash(hasher)));
    cases
}

/// Whether a fault is one of those at this place: of those that nothing runs beside, two take turns.
fn is_due(fault: Fault, place: usize) -> bool {
    match fault {
        Fault::Lease | Fault::Etcd => place.is_multiple_of(2),
        Fault::Partition | Fault::Apiserver => !place.is_multiple_of(2),
        _ => true,
    }
}

/// Makes the runs of a group; none begins that would end after `until`.
async fn in_group(
    group: Group,
    cases: &[Case],
    courses: &Arc<[(Scenario, Course)]>,
    until: Option<Instant>,
) -> Vec<End> {
    let mine = cases
        .iter()
        .filter(|case| Group::of(case.strike.fault) == group);
    let runs = mine.map(|case| async move {
        let is_late = until.is_some_and(|until| Instant::now() + group.length() > until);
        if is_late {
            return None;
        }
        Some(one(case.clone(), Arc::clone(courses)).await)
    });
    let ends = stream::iter(runs).buffer_unordered(group.width());
    ends.filter_map(std::future::ready).collect().await
}

/// Makes one run.
async fn one(case: Case, courses: Arc<[(Scenario, Course)]>) -> End {
    let begin = Instant::now();
    let course = courses
        .iter()
        .find(|(scenario, _)| *scenario == case.scenario);
    let expected = course.map(|(_, course)| course.states.as_slice());
    let ended = contained(Box::pin(run(
        case.scenario,
        Some(case.strike.clone()),
        expected,
    )))
    .await;
    let command = case.command();
    let what = command.trim_start_matches("cargo xtask faults ");
    let seconds = begin.elapsed().as_secs_f64();
    match ended {
        Ok(course) if course.has_struck => {
            println!("{what}: the same end ({seconds:.0} s)");
            End::Same
        }
        Ok(_) => {
            println!("{what}: no such write ({seconds:.0} s)");
            End::NotStruck
        }
        Err(error) => {
            println!("{what}: DIVERGENT ({seconds:.0} s): {error:#}\nto repeat it: {command}");
            End::Divergent
        }
    }
}

/// A run whose panics are errors: helpers of stories panic.
async fn contained<T>(run: impl Future<Output = Result<T>>) -> Result<T> {
    let caught = std::panic::AssertUnwindSafe(run).catch_unwind().await;
    caught.unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or(panic.downcast_ref::<&str>().copied());
        Err(anyhow::anyhow!("{}", said.unwrap_or("a panic")))
    })
}
