//! Turns, waits and answers of targets, through calls that begin and end.

use futures::FutureExt as _;
use operon_api::operation_job::TargetDetail;
use operon_core::{
    action::{ActionError, Failure, OpsProgress, PodLimit, ProgressReport},
    operation_job::plan::Cause,
    selector::Selector,
};

use super::*;
use crate::{
    reads::{Limited, Read, Recorder, Seen},
    view::{Declared, View},
};

const JOB: &str = "uid";

fn plan(name: &str, step: TargetStep) -> TargetPlan {
    TargetPlan {
        index: 0,
        detail: TargetDetail {
            name: name.to_owned(),
            ..TargetDetail::default()
        },
        step,
        write: None,
    }
}

fn operate(name: &str) -> TargetPlan {
    plan(name, TargetStep::Operate)
}

fn release(name: &str) -> TargetPlan {
    plan(name, TargetStep::Release(Cause::Deleted))
}

fn error() -> Answer {
    Answer::Error {
        error: ActionError::Plugin(Failure::new("PluginTimeout", "it took too long")),
        extra_info: None,
    }
}

fn good() -> Answer {
    Answer::Report(ProgressReport {
        progress: OpsProgress::Processing,
        failure: None,
        extra_info: std::collections::BTreeMap::default(),
        recheck_after: None,
    })
}

fn turns(
    book: &Book,
    targets: &[TargetPlan],
    change: impl Fn(&TargetPlan, &Reads) -> Change,
) -> Vec<Turn> {
    let targets: Vec<_> = targets.iter().collect();
    let turns = book.turns(JOB, &targets, book.moment(), change);
    let turns = turns.now_or_never();
    turns.expect("others run only between two targets, and after a while")
}

fn turn(book: &Book, plan: &TargetPlan) -> Turn {
    turns(book, std::slice::from_ref(plan), |_, _| Change::None)[0]
}

/// A whole call, whose answer gets into a status.
fn call(book: &Arc<Book>, plan: &TargetPlan, answer: Answer) {
    book.begin(JOB, plan).end(Some(answer), None);
    let (number, _) = book.answer(JOB, plan).expect("an answer");
    book.written(JOB, &[(plan.detail.name.clone(), number)]);
}

#[test]
fn a_target_that_failed_waits_by_itself_and_longer_each_time() {
    let book = Arc::new(Book::default());
    let (sick, well) = (operate("sick"), operate("well"));
    call(&book, &well, good());
    for seconds in [0.5, 1.0, 2.0, 4.0] {
        call(&book, &sick, error());
        let Turn::Waits(left) = turn(&book, &sick) else {
            unreachable!("it waits")
        };
        let most = Duration::from_secs_f64(seconds);
        assert!(left <= most && left > most / 2, "{left:?} of {most:?}");
        assert_eq!(turn(&book, &well), Turn::Free(1, CallCause::Unsettled));
    }
    call(&book, &sick, good());
    assert!(matches!(turn(&book, &sick), Turn::Free(..)));
}

#[test]
fn a_wait_ends_for_another_step_a_change_of_the_target_or_of_the_action() {
    let waits = || {
        let book = Arc::new(Book::default());
        call(&book, &operate("a"), error());
        assert!(matches!(turn(&book, &operate("a")), Turn::Waits(_)));
        book
    };
    let book = waits();
    book.changed(JOB, "another");
    assert!(matches!(turn(&book, &operate("a")), Turn::Waits(_)));
    book.changed(JOB, "a");
    assert!(matches!(turn(&book, &operate("a")), Turn::Free(..)));
    let book = waits();
    book.action_changed(JOB);
    assert!(matches!(turn(&book, &operate("a")), Turn::Free(..)));
    assert!(matches!(turn(&waits(), &release("a")), Turn::Free(..)));
}

#[test]
fn changes_do_not_make_a_loop_of_calls_that_fail() {
    let book = Arc::new(Book::default());
    call(&book, &operate("a"), error());
    call(&book, &operate("a"), error());
    book.changed(JOB, "a");
    let Turn::Waits(left) = turn(&book, &operate("a")) else {
        unreachable!("it waits")
    };
    assert!(left <= Duration::from_millis(500), "{left:?}");
}

