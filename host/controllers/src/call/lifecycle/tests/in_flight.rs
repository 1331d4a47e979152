//! Effects wait while as many are in flight as may be.

use operon_core::shares::{Claim, Place};

use super::*;

/// A call with an effect, and the only place for one, which another plugin has.
async fn waiting() -> (World, Place) {
    let labels = [OPERATING, OPERATE];
    let world = World::new(TargetStep::Operate, false, vec![mark()], &labels);
    let place = world.call.effects.take("other", "job", Claim::ONE).await;
    (world, place)
}

/// Lets other tasks go on as far as they can.
async fn settled() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_effect_is_performed_when_there_is_a_place_for_it() {
    let (world, place) = waiting().await;
    let sent = Arc::clone(&world.sent);
    let call = tokio::spawn(world.run());
    settled().await;
    assert_eq!(sent.lock().map(|sent| sent.len()).ok(), Some(0));
    drop(place);
    let (_, sent, _) = call.await.expect("it ends");
    assert_eq!(sent.len(), 1);
}

#[tokio::test]
async fn a_call_that_is_stopped_does_not_wait_for_a_place() {
    let (mut world, _place) = waiting().await;
    let (stop, stopped) = watch::channel(false);
    world.call.stop = stopped;
    let call = tokio::spawn(Box::pin(world.call.run()));
    settled().await;
    stop.send_replace(true);
    assert!(call.await.expect("it ends").is_none());
    assert_eq!(world.sent.lock().map(|sent| sent.len()).ok(), Some(0));
}
