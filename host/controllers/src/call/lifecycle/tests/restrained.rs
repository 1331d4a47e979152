//! Which calls set an action aside, and which calls are held back then.

use super::*;

/// An action that is loaded once, and called again and again.
struct Plugin {
    action: Arc<Fixed>,
    loaded: Arc<Loaded>,
}

impl Plugin {
    fn new() -> Self {
        let action = Arc::<Fixed>::default();
        let mut call = World::new(TargetStep::Operate, false, vec![], &[]).call;
        let loaded = Arc::get_mut(&mut call.loaded).expect("nobody else has it");
        loaded.action = Arc::clone(&action) as Arc<dyn Action>;
        Self {
            action,
            loaded: call.loaded,
        }
    }

    /// A call of this step, which is stopped if it does not end.
    async fn call(&self, step: TargetStep, outcome: Outcome) -> Option<Answer> {
        let is_stopped = matches!(outcome, Outcome::NeverEnds);
        *self.action.outcome() = outcome;
        let mut call = World::new(step, false, vec![], &[OPERATING, OPERATE]).call;
        call.loaded = Arc::clone(&self.loaded);
        call.stop = watch::channel(is_stopped).1;
        call.target.last_failure = Some(Failure::new("OwnTrouble", "of this target"));
        Box::pin(call.run()).await
    }

    async fn operate(&self, outcome: Outcome) -> Option<Answer> {
        self.call(TargetStep::Operate, outcome).await
    }

    /// How often the action was called.
    fn calls(&self) -> usize {
        self.action.called.load(Ordering::Relaxed)
    }

    fn is_aside(&self) -> bool {
        self.loaded.restraint.aside().is_some()
    }
}

fn failure() -> Failure {
    Failure::new("PluginTrapped", "boom")
}

fn fault() -> ActionError {
    ActionError::Plugin(failure())
}

#[tokio::test]
async fn only_faults_of_calls_that_operate_set_an_action_aside() {
    use Outcome::{Done, NeverEnds, OperateFails, ReportFails};
    let faults = usize::try_from(operon_core::action_plugin::breaker::FAULTS).unwrap_or(usize::MAX);
    // What all calls but the last two come to, what the one before the last comes to, and whether the last, which
    // faults, sets the action aside.
    for (many, before, is_aside) in [
        (OperateFails(fault()), OperateFails(fault()), true),
        (ReportFails(fault()), ReportFails(fault()), true),
        (ReportFails(fault()), OperateFails(fault()), true),
        (OperateFails(fault()), Done, false),
        (
            OperateFails(fault()),
            OperateFails(ActionError::Terminal(failure())),
            false,
        ),
        (
            OperateFails(fault()),
            ReportFails(ActionError::Retry(failure(), None)),
            false,
        ),
        // What a stopped call would have come to is not known: it counts neither way.
        (OperateFails(fault()), NeverEnds, false),
        (Done, OperateFails(fault()), false),
    ] {
        let plugin = Plugin::new();
        for _ in 2..faults {
            assert!(plugin.operate(many.clone()).await.is_some());
        }
        let stopped = matches!(before, NeverEnds);
        assert_eq!(plugin.operate(before.clone()).await.is_none(), stopped);
        assert!(!plugin.is_aside(), "{many:?} {before:?}");
        plugin.operate(OperateFails(fault())).await;
        assert_eq!(plugin.is_aside(), is_aside, "{many:?} {before:?}");
        if stopped {
            plugin.operate(OperateFails(fault())).await;
            assert!(plugin.is_aside(), "the count went on");
        }
    }
}

#[tokio::test]
async fn a_target_waits_while_its_action_is_set_aside_and_its_release_does_not() {
    let plugin = Plugin::new();
    while !plugin.is_aside() {
        plugin.operate(Outcome::OperateFails(fault())).await;
    }
    let calls = plugin.calls();
    let answer = plugin.operate(Outcome::Done).await;
    let Some(Answer::Error {
        error: ActionError::Retry(waits, Some(_)),
        extra_info: None,
    }) = answer
    else {
        unreachable!("it does not wait: {answer:?}");
    };
    assert_eq!(waits.reason, "ActionSuspended");
    for part in ["\"act\"", "PluginTrapped (boom)", "OwnTrouble"] {
        assert!(waits.message.contains(part), "{part}: {}", waits.message);
    }
    assert_eq!(plugin.calls(), calls, "the action was not called");
    let release = || TargetStep::Release(Cause::Failed);
    let answer = plugin.call(release(), Outcome::Done).await;
    assert!(answer.is_some_and(|answer| !matches!(answer, Answer::Error { .. })));
    assert_eq!(plugin.calls(), calls + 1);
    assert!(plugin.is_aside(), "a release says nothing of that");
    let suspended = plugin.loaded.restraint.suspended("act").expect("it is");
    assert_eq!(
        (suspended.plugin.as_str(), suspended.fault),
        ("act", failure())
    );
    assert!(!suspended.wait.is_zero());
}

#[tokio::test]
async fn a_call_that_waits_for_its_place_does_not_begin_when_its_action_is_set_aside() {
    let plugin = Plugin::new();
    let waits = plugin.operate(Outcome::Waits);
    let others = async {
        let failed = failure();
        while !plugin.is_aside() {
            let other = plugin.loaded.restraint.admit("act", "other", None);
            other.expect("it serves").ended(Some(&failed));
        }
        plugin.action.place.notify_one();
    };
    let (answer, ()) = futures::join!(waits, others);
    let Some(Answer::Error {
        error: ActionError::Retry(waits, Some(_)),
        ..
    }) = answer
    else {
        unreachable!("it does not wait: {answer:?}");
    };
    assert_eq!(waits.reason, "ActionSuspended");
    assert_eq!(plugin.calls(), 0, "the call did not begin");
    assert!(plugin.is_aside(), "a call that did not begin says nothing");
}