#[test]
fn a_call_under_way_is_stopped_when_another_question_is_asked() {
    let book = Arc::new(Book::default());
    let ticket = book.begin(JOB, &operate("a"));
    for step in [
        operate("a"),
        plan("a", TargetStep::Await(Failure::new("X", ""))),
    ] {
        assert_eq!(turn(&book, &step), Turn::UnderWay);
        assert!(!*ticket.stop.borrow());
    }
    assert_eq!(turn(&book, &release("a")), Turn::UnderWay, "until it ends");
    assert!(*ticket.stop.borrow());
    ticket.end(None, None);
    assert_eq!(turn(&book, &release("a")), Turn::Free(1, CallCause::Step));
    assert_eq!(book.answer(JOB, &release("a")), None);
}

#[test]
fn an_answer_is_kept_until_a_status_has_it() {
    let book = Arc::new(Book::default());
    let a = operate("a");
    book.begin(JOB, &a).end(Some(good()), None);
    for _ in 0..2 {
        assert_eq!(book.answer(JOB, &a), Some((1, good())));
    }
    assert_eq!(book.answer(JOB, &release("a")), None);
    book.begin(JOB, &a).end(Some(error()), None);
    book.written(JOB, &[("a".to_owned(), 1)]);
    assert_eq!(book.answer(JOB, &a), Some((2, error())), "a later one");
    book.written(JOB, &[("a".to_owned(), 2)]);
    assert_eq!(book.answer(JOB, &a), None);
}

#[test]
fn a_target_is_not_called_again_before_a_status_has_its_answer_unless_something_changed() {
    let book = Arc::new(Book::default());
    let a = operate("a");
    book.begin(JOB, &a).end(Some(good()), None);
    assert_eq!(turn(&book, &a), Turn::Answered);
    book.written(JOB, &[("a".to_owned(), 1)]);
    assert_eq!(turn(&book, &a), Turn::Free(1, CallCause::Unsettled));
    let ticket = book.begin(JOB, &a);
    book.changed(JOB, "a");
    ticket.end(Some(good()), None);
    assert_eq!(turn(&book, &a), Turn::Free(2, CallCause::Unsettled));
}

/// A view in which nothing exists, and what a call depends on that asked it these questions.
fn reads(selectors: &[&str]) -> Option<Reads> {
    let view = Arc::new(View::new("ns", Declared::default(), Arc::default()));
    let recorder = Recorder::new(view, Seen::default());
    for selector in selectors {
        let _ = operon_core::action::ClusterView::find_pods(&recorder, selector);
    }
    recorder.reads()
}

fn question(selector: &str) -> u64 {
    crate::digests::digest(Read::FindPods(selector.to_owned()))
}

#[test]
fn a_target_is_called_again_only_when_something_changes_that_its_last_call_depended_on() {
    let after = |book: &Book, change: Change| {
        let a = operate("a");
        turns(book, std::slice::from_ref(&a), |_, _| change.clone())[0]
    };
    let answered = |answer: Answer| {
        let book = Arc::new(Book::default());
        let a = operate("a");
        book.begin(JOB, &a).end(Some(answer), reads(&["own"]));
        book.written(JOB, &[("a".to_owned(), 1)]);
        book
    };
    let book = answered(good());
    assert_eq!(after(&book, Change::None), Turn::Settled);
    let direct = Turn::Free(1, CallCause::Target);
    assert_eq!(after(&book, Change::Target), direct);
    let read = Change::Reads(vec![question("own")]);
    assert_eq!(after(&book, read), Turn::Free(1, CallCause::Read));
    assert!(matches!(turn(&book, &release("a")), Turn::Free(..)));
    book.changed(JOB, "a");
    assert_eq!(
        after(&book, Change::None),
        Turn::Settled,
        "nothing that was read"
    );
    book.action_changed(JOB);
    assert_eq!(after(&book, Change::None), direct);
    let book = answered(error());
    book.changed(JOB, "a");
    assert_eq!(
        after(&book, Change::None),
        Turn::Free(1, CallCause::Failure)
    );
}

