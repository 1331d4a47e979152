//! The scenarios: for each function what may go wrong at its calls, and at which calls of a run that goes well.

use super::{
    drive::Call,
    twist::{Fate, Function, Mishap, Twist},
};

/// With what a run is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Like {
    /// With the plain run.
    Plain,
    /// With a run whose job is deleted before this call, and in which nothing else goes wrong.
    CanceledBefore(usize),
    /// With a world in which nothing was called.
    Untouched,
    /// With none: another end is right.
    Nothing,
}

/// One run of a scenario.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    pub(super) twist: Twist,
    pub(super) like: Like,
}

/// What may go wrong with the calls of a function.
#[derive(Debug)]
pub(super) struct Scenario {
    pub(super) function: Function,
    pub(super) name: &'static str,
    pub(super) cases: Vec<Case>,
}

/// A scenario's name, and its mishaps at a call that answers with so many effects.
type Named = (&'static str, fn(usize) -> Vec<Mishap>);

/// The mishaps after which a run must end as if nothing had gone wrong.
fn mishaps(function: Function) -> Vec<Named> {
    let mut all: Vec<Named> = vec![("called twice", |_| vec![Mishap::Twice])];
    if function == Function::Progress {
        all.push(("host killed after it", |_| vec![Mishap::Killed(0)]));
        return all;
    }
    all.push(("host killed before its effects", |_| {
        vec![Mishap::Killed(0)]
    }));
    all.push(("host killed between its effects", |effects| {
        (1..effects).map(Mishap::Killed).collect()
    }));
    all.push(("host killed after its effects", |effects| {
        let has_some = effects > 0;
        has_some
            .then_some(Mishap::Killed(effects))
            .into_iter()
            .collect()
    }));
    all.push(("conflict on each effect", |effects| {
        (0..effects).map(Mishap::Conflict).collect()
    }));
    all.push(("objects changed by another client", |effects| {
        let has_some = effects > 0;
        has_some.then_some(Mishap::Touched).into_iter().collect()
    }));
    all
}

const FATES: [(&str, Fate); 3] = [
    ("pod missing", Fate::Missing),
    ("pod terminating", Fate::Terminating),
    ("pod recreated", Fate::Recreated),
];

/// The calls of a function in a run, with their number.
fn calls_of(calls: &[Call], function: Function) -> impl Iterator<Item = (usize, &Call)> {
    let numbered = calls.iter().enumerate();
    numbered.filter(move |(_, call)| call.function == function)
}

/// The scenarios of a function whose calls happen in the plain run.
pub(super) fn of_operation(function: Function, plain: &[Call], has_made: bool) -> Vec<Scenario> {
    let mut scenarios = Vec::new();
    let mut add = |name, like: Like, at: &dyn Fn(&Call) -> Vec<Mishap>| {
        let calls = calls_of(plain, function);
        let cases = calls.flat_map(|(number, call)| {
            let mishaps = at(call).into_iter();
            mishaps.map(move |mishap| Case {
                twist: Twist::at(number, mishap),
                like,
            })
        });
        scenarios.push(Scenario {
            function,
            name,
            cases: cases.collect(),
        });
    };
    for (name, of) in mishaps(function) {
        add(name, Like::Plain, &|call| of(call.effects));
    }
    for (name, fate) in FATES {
        add(name, Like::Nothing, &|call| {
            let mut mishaps = vec![Mishap::Before(fate)];
            if call.effects > 0 {
                mishaps.push(Mishap::Meanwhile(fate));
            }
            mishaps
        });
    }
    match function {
        Function::Operate => add("created objects deleted", Like::Nothing, &|_| {
            has_made
                .then_some(Mishap::MadeDeleted)
                .into_iter()
                .collect()
        }),
        Function::Progress => {
            // The call before which it is called.
            let calls = calls_of(plain, Function::Operate);
            let cases = calls.map(|(number, _)| Case {
                twist: Twist::at(number, Mishap::AskedFirst),
                like: Like::Plain,
            });
            let (name, cases) = ("called before operate-target", cases.collect());
            scenarios.push(Scenario {
                function,
                name,
                cases,
            });
        }
        Function::Setup | Function::Release => {}
    }
    scenarios
}

/// The scenarios of `release-target`: the job is deleted before each call of `operate-target`, or the plain run ends with
/// a release. `canceled` has the calls of each run whose job is deleted before a call.
pub(super) fn of_release(plain: &[Call], canceled: &[(usize, Vec<Call>)]) -> Vec<Scenario> {
    let function = Function::Release;
    let mut scenarios = Vec::new();
    let first = canceled.first().map(|(before, _)| *before);
    let before = first.map(|before| Case {
        twist: Twist::canceled_before(before),
        like: Like::Untouched,
    });
    scenarios.push(Scenario {
        function,
        name: "called before operate-target",
        cases: before.into_iter().collect(),
    });
    let later = canceled.iter().skip(1).map(|(before, _)| Case {
        twist: Twist::canceled_before(*before),
        like: Like::Nothing,
    });
    scenarios.push(Scenario {
        function,
        name: "called after each operate-target",
        cases: later.collect(),
    });
    let killed = calls_of(plain, Function::Operate).flat_map(|(number, call)| {
        (0..=call.effects).map(move |performed| Case {
            twist: Twist::canceled_before(number + 1).with(number, Mishap::Killed(performed)),
            like: Like::Nothing,
        })
    });
    scenarios.push(Scenario {
        function,
        name: "called after a killed operate-target",
        cases: killed.collect(),
    });
    let mut add = |name, compared: bool, at: &dyn Fn(&Call) -> Vec<Mishap>| {
        let mut cases = Vec::new();
        let plain = (Twist::default(), Like::Plain, plain);
        let runs = canceled.iter().map(|(before, calls)| {
            let like = Like::CanceledBefore(*before);
            (Twist::canceled_before(*before), like, calls.as_slice())
        });
        for (twist, like, calls) in std::iter::once(plain).chain(runs) {
            for (number, call) in calls_of(calls, function) {
                cases.extend(at(call).into_iter().map(|mishap| Case {
                    twist: twist.with(number, mishap),
                    like: if compared { like } else { Like::Nothing },
                }));
            }
        }
        scenarios.push(Scenario {
            function,
            name,
            cases,
        });
    };
    for (name, of) in mishaps(function) {
        add(name, true, &|call| of(call.effects));
    }
    for (name, fate) in FATES {
        add(name, false, &|call| {
            let mut mishaps = vec![Mishap::Before(fate)];
            if call.effects > 0 {
                mishaps.push(Mishap::Meanwhile(fate));
            }
            mishaps
        });
    }
    scenarios
}
