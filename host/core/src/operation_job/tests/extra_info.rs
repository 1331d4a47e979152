//! What an action records has a budget for each target, and the status can always be stored.

use std::time::Duration;

use operon_api::operation_job::{Progress, TargetDetail};

use super::{
    size::{Made, OBJECT, names, stored, world},
    world::{World, failed, pending, processing, report, terminal},
};
use crate::{
    action::{ActionError, Attributes, Failure, OpsProgress, Unfinished},
    operation_job::{
        conclude::Answer,
        size::{EXTRA_INFO, bytes},
    },
};

const TOO_LARGE: &str = "ExtraInfoTooLarge";

/// Extra-info of about so many bytes, in values of at most 1 KiB.
fn info(size: usize) -> Attributes {
    let (whole, rest) = (size / 1024, size % 1024);
    let lengths = std::iter::repeat_n(1024, whole).chain([rest]);
    let entries = lengths.enumerate();
    entries
        .map(|(number, length)| (format!("k{number}"), "x".repeat(length)))
        .collect()
}

/// The most that the host takes from one answer.
fn giant() -> Attributes {
    (0..32)
        .map(|number| (format!("{number:063}"), "x".repeat(1024)))
        .collect()
}

fn with(info: Attributes, answer: Answer) -> Answer {
    match answer {
        Answer::Report(mut report) => {
            report.extra_info = info;
            Answer::Report(report)
        }
        Answer::Acted { extra_info: _ } => Answer::Acted { extra_info: info },
        Answer::Operated { extra_info: _ } => Answer::Operated { extra_info: info },
        Answer::Released { extra_info: _ } => Answer::Released { extra_info: info },
        Answer::Releasing {
            unfinished,
            extra_info: _,
        } => Answer::Releasing {
            unfinished,
            extra_info: info,
        },
        Answer::Error {
            error,
            extra_info: _,
        } => Answer::Error {
            error,
            extra_info: Some(info),
        },
        Answer::Tried { effects } => Answer::Tried { effects },
    }
}

fn acted(info: Attributes) -> Answer {
    Answer::Acted { extra_info: info }
}

fn reason<'a>(world: &'a World, name: &str) -> Option<&'a str> {
    let error = world.detail(name).error.as_ref()?;
    Some(error.reason.as_str())
}