#[tokio::test(start_paused = true)]
async fn changes_of_what_several_targets_read_are_gathered() {
    let book = Arc::new(Book::default());
    let targets = [operate("a"), operate("b")];
    for (number, target) in (1..).zip(&targets) {
        let name = &target.detail.name;
        let asked = reads(&["shared", name]);
        book.begin(JOB, target).end(Some(good()), asked);
        book.written(JOB, &[(name.clone(), number)]);
    }
    let after = |questions: &[&str]| {
        let changed: Vec<_> = questions.iter().map(|asked| question(asked)).collect();
        turns(&book, &targets, |_, _| match changed.as_slice() {
            [] => Change::None,
            changed => Change::Reads(changed.to_vec()),
        })
    };
    let (half, second) = (Duration::from_millis(500), Duration::from_secs(1));
    assert_eq!(after(&["shared"]), [Turn::Waits(half); 2]);
    tokio::time::advance(half / 2).await;
    assert_eq!(
        after(&["shared"]),
        [Turn::Waits(half / 2); 2],
        "from the first change on"
    );
    let [one, two] = [1, 2].map(|number| Turn::Free(number, CallCause::Read));
    assert_eq!(after(&["shared", "a"]), [one, two], "no other reads it");
    tokio::time::advance(half / 2).await;
    let both = [1, 2].map(|number| Turn::Free(number, CallCause::SharedRead));
    assert_eq!(after(&["shared"]), both);
    book.begin(JOB, &targets[0])
        .end(Some(good()), reads(&["shared", "a"]));
    tokio::time::advance(second).await;
    assert_eq!(after(&["shared"])[0], Turn::Waits(half), "of the next call");
}

/// What a call depends on whose target waits for room below a limit.
fn limited_reads(selector: &str) -> Reads {
    let pods = crate::store::Writer::<k8s_openapi::api::core::v1::Pod>::default();
    let declared = Declared {
        pods: Some((pods.as_reader(), Selector::default())),
        ..Declared::default()
    };
    let view = Arc::new(View::new("ns", declared, Arc::default()));
    let recorder = Recorder::new(view, Seen::default());
    recorder.note_limit(PodLimit {
        label_selector: selector.to_owned(),
        pods: 0,
    });
    recorder.reads().expect("few reads")
}

#[tokio::test(start_paused = true)]
async fn targets_that_wait_for_a_limit_are_called_when_there_is_room_and_one_of_them_now_and_then()
{
    let book = Arc::new(Book::default());
    let targets = ["a", "b", "c"].map(operate);
    let call = |target: &TargetPlan| {
        book.begin(JOB, target)
            .end(Some(good()), Some(limited_reads("app=x")));
        let (number, _) = book.answer(JOB, target).expect("an answer");
        book.written(JOB, &[(target.detail.name.clone(), number)]);
    };
    targets.iter().for_each(call);
    let turns = |room: usize| {
        turns(&book, &targets, |_, reads| {
            Change::Limited(Limited {
                limit: reads.limit().expect("a limit"),
                room,
                changed: Vec::new(),
            })
        })
    };
    let (waits, free) = (Turn::Waits(Duration::from_secs(5)), |number| {
        Turn::Free(number, CallCause::Room)
    });
    assert_eq!(turns(0), [waits; 3]);
    assert_eq!(turns(2), [free(1), free(2), waits]);
    assert_eq!(turns(9), [free(1), free(2), free(3)]);
    tokio::time::advance(Duration::from_secs(5)).await;
    let probe = Turn::Free(1, CallCause::Recheck);
    assert_eq!(turns(0), [probe, Turn::Settled, Turn::Settled]);
    call(&targets[0]);
    assert_eq!(turns(0), [waits; 3]);
    tokio::time::advance(Duration::from_secs(5)).await;
    let probe = Turn::Free(2, CallCause::Recheck);
    assert_eq!(
        turns(0),
        [Turn::Settled, probe, Turn::Settled],
        "the longest ago"
    );
}

