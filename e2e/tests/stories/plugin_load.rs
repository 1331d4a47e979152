//! Plugins that can't be loaded, or whose account may not do what the action asks for: each says why, and
//! comes as soon as what was missing does.

use k8s_openapi::{
    api::rbac::v1::ClusterRoleBinding,
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use operon_api::{ActionPlugin, keys};
use operon_e2e::{
    environment,
    plugin::{Plugin, REPLACE_VERBS, SYSTEM, digest, pod_rules, said},
    prelude::*,
};
use serde_json::Value;
use tokio::time::{Instant, sleep};

#[tokio::test]
async fn a_plugin_that_can_not_be_loaded_says_why() {
    story(async |world: &World| {
        let wasm = || environment::component("operon_example_annotate");
        let map = |name: &str, key: &str| json!({"configMap": {"name": name, "key": key}});
        let pinned = format!("sha256:{}", "0".repeat(64));
        let base = || Plugin::annotate(world);
        let named = |plugin: Plugin, name: &str| {
            let name = world.named(name);
            let action = json!(format!("{}-{name}", plugin.action));
            plugin.named(&name).with("action", action)
        };
        let broken = |content: Vec<u8>, name: &str| {
            named(
                Plugin::of(world, "Annotate", content, pod_rules(&["get", "patch"])),
                name,
            )
        };
        let module = b"\0asm\x01\0\0\0".to_vec();
        let cut = wasm()[..1000].to_vec();
        let absent = named(base(), "key");
        let source = map(&absent.name, "other.wasm");
        let table = [
            (
                named(base(), "pin").with("digest", json!(pinned)),
                "DigestMismatch",
                "sha256:",
            ),
            (absent.with("source", source), "KeyNotFound", "other.wasm"),
            (
                named(base(), "map").without_component(),
                "ConfigMapNotFound",
                "ConfigMap",
            ),
            (
                named(base(), "settings").with("settings", json!({"kee": "x"})),
                "SetupFailed",
                "kee",
            ),
            (
                named(base(), "limits").with("limits", json!({"memory": "999Mi"})),
                "BadLimits",
                "256Mi",
            ),
            (
                named(base(), "account").without_account(),
                "ServiceAccountNotFound",
                "account",
            ),
            (broken(b"this is text".to_vec(), "text"), "NotWasm", ""),
            (broken(module, "module"), "CoreModule", ""),
            (broken(cut, "cut"), "Truncated", "truncated"),
        ];
        for (plugin, reason, part) in table {
            let plugin = plugin.install(world).await;
            let found = world.plugin_until(&plugin.name, "False", reason).await;
            assert!(said(&found).contains(part), "{reason}: {}", said(&found));
            assert_eq!(digest(&found), None);
        }
        // What was missing may come.
        let (late, account) = (world.named("map"), world.named("account"));
        world.component(&late, &wasm()).await;
        world.plugin_until(&late, "True", "Loaded").await;
        world.account(&account, &pod_rules(&["get", "patch"])).await;
        world.plugin_until(&account, "True", "Loaded").await;
    })
    .await;
}

#[tokio::test]
async fn a_deleted_binding_stops_what_the_action_reads_within_a_minute() {
    story(async |world: &World| {
        let plugin = Plugin::replace(world, &REPLACE_VERBS).up(world).await;
        let bindings: Api<ClusterRoleBinding> = Api::all(world.client.clone());
        let begin = Instant::now();
        let deleted = bindings
            .delete(&plugin.name, &DeleteParams::default())
            .await;
        deleted.expect("a binding of our own");
        let found = world
            .plugin_until(&plugin.name, "False", "WatchForbidden")
            .await;
        let took = begin.elapsed();
        assert!(took < Duration::from_mins(1), "{took:?}");
        assert_eq!(digest(&found), None);
        let pods = Deployment::of("foo", 1).up(world).await;
        world
            .create(&Job::of("opj", &plugin.action, &names(&pods)).object())
            .await;
        world
            .job_until("opj", "waits for the action", |found| {
                job::reason(found, "Stalled").as_deref() == Some("ActionNotReady")
            })
            .await;
        world.bind_account(&plugin.name).await;
        world.plugin_until(&plugin.name, "True", "Loaded").await;
        let done = world.finished("opj").await;
        assert_eq!(job::progress(&done), Progress::Succeeded);
    })
    .await;
}

#[tokio::test]
async fn an_account_is_an_actions_only_if_it_says_so() {
    story(async |world: &World| {
        let plugin = Plugin::annotate(world).up(world).await;
        let label = |value: Value| {
            let accounts = world.accounts();
            let labels = json!({"metadata": {"labels": {keys::ACTION_ACCOUNT: value}}});
            let name = plugin.name.clone();
            async move {
                let (params, patch) = (PatchParams::default(), Patch::Merge(labels));
                let patched = accounts.patch(&name, &params, &patch).await;
                patched.expect("an account of our own");
            }
        };
        label(Value::Null).await;
        let found = world
            .plugin_until(&plugin.name, "False", "ServiceAccountNotAllowed")
            .await;
        let command = format!(
            "kubectl --namespace {SYSTEM} label serviceaccount {} {}=true",
            plugin.name,
            keys::ACTION_ACCOUNT
        );
        assert!(said(&found).contains(&command), "{}", said(&found));
        assert_eq!(digest(&found), None);
        label(json!("true")).await;
        world.plugin_until(&plugin.name, "True", "Loaded").await;
        // The accounts of controllers do not say so, and have rights that no action shall have.
        let account = json!({"spec": {"serviceAccountName": "operon-collaset"}});
        world.patch_plugin(&plugin.name, account).await;
        world
            .plugin_until(&plugin.name, "False", "ServiceAccountNotAllowed")
            .await;
    })
    .await;
}

#[tokio::test]
async fn whoever_installs_a_plugin_may_impersonate_its_account() {
    story(async |world: &World| {
        let mine = Plugin::annotate(world);
        let others = Plugin::annotate(world).named(&world.named("others"));
        for plugin in [&mine, &others] {
            world.account(&plugin.name, &json!([])).await;
        }
        let rules = json!([
            {"apiGroups": ["operon.dev"], "resources": ["actionplugins"], "verbs": ["*"]},
            {"apiGroups": [""], "resources": ["serviceaccounts"], "resourceNames": [mine.name],
                "verbs": ["impersonate"]}
        ]);
        let user = world.user_everywhere("installer", rules).await;
        world
            .eventually("the user may install a plugin of the account", async || {
                mine.create_as(&user).await?;
                Ok(())
            })
            .await;
        let refused = format!(
            "{} may not let an action act as ServiceAccount {}",
            world.named("installer"),
            others.name
        );
        let created = others.create_as(&user).await;
        let refusal = created.expect_err("a refusal").to_string();
        assert!(refusal.contains(&refused), "{refusal}");
        let plugins: Api<ActionPlugin> = Api::all(user);
        let patch = async |patch: Value| {
            let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
            plugins.patch(&mine.name, &params, &patch).await
        };
        let patched = patch(json!({"spec": {"serviceAccountName": others.name}})).await;
        let refusal = patched.expect_err("a refusal").to_string();
        assert!(refusal.contains(&refused), "{refusal}");
        // Whoever may not impersonate the account can't choose what runs as it either.
        world
            .patch_plugin(
                &mine.name,
                json!({"spec": {"serviceAccountName": others.name}}),
            )
            .await;
        let patched = patch(json!({"spec": {"source": {"configMap": {"name": "x"}}}})).await;
        let refusal = patched.expect_err("a refusal").to_string();
        assert!(refusal.contains(&refused), "{refusal}");
        let patched = patch(json!({"metadata": {"annotations": {"a": "b"}}})).await;
        patched.expect("metadata can be changed");
    })
    .await;
}

#[tokio::test]
async fn a_job_of_a_plugin_that_can_not_be_loaded_waits_and_says_why() {
    story(async |world: &World| {
        let plugin = Plugin::annotate(world)
            .without_component()
            .install(world)
            .await;
        world
            .plugin_until(&plugin.name, "False", "ConfigMapNotFound")
            .await;
        let pods = Deployment::of("foo", 1).up(world).await;
        world
            .create(&Job::of("opj", &plugin.action, &names(&pods)).object())
            .await;
        world
            .job_until("opj", "is stalled", |found| {
                job::reason(found, "Stalled").as_deref() == Some("ActionNotReady")
            })
            .await;
        world
            .component(
                &plugin.name,
                &environment::component("operon_example_annotate"),
            )
            .await;
        assert_eq!(
            job::progress(&world.finished("opj").await),
            Progress::Succeeded
        );
    })
    .await;
}

#[tokio::test]
async fn an_account_that_may_not_evict_pods_fails_the_target_in_the_api_servers_words() {
    story(async |world: &World| {
        let plugin = Plugin::replace(world, &REPLACE_VERBS);
        let mut rules = plugin.rules().to_vec();
        rules.retain(|rule| rule["resources"] != json!(["pods/eviction"]));
        let plugin = plugin.with_rules(rules.into()).up(world).await;
        let before = Deployment::of("foo", 2).up(world).await;
        let target = before[0].name_any();
        world
            .create(&Job::of("opj", &plugin.action, &[&target]).object())
            .await;
        let done = world.finished("opj").await;
        assert_eq!(job::progress(&done), Progress::Failed);
        let error = job::error(&done, &target);
        assert_eq!(error.reason, "Forbidden");
        let user = format!("system:serviceaccount:{SYSTEM}:{}", plugin.name);
        assert!(
            error.message.contains(&user) && error.message.contains("cannot create"),
            "{}",
            error.message
        );
        assert_eq!(
            error.message.matches("forbidden").count(),
            1,
            "said once: {}",
            error.message
        );
        let after = world.settled("foo", 2).await;
        assert!(names(&after).len() == 2);
    })
    .await;
}

#[tokio::test]
async fn an_account_that_may_not_read_what_the_action_declares_is_refused() {
    story(async |world: &World| {
        let rules = pod_rules(&REPLACE_VERBS);
        let component = environment::component("operon_action_replace");
        let plugin = Plugin::of(world, "Swap", component, rules)
            .install(world)
            .await;
        let found = world
            .plugin_until(&plugin.name, "False", "WatchForbidden")
            .await;
        assert!(said(&found).contains("replicasets"), "{}", said(&found));
    })
    .await;
}

/// The kind that the action may read.
fn gadgets() -> Value {
    json!({
        "metadata": {"name": "gadgets.operon.example"},
        "spec": {
            "group": "operon.example", "scope": "Namespaced",
            "names": {"kind": "Gadget", "plural": "gadgets"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object"}}}]
        }
    })
}

#[tokio::test]
async fn an_optional_kind_is_read_while_the_api_server_serves_it() {
    story(async |world: &World| {
        let definition = Api::<CustomResourceDefinition>::all(world.client.clone());
        let name = "gadgets.operon.example";
        let mut rules = Plugin::hostile(world).rules().to_vec();
        rules.push(
            json!({"apiGroups": ["operon.example"], "resources": ["gadgets"],
            "verbs": ["list", "watch"]}),
        );
        let plugin = Plugin::hostile(world)
            .with_rules(json!(rules))
            .with("settings", json!({"gadgets": true}))
            .up(world)
            .await;
        let reads = async || {
            let plugin = world.plugin_until(&plugin.name, "True", "Loaded").await;
            plugin.status.unwrap_or_default().watches
        };
        let absent = "operon.example/v1/Gadget (not served)".to_owned();
        assert!(reads().await.contains(&absent), "{:?}", reads().await);
        let made: CustomResourceDefinition = serde_json::from_value(gadgets()).expect("a CRD");
        definition
            .create(&PostParams::default(), &made)
            .await
            .expect("it is created");
        // The host asks once a minute.
        let until = async |is_absent: bool| {
            let deadline = Instant::now() + Duration::from_secs(100);
            while reads().await.contains(&absent) != is_absent && Instant::now() < deadline {
                sleep(Duration::from_secs(2)).await;
            }
            reads().await
        };
        let served = until(false).await;
        definition
            .delete(name, &DeleteParams::default())
            .await
            .expect("it is deleted");
        let kind = "operon.example/v1/Gadget (app=hostile)".to_owned();
        assert!(served.contains(&kind), "{served:?}");
        let gone = until(true).await;
        assert!(gone.contains(&absent), "{gone:?}");
    })
    .await;
}
