//! Components in OCI registries: a real registry on this machine, pushed to by a client of another project.

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, api::DeleteParams};
use operon_api::{ActionPlugin, conditions};
use operon_e2e::{
    environment,
    plugin::{Plugin, SYSTEM, said},
    prelude::*,
    registry::{PASSWORD, Registry, put_secret},
};

/// The Secret that the chart's value `oci.pullSecrets` names where stories run.
const PULL_SECRET: &str = "e2e-registry";

fn artifact(plugin: &ActionPlugin) -> Option<String> {
    let status = plugin.status.as_ref()?;
    let artifact = status.artifact.as_ref()?;
    Some(artifact.manifest.clone())
}

/// The same component with a section that nothing reads, so that its digest is another one.
fn another(component: &[u8]) -> Vec<u8> {
    // A custom section: id 0, 3 bytes, a name of one byte, one byte of content.
    [component, &[0, 3, 1, b'x', 0]].concat()
}

#[tokio::test]
async fn a_component_is_pulled_with_a_secret_and_a_moved_tag_is_reported_until_it_is_followed() {
    story(async |world: &World| {
        let mut registry = Registry::up(world).await;
        let component = environment::component("operon_example_annotate");
        let first = registry.push("actions/annotate:1", &component);
        let base = || Plugin::annotate(world).without_component();

        // Without credentials, with a Secret that the host may not read, with one that does not exist, with a wrong
        // password: each says so.
        let plugin = base()
            .with("source", registry.source("actions/annotate:1", &json!([])))
            .install(world)
            .await;
        let name = plugin.name.clone();
        let refused = world
            .plugin_until(&name, "False", "RegistryUnauthorized")
            .await;
        assert!(
            said(&refused).contains(&registry.address),
            "{}",
            said(&refused)
        );
        let with = |secret: &str| {
            let secrets = json!([{"name": secret}]);
            json!({"spec": {"source": registry.source("actions/annotate:1", &secrets)}})
        };
        world.patch_plugin(&name, with("foreign")).await;
        let refused = world
            .plugin_until(&name, "False", "PullSecretForbidden")
            .await;
        assert!(
            said(&refused).contains("oci.pullSecrets"),
            "{}",
            said(&refused)
        );
        world.patch_plugin(&name, with(PULL_SECRET)).await;
        world
            .plugin_until(&name, "False", "PullSecretNotFound")
            .await;
        put_secret(world, PULL_SECRET, &registry.login("wrong")).await;
        let refused = world
            .plugin_until(&name, "False", "RegistryUnauthorized")
            .await;
        assert!(said(&refused).contains(PULL_SECRET), "{}", said(&refused));

        // The right password is found without a change of the plugin.
        put_secret(world, PULL_SECRET, &registry.login(PASSWORD)).await;
        let loaded = world.plugin_until(&name, "True", "Loaded").await;
        assert_eq!(artifact(&loaded).as_ref(), Some(&first));
        let pods = Deployment::of("foo", 1).up(world).await;
        world
            .create(&Job::of("opj", &plugin.action, &names(&pods)).object())
            .await;
        assert_eq!(
            job::progress(&world.finished("opj").await),
            Progress::Succeeded
        );

        // The tag is moved: reported, not followed.
        let second = registry.push("actions/annotate:1", &another(&component));
        assert_ne!(first, second);
        world
            .patch_plugin(&name, json!({"spec": {"limits": {"memory": "48Mi"}}}))
            .await;
        world
            .eventually("the moved tag is reported", async || {
                let plugin = world.plugins().get(&name).await?;
                let status = plugin.status.clone().unwrap_or_default();
                let moved = conditions::find(&status.conditions, conditions::TAG_MOVED);
                moved.context("no condition")?;
                ensure!(artifact(&plugin).as_ref() == Some(&first), "{status:?}");
                Ok(())
            })
            .await;
        let follow = json!({"spec": {"source": {"oci": {"pullPolicy": "Always"}}}});
        world.patch_plugin(&name, follow).await;
        world
            .eventually("the tag is followed", async || {
                let plugin = world.plugins().get(&name).await?;
                ensure!(
                    artifact(&plugin).as_ref() == Some(&second),
                    "{:?}",
                    plugin.status
                );
                let status = plugin.status.unwrap_or_default();
                let moved = conditions::find(&status.conditions, conditions::TAG_MOVED);
                ensure!(moved.is_none(), "{moved:?}");
                Ok(())
            })
            .await;

        // Without the registry, the component serves on, and is loaded again with other limits.
        registry.end();
        world
            .patch_plugin(&name, json!({"spec": {"limits": {"memory": "40Mi"}}}))
            .await;
        world.plugin_until(&name, "True", "Loaded").await;
        let secrets: Api<Secret> = Api::namespaced(world.client.clone(), SYSTEM);
        let deleted = secrets.delete(PULL_SECRET, &DeleteParams::default()).await;
        deleted.expect("the Secret is deleted");
    })
    .await;
}