fn acted(remembered: &[(&str, &str)]) -> Answer {
    let pair = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    Answer::Acted {
        extra_info: remembered.iter().map(pair).collect(),
    }
}

#[test]
fn a_call_follows_immediately_on_effects_and_has_to_report() {
    let book = Arc::new(Book::default());
    let a = operate("a");
    let ticket = book.begin(JOB, &a);
    assert!(!ticket.has_to_report);
    ticket.end(Some(acted(&[])), reads(&[]));
    assert_eq!(turn(&book, &a), Turn::Free(1, CallCause::Effect));
    let ticket = book.begin(JOB, &a);
    assert!(ticket.has_to_report);
    ticket.end(Some(good()), reads(&[]));
    book.written(JOB, &[("a".to_owned(), 2)]);
    assert_eq!(turn(&book, &a), Turn::Settled);
    assert!(!book.begin(JOB, &a).has_to_report);
}

#[test]
fn what_an_action_remembers_beside_its_effects_is_in_a_status_before_its_next_call() {
    let book = Arc::new(Book::default());
    let a = operate("a");
    book.begin(JOB, &a)
        .end(Some(acted(&[("k", "v")])), reads(&[]));
    assert_eq!(turn(&book, &a), Turn::Answered);
    book.written(JOB, &[("a".to_owned(), 1)]);
    assert_eq!(turn(&book, &a), Turn::Free(1, CallCause::Effect));
    // What it saw is outdated anyway.
    let ticket = book.begin(JOB, &a);
    book.changed(JOB, "a");
    ticket.end(Some(acted(&[("k", "v")])), reads(&[]));
    assert_eq!(turn(&book, &a), Turn::Free(2, CallCause::Effect));
}

#[tokio::test(start_paused = true)]
async fn a_target_is_called_again_when_its_action_asked_for_it() {
    let book = Arc::new(Book::default());
    let (a, second) = (operate("a"), Duration::from_secs(1));
    let answer = Answer::Report(ProgressReport {
        progress: OpsProgress::Processing,
        failure: None,
        extra_info: std::collections::BTreeMap::default(),
        recheck_after: Some(second),
    });
    book.begin(JOB, &a).end(Some(answer), reads(&[]));
    book.written(JOB, &[("a".to_owned(), 1)]);
    assert_eq!(turn(&book, &a), Turn::Waits(second));
    tokio::time::advance(second).await;
    assert_eq!(turn(&book, &a), Turn::Free(1, CallCause::Recheck));
}

#[test]
fn a_call_that_ends_in_no_way_at_all_is_over_nevertheless() {
    let book = Arc::new(Book::default());
    drop(book.begin(JOB, &operate("a")));
    assert_eq!(turn(&book, &operate("a")), Turn::Free(1, CallCause::Step));
}

#[test]
fn a_job_that_is_gone_leaves_nothing_and_its_calls_stop() {
    let book = Arc::new(Book::default());
    let ticket = book.begin(JOB, &operate("a"));
    book.blocked(JOB, true);
    book.forget(JOB);
    assert!(*ticket.stop.borrow());
    ticket.end(Some(good()), None);
    assert!(book.lock().is_empty());
}

#[tokio::test]
async fn the_end_of_the_process_waits_for_calls_to_stop() {
    let book = Arc::new(Book::default());
    let mut ticket = book.begin(JOB, &operate("a"));
    let call = tokio::spawn(async move {
        let stopped = ticket.stop.wait_for(|stop| *stop).await.is_ok();
        tokio::task::yield_now().await;
        ticket.end(None, None);
        stopped
    });
    book.stop().await;
    assert_eq!(turn(&book, &operate("a")), Turn::Free(1, CallCause::Step));
    assert!(call.await.expect("no panic"));
}

#[test]
fn a_job_is_blocked_from_the_first_time_that_it_is_found_so() {
    let book = Book::default();
    assert_eq!(book.blocked(JOB, false), Duration::ZERO);
    let mut last = book.blocked(JOB, true);
    while last < Duration::from_millis(20) {
        let now = book.blocked(JOB, true);
        assert!(now >= last, "it goes on");
        last = now;
    }
    book.blocked(JOB, false);
    assert!(book.blocked(JOB, true) < last, "it begins anew");
}

