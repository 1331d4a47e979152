//! A deleted job whose action is not loaded.

use super::*;

/// Reconciles for more than the time for which a job waits for an action that could not be loaded.
async fn reconcile_for_long(world: &World) {
    for _ in 0..90 {
        if world.job().finalizers().is_empty() {
            return;
        }
        world.reconcile().await;
        tokio::time::advance(Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_time_for_which_an_action_could_not_be_loaded_begins_after_its_load_has_failed() {
    let world = World::new(&names("fine", 1));
    let catalogue = &world.controller.catalogue;
    catalogue.stop(|_| Some("its settings changed".to_owned()));
    world.delete();
    reconcile_for_long(&world).await;
    assert!(!world.job().finalizers().is_empty(), "others load first");
    let reason = |reason: &str| BTreeMap::from([("fine-0".to_owned(), reason.to_owned())]);
    assert_eq!(world.errors(), reason("ActionNotReady"));

    assert!(catalogue.fail("Scripted", "uid", "it is broken", || true));
    reconcile_for_long(&world).await;
    assert!(world.job().finalizers().is_empty());
    assert_eq!(world.errors(), reason("ReleaseAbandoned"));
}