/// One pass in which each of these targets gets an answer with extra-info of this size; then, which were refused.
fn refused(world: &mut World, sizes: &[(&str, usize)]) -> Vec<String> {
    let answers: Vec<_> = sizes
        .iter()
        .map(|(name, size)| (*name, acted(info(*size))))
        .collect();
    world.pass(&answers);
    let all = sizes.iter().map(|(name, _)| *name);
    all.filter(|name| reason(world, name) == Some(TOO_LARGE))
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_target_that_records_more_than_the_status_has_room_for_fails_alone() {
    // How many targets, how long their names, what the last ones record, and how many of them are refused. All
    // others record what every target has room for.
    for (count, length, hogs, size, wanted) in [
        (1, 20, 1, 35_000, 0),
        (30, 20, 30, 35_000, 0),
        (60, 20, 60, 35_000, 60),
        (60, 20, 5, 35_000, 0),
        (1_000, 40, 500, 1_000, 0),
        (1_000, 40, 1_000, 2_000, 1_000),
        (1_000, 40, 20, 35_000, 0),
        (1_000, 40, 40, 35_000, 40),
    ] {
        let names = names(count, length);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let details: Vec<_> = names.iter().map(|name| processing(name)).collect();
        let mut world = World::with(&details);
        let sizes: Vec<_> = names
            .iter()
            .enumerate()
            .map(|(place, name)| (*name, if place < count - hogs { 200 } else { size }))
            .collect();
        let found = refused(&mut world, &sizes);
        let case = format!("{count} x {length}: {hogs} x {size}");
        assert_eq!(found, names[count - hogs..][..wanted], "{case}");
        for (name, size) in &sizes {
            let is_refused = found.iter().any(|one| one == name);
            let wanted = if is_refused {
                Attributes::new()
            } else {
                info(*size)
            };
            assert_eq!(world.detail(name).extra_info, wanted, "{case} {name}");
        }
        assert!(stored(&world, Made::ByServerSideApply) < OBJECT, "{case}");
    }
}

#[test]
fn the_failure_names_the_size_and_the_budget_and_what_the_action_reported() {
    let names = names(60, 20);
    let details: Vec<_> = names.iter().map(|name| processing(name)).collect();
    let reported = report(
        OpsProgress::Failed,
        Some(Failure::new("Sick", "it is not well")),
    );
    let mut world = World::with(&details);
    let answers: Vec<_> = names
        .iter()
        .map(|name| (name.as_str(), with(giant(), reported.clone())))
        .collect();
    world.pass(&answers);
    let detail = world.detail(&names[0]);
    let message = &detail.error.as_ref().expect("an error").message;
    let size = format!("recorded {} bytes", bytes(&giant()));
    for part in [&size, "room for 25", "Sick: it is not well"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert_eq!(detail.progress, Progress::Failed);
}

#[test]
fn what_was_recorded_stays_and_what_every_target_has_room_for_is_taken_though_others_took_the_rest()
{
    let names = names(60, 20);
    let detail = |(place, name): (usize, &String)| TargetDetail {
        // The status is nearly full.
        extra_info: if place < 43 { giant() } else { info(100) },
        ..processing(name)
    };
    let details: Vec<_> = names.iter().enumerate().map(detail).collect();
    let mut world = World::with(&details);
    let same = |name| (name, acted(giant()));
    let (first, last) = (names[0].as_str(), names[59].as_str());
    let within = info(EXTRA_INFO - 20);
    assert!(bytes(&within) <= EXTRA_INFO);
    world.pass(&[same(first), (last, acted(within.clone()))]);
    assert_eq!(world.detail(first).extra_info, giant());
    assert_eq!(world.detail(last).extra_info, within);
    assert_eq!(refused(&mut world, &[(last, 34_000)]), [last]);
    assert_eq!(world.detail(last).extra_info, within);
    assert!(stored(&world, Made::ByServerSideApply) < OBJECT);
}

#[test]
fn a_finished_target_needs_no_room() {
    let names = names(100, 20);
    for answer in [
        report(OpsProgress::Succeeded, None),
        Answer::Released {
            extra_info: Attributes::new(),
        },
    ] {
        let is_release = matches!(answer, Answer::Released { .. });
        let begun = |name: &String| {
            if is_release {
                failed(name, "Sick")
            } else {
                processing(name)
            }
        };
        let details: Vec<_> = names.iter().map(begun).collect();
        let mut world = World::with(&details);
        let answers: Vec<_> = names
            .iter()
            .map(|name| (name.as_str(), with(giant(), answer.clone())))
            .collect();
        world.pass(&answers);
        for name in &names {
            assert_ne!(reason(&world, name), Some(TOO_LARGE));
        }
        assert!(stored(&world, Made::ByServerSideApply) < OBJECT);
    }
}

#[test]
fn a_release_that_records_too_much_has_failed_and_is_called_again() {
    let names = names(60, 20);
    let details: Vec<_> = names.iter().map(|name| failed(name, "Sick")).collect();
    let mut world = World::with(&details);
    let releasing = Answer::Releasing {
        unfinished: Unfinished {
            failure: Failure::new("Waiting", "not yet"),
            recheck_after: None,
        },
        extra_info: giant(),
    };
    let answers: Vec<_> = names
        .iter()
        .map(|name| (name.as_str(), releasing.clone()))
        .collect();
    let told = world.pass(&answers);
    assert!(told.retry && !told.released);
    let detail = world.detail(&names[0]);
    assert_eq!(detail.extra_info, Attributes::new());
    let error = detail.error.as_ref().expect("an error");
    assert_eq!(error.reason, "Sick");
    assert!(
        error
            .message
            .contains("release failed: the action recorded"),
        "{}",
        error.message
    );
}

/// The answers of an action that records as much as it can, whatever it is called for.
fn greedy(round: usize) -> Answer {
    let retry = ActionError::Retry(Failure::new("Busy", "later"), Some(Duration::from_secs(1)));
    let answer = match round % 5 {
        0 => acted(Attributes::new()),
        1 => report(OpsProgress::Processing, None),
        2 => Answer::Error {
            error: retry,
            extra_info: None,
        },
        3 => Answer::Operated {
            extra_info: Attributes::new(),
        },
        _ => terminal("no"),
    };
    with(giant(), answer)
}

#[test]
fn the_status_can_always_be_stored_whatever_an_action_records() {
    for (count, length) in [(40, 20), (300, 40), (10_000, 20)] {
        let names = names(count, length);
        let mut world = world(&names, pending);
        world.pass(&[]);
        for round in 0..9 {
            let processing: Vec<String> = world
                .status()
                .target_details
                .iter()
                .filter(|detail| detail.progress == Progress::Processing)
                .map(|detail| detail.name.clone())
                .collect();
            // A part of them at a time, so that some have recorded much when others begin.
            let answers: Vec<_> = processing
                .iter()
                .enumerate()
                .filter(|(place, _)| place % 3 == round % 3)
                .map(|(place, name)| (name.as_str(), greedy(round / 3 + place)))
                .collect();
            world.pass(&answers);
            let size = stored(&world, Made::ByServerSideApply);
            assert!(size < OBJECT, "{count} x {length}, pass {round}: {size}");
        }
    }
}

#[test]
fn targets_start_while_there_is_room_beside_what_others_recorded() {
    let names = names(2_000, 40);
    let detail = |name: &str, place: usize| {
        let recorded = TargetDetail {
            extra_info: giant(),
            ..processing(name)
        };
        if place < 24 { recorded } else { pending(name) }
    };
    let details: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(place, name)| detail(name, place))
        .collect();
    let count = |world: &World| {
        let details = world.status().target_details.iter();
        let processing = details.filter(|detail| detail.progress == Progress::Processing);
        processing.count()
    };
    let mut full = World::with(&details);
    full.pass(&[]);
    assert_eq!(count(&full), 24, "there is no room for another one");
    let mut free = world(&names, pending);
    free.pass(&[]);
    assert!((1_900..2_000).contains(&count(&free)), "{}", count(&free));
    assert!(stored(&full, Made::ByServerSideApply) < OBJECT);
}