#[test]
fn others_use_the_book_while_what_a_call_read_is_compared() {
    let (book, a) = (Arc::new(Book::default()), operate("a"));
    book.begin(JOB, &a).end(Some(good()), reads(&["own"]));
    let (done, is_done) = std::sync::mpsc::channel();
    let others = std::cell::Cell::new(None);
    let found = turns(&book, std::slice::from_ref(&a), |_, _| {
        let (book, done) = (Arc::clone(&book), done.clone());
        std::thread::spawn(move || {
            book.changed("another job", "b");
            done.send(())
        });
        others.set(is_done.recv_timeout(Duration::from_secs(10)).ok());
        Change::None
    });
    assert_eq!(others.get(), Some(()));
    assert_eq!(found, [Turn::Answered]);
}

#[tokio::test]
async fn other_tasks_run_while_what_calls_read_is_compared() {
    let book = Arc::new(Book::default());
    let targets = ["a", "b", "c"].map(operate);
    for target in &targets {
        book.begin(JOB, target).end(Some(good()), reads(&["own"]));
    }
    let has_run = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (runs, seen) = (Arc::clone(&has_run), Mutex::new(Vec::new()));
    let other = tokio::spawn(async move { runs.store(true, Ordering::Relaxed) });
    let compare = |_: &TargetPlan, _: &Reads| {
        std::thread::sleep(SLICE);
        let mut seen = seen.lock().expect("no panic");
        seen.push(has_run.load(Ordering::Relaxed));
        Change::None
    };
    let targets: Vec<_> = targets.iter().collect();
    let found = book.turns(JOB, &targets, book.moment(), compare).await;
    assert_eq!(found, [Turn::Answered; 3]);
    assert_eq!(*seen.lock().expect("no panic"), [false, true, true]);
    other.await.expect("no panic");
}

#[test]
fn a_target_is_not_called_with_what_was_observed_before_the_end_of_its_call() {
    let (book, a) = (Arc::new(Book::default()), operate("a"));
    let ticket = book.begin(JOB, &a);
    let observed = book.moment();
    ticket.end(Some(acted(&[])), reads(&[]));
    let targets = [&a];
    let found = book.turns(JOB, &targets, observed, |_, _| Change::None);
    assert_eq!(found.now_or_never(), Some(vec![Turn::UnderWay]));
    assert_eq!(turn(&book, &a), Turn::Free(1, CallCause::Effect));
}

#[test]
fn a_call_that_ends_while_what_the_previous_one_read_is_compared_has_its_answer_next() {
    let (book, a) = (Arc::new(Book::default()), operate("a"));
    book.begin(JOB, &a).end(Some(good()), reads(&["own"]));
    book.written(JOB, &[("a".to_owned(), 1)]);
    let found = turns(&book, std::slice::from_ref(&a), |_, _| {
        book.begin(JOB, &a).end(Some(error()), reads(&["new"]));
        book.begin(JOB, &a).end(Some(good()), reads(&["new"]));
        Change::Target
    });
    assert_eq!(found, [Turn::UnderWay]);
    assert_eq!(turn(&book, &a), Turn::Answered);
}

#[test]
fn limits_that_no_target_waits_for_any_more_are_forgotten() {
    let (book, a) = (Arc::new(Book::default()), operate("a"));
    let limited = |reads: &Reads| {
        Change::Limited(Limited {
            limit: reads.limit().expect("a limit"),
            room: 1,
            changed: Vec::new(),
        })
    };
    for number in 0..1_000 {
        let reads = limited_reads(&format!("app=x{number}"));
        book.begin(JOB, &a).end(Some(good()), Some(reads));
        book.written(JOB, &[("a".to_owned(), number + 1)]);
        let found = turns(&book, std::slice::from_ref(&a), |_, reads| limited(reads));
        assert_eq!(found, [Turn::Free(number + 1, CallCause::Room)]);
    }
    assert_eq!(book.lock()[JOB].probed.len(), 1);
}
