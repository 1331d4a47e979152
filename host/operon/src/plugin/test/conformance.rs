//! `operon plugin test --conformance`: runs the job once as it is, then again and again from the same world, each time
//! with one thing going wrong, and compares the ends. What the host and the cluster cannot do is not tried.

mod drive;
mod judge;
mod perform;
mod scenarios;
mod state;
mod table;
mod twist;

use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use operon_core::action::OpsProgress;

use self::{
    drive::{Call, Run},
    judge::{End, outcome, verdict},
    scenarios::{Case, Like, Scenario},
    table::Row,
    twist::{Function, Mishap, Twist},
};
use super::{
    changes::Paint,
    subject::{State, Subject},
};
use crate::{plugin::load::Loaded, stdout::print};

/// How long a test runs before it says that it does, and then again.
const PATIENCE: Duration = Duration::from_secs(2);

/// Rounds of a run beyond those in which the plain one must come to rest: after a mishap a host needs more.
const MORE_ROUNDS: usize = 5;

/// Runs all scenarios, and shows their table.
///
/// # Errors
/// How many failed; or the plain run breaks a rule.
pub(super) async fn run(
    subject: &Subject<'_>,
    again: &Loaded,
    rounds: usize,
    paint: Paint,
) -> anyhow::Result<()> {
    // All runs have the same number of rounds: a wait must not end in one of them because it has more time.
    let most = rounds + MORE_ROUNDS;
    let plain = Run::of(subject.clone(), Twist::default(), most).await;
    ensure!(
        plain.rounds <= rounds || plain.last_change < rounds,
        "the plain run, in which nothing goes wrong, does not come to rest in {}: raise --rounds, or the action writes in every round",
        table::count(rounds, "round")
    );
    if let Some(fault) = verdict(&plain, &subject.world, &plain, most, None) {
        bail!("the plain run, in which nothing goes wrong: {fault}");
    }
    let has_effects = plain.calls.iter().any(|call| call.effects > 0);
    let has_succeeded = |target: &State| target.progress == OpsProgress::Succeeded;
    ensure!(
        has_effects || plain.subject.targets.iter().all(has_succeeded),
        "nothing was tested: the plain run has no effect, and ends as {}: give targets, parameters and objects with which the action acts",
        outcomes(&plain)
    );
    print(&table::plain(&plain, paint))?;
    let mut tried = plain.calls.clone();
    tried.retain(|call| call.round <= rounds);
    let mut suite = Suite {
        subject,
        tried,
        rounds: most,
        plain_end: End::of(&plain, &subject.world),
        plain,
        canceled: Vec::new(),
        began: Instant::now(),
        said: Duration::ZERO,
    };
    suite.cancel().await;
    let scenarios = suite.scenarios();
    let mut rows = vec![setup(subject, again)];
    print(&table::head(Function::Setup, paint))?;
    print(&rows.iter().map(|row| row.line(paint)).collect::<String>())?;
    let mut function = Function::Setup;
    for (number, scenario) in scenarios.iter().enumerate() {
        if scenario.function != function {
            function = scenario.function;
            print(&table::head(function, paint))?;
        }
        let row = suite.row(scenario, number, scenarios.len()).await;
        print(&row.line(paint))?;
        rows.push(row);
    }
    let tried = rows.iter().filter(|row| row.runs > 0).count();
    let failed = rows.iter().filter(|row| row.wrong.is_some()).count();
    print(&format!("\n{}\n", table::sum(tried, failed)))?;
    ensure!(failed == 0, "{failed} of {tried} scenarios failed");
    Ok(())
}

/// `setup` is the only function that is called when a component is loaded, so it is loaded twice.
fn setup(subject: &Subject<'_>, again: &Loaded) -> Row {
    let is_same = subject.registration() == again.action.registration();
    Row {
        name: "called twice",
        runs: 1,
        wrong: (!is_same).then(|| "it declares something else the second time".to_owned()),
        more: 0,
    }
}

/// How the run of a case ended.
enum Tried {
    /// Its mishap changed nothing: it is no run.
    Nothing,
    Good,
    /// What is wrong with it.
    Wrong(String),
}

/// All runs of a test.
struct Suite<'a> {
    subject: &'a Subject<'a>,
    rounds: usize,
    plain: Run<'a>,
    /// The calls of the plain run at which something may go wrong: after it there are rounds left to come to rest.
    tried: Vec<Call>,
    plain_end: End,
    /// The runs whose job is deleted before a call: the number of the call, the calls, and the end.
    canceled: Vec<(usize, Vec<Call>, End)>,
    began: Instant,
    /// When the last line about the time was printed.
    said: Duration,
}

