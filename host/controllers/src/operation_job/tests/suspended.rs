//! A job whose action is set aside because its calls fault.

use operon_core::action_plugin::breaker::{ACTION_SUSPENDED, FAULTS};

use super::*;

impl World {
    /// A job whose targets have not started, and have pods.
    fn pending(targets: &[String]) -> Self {
        let world = Self::new(targets);
        {
            let mut stored = world.stored.lock().unwrap_or_else(PoisonError::into_inner);
            stored["status"]["targetDetails"] = json!([]);
            written(&mut stored);
        }
        world.controller.jobs.wrote(world.job());
        for name in targets {
            let pod = json!({"metadata": {"namespace": "ns", "name": name, "uid": name, "resourceVersion": "1"}});
            let pod = serde_json::from_value(pod).expect("a pod");
            world.controller.pods.wrote(pod);
        }
        world
    }

    fn started(&self) -> usize {
        let details = self.job().status.unwrap_or_default().target_details;
        details.iter().filter(|d| d.start_time.is_some()).count()
    }
}

#[tokio::test]
async fn targets_start_when_their_action_serves_again() {
    let world = World::pending(&names("fine", 3));
    let loaded = world.controller.catalogue.loaded("Scripted");
    let loaded = loaded.expect("it is loaded");
    let call = || loaded.restraint.admit("scripted", "another job", None).ok();
    let fine = call().expect("the action serves");
    for _ in 0..FAULTS {
        let fault = Failure::new("PluginTrapped", "boom");
        call().expect("the action serves").ended(Some(&fault));
    }
    let (next, _) = world.reconcile().await;
    assert_eq!(world.started(), 0);
    let waits = |(_, reason): (&String, &String)| reason == ACTION_SUSPENDED;
    assert!(world.errors().iter().all(waits), "{:?}", world.errors());
    assert_eq!(world.errors().len(), 3);
    let again = next.requeue_after.expect("it looks again");
    assert!(again <= Duration::from_secs(5), "{again:?}");
    fine.ended(None);
    let begin = Instant::now();
    while world.started() < 3 {
        world.reconcile().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(begin.elapsed() < PATIENCE * 5, "{:?}", world.errors());
    }
}
