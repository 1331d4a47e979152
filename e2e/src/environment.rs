//! Where the cluster and the built programs are: environment variables, set by `cargo xtask test`.

use std::path::PathBuf;

/// The program kubectl (`OPERON_KUBECTL`).
pub fn kubectl() -> PathBuf {
    path("OPERON_KUBECTL")
}

/// The program helm (`OPERON_HELM`).
pub fn helm() -> PathBuf {
    path("OPERON_HELM")
}

/// Helm 4 (`OPERON_HELM_4`).
pub fn helm_4() -> PathBuf {
    path("OPERON_HELM_4")
}

/// The program that judges objects as kstatus and Argo CD do (`OPERON_JUDGE`).
pub fn judge() -> PathBuf {
    path("OPERON_JUDGE")
}

/// The folder of the installable chart (`OPERON_CHART`).
pub fn chart() -> PathBuf {
    path("OPERON_CHART")
}

/// The host program (`OPERON_BINARY`).
pub fn binary() -> PathBuf {
    path("OPERON_BINARY")
}

/// The plugin of kubectl (`OPERON_KUBECTL_PLUGIN`).
pub fn kubectl_plugin() -> PathBuf {
    path("OPERON_KUBECTL_PLUGIN")
}

/// A kubeconfig with the token of the chart's ServiceAccount (`OPERON_HOST_KUBECONFIG`).
pub fn host_kubeconfig() -> PathBuf {
    path("OPERON_HOST_KUBECONFIG")
}

/// The registry program (`OPERON_REGISTRY`).
pub fn registry() -> PathBuf {
    path("OPERON_REGISTRY")
}

/// The program oras, a client of registries (`OPERON_ORAS`).
pub fn oras() -> PathBuf {
    path("OPERON_ORAS")
}

/// The program prometheus (`OPERON_PROMETHEUS`).
pub fn prometheus() -> PathBuf {
    path("OPERON_PROMETHEUS")
}

/// The folder with the files of a release (`OPERON_RELEASE`).
pub fn release() -> PathBuf {
    path("OPERON_RELEASE")
}

/// Whether pods have containers: there are none on simulated nodes (`OPERON_NODES`).
pub fn has_containers() -> bool {
    text("OPERON_NODES") == "real"
}

/// A component built from this workspace (in `OPERON_WASM_DIR`).
pub fn component(name: &str) -> Vec<u8> {
    let file = path("OPERON_WASM_DIR").join(name).with_extension("wasm");
    std::fs::read(&file).unwrap_or_else(|error| {
        panic!(
            "failed to read {}: {error}; run `cargo xtask test`",
            file.display()
        )
    })
}

/// The root of this repository.
pub fn repository() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The example of an action's page in `docs`: its first manifest.
pub fn example(page: &str) -> String {
    let file = repository().join("docs").join(page);
    let text = std::fs::read_to_string(file).expect("the page");
    let (_, rest) = text.split_once("```yaml\n").expect("an example");
    let (manifest, _) = rest.split_once("```").expect("its end");
    manifest.to_owned()
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(text(name))
}

fn text(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set; run `cargo xtask test`"))
}