impl Suite<'_> {
    /// Deletes the job before each call of `operate-target`.
    async fn cancel(&mut self) {
        let calls = self.tried.iter().enumerate();
        let calls = calls.filter(|(_, call)| call.function == Function::Operate);
        let calls: Vec<_> = calls.map(|(number, _)| number).collect();
        for before in calls {
            let run = self.one(Twist::canceled_before(before)).await;
            let end = End::of(&run, &self.subject.world);
            self.canceled.push((before, run.calls, end));
        }
    }

    fn scenarios(&self) -> Vec<Scenario> {
        let has_made = !self.plain.made.is_empty();
        let calls = &self.tried;
        let mut all = scenarios::of_operation(Function::Operate, calls, has_made);
        all.extend(scenarios::of_operation(Function::Progress, calls, has_made));
        let canceled = self.canceled.iter();
        let canceled = canceled.map(|(before, calls, _)| (*before, calls.clone()));
        all.extend(scenarios::of_release(calls, &canceled.collect::<Vec<_>>()));
        all
    }

    async fn one(&self, twist: Twist) -> Run<'_> {
        Run::of(self.subject.clone(), twist, self.rounds).await
    }

    async fn row(&mut self, scenario: &Scenario, number: usize, of: usize) -> Row {
        let mut row = Row {
            name: scenario.name,
            runs: scenario.cases.len(),
            wrong: None,
            more: 0,
        };
        for case in &scenario.cases {
            let elapsed = self.began.elapsed();
            if elapsed > self.said + PATIENCE {
                self.said = elapsed;
                eprintln!(
                    "{} of {of} scenarios after {} s",
                    number + 1,
                    elapsed.as_secs()
                );
            }
            let wrong = match self.tried(case).await {
                Tried::Nothing => {
                    row.runs -= 1;
                    continue;
                }
                Tried::Good => continue,
                Tried::Wrong(wrong) => wrong,
            };
            if row.wrong.is_some() {
                row.more += 1;
            } else {
                row.wrong = Some(wrong);
            }
        }
        row
    }

    /// What is wrong with the run of a case, and where it differs from a run that goes well.
    async fn tried(&self, case: &Case) -> Tried {
        let run = self.one(case.twist).await;
        if !run.has_met {
            return Tried::Nothing;
        }
        let untouched;
        let end = match case.like {
            Like::Plain | Like::Nothing => &self.plain_end,
            Like::CanceledBefore(call) => {
                let mut all = self.canceled.iter();
                all.find(|(before, _, _)| *before == call)
                    .map_or(&self.plain_end, |(_, _, end)| end)
            }
            Like::Untouched => {
                untouched = End::of(&self.untouched().await, &self.subject.world);
                &untouched
            }
        };
        let wrong = verdict(
            &run,
            &self.subject.world,
            &self.plain,
            self.rounds,
            Some((case.like, end)),
        );
        wrong.map_or(Tried::Good, |wrong| {
            Tried::Wrong(format!("{wrong} ({})", place(case.twist, &run.calls)))
        })
    }

    /// A run without any call.
    async fn untouched(&self) -> Run<'_> {
        Run::of(self.subject.clone(), Twist::default(), 0).await
    }
}

/// The ends of all targets, in words.
fn outcomes(run: &Run<'_>) -> String {
    let targets = run.subject.targets.iter().map(outcome);
    targets.collect::<Vec<_>>().join(", ")
}

/// Where a run differs from one that goes well.
fn place(twist: Twist, calls: &[Call]) -> String {
    let called = |number: usize| {
        let call = calls.get(number);
        call.map_or_else(String::new, |call| {
            format!(
                "call {}, {} of {}",
                number + 1,
                call.function.name(),
                call.target
            )
        })
    };
    let mishap = twist.mishap.map(|(number, mishap)| {
        let call = called(number);
        match mishap {
            Mishap::Killed(performed) => {
                format!("{call}, {} performed", table::count(performed, "effect"))
            }
            Mishap::Conflict(performed) => format!("{call}, effect {}", performed + 1),
            Mishap::Meanwhile(_) => format!("{call}, before its effects"),
            Mishap::Twice
            | Mishap::Before(_)
            | Mishap::Touched
            | Mishap::MadeDeleted
            | Mishap::AskedFirst => call,
        }
    });
    let canceled = twist
        .canceled
        .map(|number| format!("job deleted before call {}", number + 1));
    let parts: Vec<_> = canceled.into_iter().chain(mishap).collect();
    parts.join("; ")
}
