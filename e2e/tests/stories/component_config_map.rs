//! The command by which the docs put a component into a ConfigMap: it works the first time, every later
//! time, and on a ConfigMap that was made otherwise.

use std::path::Path;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use operon_e2e::{plugin::SYSTEM, prelude::*};

/// Large enough that the annotation of a plain `kubectl apply` could not hold it.
const SIZE: usize = 700 << 10;

async fn kubectl(world: &World, arguments: &[&str]) -> Vec<u8> {
    let output = world.kubectl(arguments).await;
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    output.stdout
}

/// `kubectl create configmap … --dry-run=client -o yaml | kubectl apply --server-side --force-conflicts -f -`
async fn put(world: &World, folder: &Path, name: &str, content: &[u8]) {
    let (component, manifest) = (folder.join("plugin.wasm"), folder.join("manifest.yaml"));
    std::fs::write(&component, content).expect("written");
    let from = format!("--from-file=plugin.wasm={}", component.display());
    let create = ["create", "configmap", name, "--namespace", SYSTEM, &from];
    let dry = [&create[..], &["--dry-run=client", "-o", "yaml"]].concat();
    std::fs::write(&manifest, kubectl(world, &dry).await).expect("written");
    let manifest = manifest.to_string_lossy();
    let apply = [
        "apply",
        "--namespace",
        SYSTEM,
        "--server-side",
        "--force-conflicts",
    ];
    kubectl(world, &[&apply[..], &["-f", &manifest]].concat()).await;
}

#[tokio::test]
async fn one_command_puts_a_large_component_into_a_config_map_however_it_was_made() {
    story(async |world: &World| {
        let folder = std::env::temp_dir().join(world.named("component"));
        std::fs::create_dir_all(&folder).expect("made");
        let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), SYSTEM);
        let (fresh, made) = (world.named("fresh"), world.named("made"));
        let first = folder.join("first.wasm");
        std::fs::write(&first, vec![0xff; SIZE]).expect("written");
        let from = format!("--from-file=plugin.wasm={}", first.display());
        let create = ["create", "configmap", &made, "--namespace", SYSTEM, &from];
        kubectl(world, &create).await;
        for name in [&fresh, &made] {
            for round in [1_u8, 2] {
                // Bytes that are no UTF-8, so that they become binaryData.
                let content = vec![0xf0 + round; SIZE];
                put(world, &folder, name, &content).await;
                let map = maps.get(name).await.expect("a ConfigMap");
                let binary = map.binary_data.unwrap_or_default();
                let found = binary.get("plugin.wasm").map(|bytes| bytes.0.as_slice());
                assert_eq!(found, Some(content.as_slice()), "{name} {round}");
            }
            kubectl(world, &["delete", "configmap", name, "--namespace", SYSTEM]).await;
        }
        let _ = std::fs::remove_dir_all(folder);
    })
    .await;
}
