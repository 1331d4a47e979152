//! Effects, and the writes of the lifecycle for them, wait while as many are in flight as may be.

use operon_core::shares::{Claim, Place};

use super::*;

/// A call with an effect.
fn effect() -> World {
    let labels = [OPERATING, OPERATE];
    World::new(TargetStep::Operate, false, vec![mark()], &labels)
}

/// The only place for an effect of a call, which another plugin has.
async fn taken(world: &World) -> Place {
    world.call.effects.take("other", "job", Claim::ONE).await
}

/// Lets other tasks go on as far as they can.
async fn settled() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_effect_is_performed_when_there_is_a_place_for_it() {
    let release = TargetStep::Release(Cause::Failed);
    let operate = TargetStep::Operate;
    for (what, world) in [
        ("an effect", effect()),
        (
            "a pod leaves service",
            World::new(operate, true, vec![delete("pod")], &[]),
        ),
        (
            "a pod returns to service",
            World::new(release, true, vec![], &[OPERATING, OPERATE]),
        ),
    ] {
        let place = taken(&world).await;
        let sent = Arc::clone(&world.sent);
        let call = tokio::spawn(world.run());
        settled().await;
        assert_eq!(sent.lock().map(|sent| sent.len()).ok(), Some(0), "{what}");
        drop(place);
        let (_, sent, _) = call.await.expect("it ends");
        assert_eq!(sent.len(), 1, "{what}");
    }
}

#[tokio::test]
async fn a_call_that_is_stopped_does_not_wait_for_a_place() {
    let mut world = effect();
    let _place = taken(&world).await;
    let (stop, stopped) = watch::channel(false);
    world.call.stop = stopped;
    let call = tokio::spawn(Box::pin(world.call.run()));
    settled().await;
    stop.send_replace(true);
    assert!(call.await.expect("it ends").is_none());
    assert_eq!(world.sent.lock().map(|sent| sent.len()).ok(), Some(0));
}
