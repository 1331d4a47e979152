//! Dry runs: the API server checks what an action would do, and nothing changes.

use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use operon_e2e::{pods::identities, prelude::*};

fn dry(mut job: OperationJob) -> OperationJob {
    job.spec.dry_run = true;
    job
}

#[tokio::test]
async fn a_dry_run_says_what_would_be_done_and_changes_nothing() {
    story(async |world: &World| {
        let before = Deployment::of("foo", 2).up(world).await;
        let names = names(&before);
        for (action, wanted) in [
            ("Evict", format!("evict Pod {}", names[0])),
            ("Replace", format!("patch Pod {}: ", names[0])),
        ] {
            let name = action.to_lowercase();
            world
                .create(&dry(Job::of(&name, action, &names).object()))
                .await;
            let done = world.finished(&name).await;
            assert_eq!(
                job::progress(&done),
                Progress::Succeeded,
                "{:?}",
                done.status
            );
            let lines = job::detail(&done, &names[0]).dry_run;
            assert!(lines[0].starts_with(&wanted), "{lines:?}");
            assert!(lines.iter().map(String::len).sum::<usize>() <= 512);
        }
        let after = world.settled("foo", 2).await;
        assert_eq!(identities(&after), identities(&before));
        for pod in &before {
            world.assert_untouched(pod).await;
        }

        // The verdict of the API server is that of the real operation.
        let budget = json!({
            "metadata": {"name": "foo"},
            "spec": {"minAvailable": 2, "selector": {"matchLabels": {"app": "foo"}}},
        });
        world.make::<PodDisruptionBudget>(budget).await;
        world
            .eventually("the budget is in force", async || {
                let budget: PodDisruptionBudget = world.get("foo").await?;
                let status = budget.status.context("no status")?;
                ensure!(status.current_healthy == 2 && status.disruptions_allowed == 0);
                Ok(())
            })
            .await;
        world
            .create(&dry(Job::of("refused", "Evict", &names).object()))
            .await;
        let done = world.finished("refused").await;
        assert_eq!(job::error(&done, &names[0]).reason, "DisruptionBudget");
        assert_eq!(
            identities(&world.settled("foo", 2).await),
            identities(&before)
        );
        world.delete::<OperationJob>("refused").await;
        world.gone::<OperationJob>("refused").await;
    })
    .await;
}
