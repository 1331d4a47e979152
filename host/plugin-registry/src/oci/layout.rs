//! Which layer of an artifact is the component, in the layouts that tools produce.
//!
//! Tools of WebAssembly name their layer by a media type of its own; other clients push one layer of any type;
//! builders of images put one file into a tar. An index is followed to its one manifest for WebAssembly.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{fault::Fault, reference::is_digest};

/// Media types of layers that are a component and nothing else.
const WASM: [&str; 3] = [
    "application/wasm",
    "application/vnd.wasm.content.layer.v1+wasm",
    "application/vnd.module.wasm.content.layer.v1+wasm",
];
/// Media types of a layer that may be a component if it is the only one.
const ANYTHING: [&str; 1] = ["application/octet-stream"];
/// Media types of layers of images. A client that gets no type pushes a plain file as the first.
const TAR: [&str; 4] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
];
/// Media types of manifests, for the Accept header.
pub(super) const MANIFESTS: [&str; 4] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

/// A manifest of an image or an index: the fields that are used.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
}

/// A reference to a manifest or blob.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: String,
    pub size: u64,
    pub artifact_type: Option<String>,
    platform: Option<Platform>,
    pub annotations: Option<BTreeMap<String, String>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Platform {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
}

/// What a manifest leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// An index: the manifest to go on with.
    Manifest(Descriptor),
    /// An image: the layer with the component.
    Layer(Descriptor),
}

impl Manifest {
    /// Reads a manifest. Errors: a predicate of the artifact.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        serde_json::from_slice(bytes).map_err(|error| {
            bad(format!(
                "has a manifest that is not JSON of an OCI manifest: {error}"
            ))
        })
    }

    /// The layer with the component, or the manifest that may have it.
    pub(super) fn content(&self) -> Result<Content, Fault> {
        let content = match (&self.manifests, &self.layers) {
            (Some(manifests), None) => Content::Manifest(one_of_index(manifests)?),
            (None, Some(layers)) => Content::Layer(self.one_of_layers(layers)?),
            (None, None) => return Err(bad("has a manifest without layers and manifests")),
            // Clients would disagree about what it is.
            (Some(_), Some(_)) => return Err(bad("has a manifest with both layers and manifests")),
        };
        let (Content::Manifest(Descriptor { digest, .. })
        | Content::Layer(Descriptor { digest, .. })) = &content;
        if !is_digest(digest) {
            return Err(bad(format!(
                "has a manifest with the digest {digest:?}, which is no sha256"
            )));
        }
        Ok(content)
    }

    /// The manifests of an index; none of an image.
    pub(super) fn manifests(self) -> Vec<Descriptor> {
        self.manifests.unwrap_or_default()
    }

    /// The layers of an image; none of an index.
    pub(super) fn layers(self) -> Vec<Descriptor> {
        self.layers.unwrap_or_default()
    }

    fn one_of_layers(&self, layers: &[Descriptor]) -> Result<Descriptor, Fault> {
        let wasm: Vec<_> = layers
            .iter()
            .filter(|layer| WASM.contains(&layer.media_type.as_str()))
            .collect();
        let known = |layer: &&Descriptor| {
            let kind = layer.media_type.as_str();
            ANYTHING.contains(&kind) || TAR.contains(&kind)
        };
        match (wasm.as_slice(), layers) {
            ([layer], _) => Ok((*layer).clone()),
            ([], [layer]) if known(&layer) => Ok(layer.clone()),
            ([], [] | [_]) => Err(self.unknown(layers)),
            ([], _) if layers.iter().all(|layer| known(&layer)) => Err(Fault::lasting(
                "AmbiguousArtifact",
                format!(
                    "has {} layers; a component is one layer with one file",
                    layers.len()
                ),
            )),
            ([], _) => Err(self.unknown(layers)),
            (several, _) => Err(Fault::lasting(
                "AmbiguousArtifact",
                format!(
                    "has {} WebAssembly layers; push one component",
                    several.len()
                ),
            )),
        }
    }

    fn unknown(&self, layers: &[Descriptor]) -> Fault {
        let kinds = match layers {
            [] => "no layer".to_owned(),
            layers => {
                let kinds: Vec<String> = layers
                    .iter()
                    .map(|layer| format!("{:?}", layer.media_type))
                    .collect();
                format!("layers of type {}", kinds.join(", "))
            }
        };
        let config = self
            .config
            .as_ref()
            .map_or("none", |config| config.media_type.as_str());
        let kind = self
            .artifact_type
            .as_deref()
            .map(|kind| format!(", artifact type {kind:?}"))
            .unwrap_or_default();
        Fault::lasting(
            "UnknownMediaType",
            format!(
                "is no component: it has {kinds} (config {config:?}{kind}), but a component is a layer of type {:?}, a single file, or an image with one layer",
                WASM[0]
            ),
        )
    }
}

fn bad(what: impl Into<String>) -> Fault {
    Fault::lasting("BadManifest", what)
}

/// The manifest of an index for WebAssembly, or its only one.
fn one_of_index(manifests: &[Descriptor]) -> Result<Descriptor, Fault> {
    // BuildKit adds attestations to an index, with the platform unknown/unknown.
    let images: Vec<_> = manifests
        .iter()
        .filter(|manifest| manifest.platform() != "unknown/unknown")
        .collect();
    let wasm: Vec<_> = images
        .iter()
        .filter(|manifest| manifest.is_for_wasm())
        .collect();
    match (wasm.as_slice(), images.as_slice()) {
        ([one], _) => Ok((**one).clone()),
        ([], [one]) => Ok((*one).clone()),
        _ => {
            let platforms: Vec<String> =
                images.iter().map(|manifest| manifest.platform()).collect();
            let platforms = if platforms.is_empty() {
                "none".to_owned()
            } else {
                platforms.join(", ")
            };
            Err(Fault::lasting(
                "AmbiguousArtifact",
                format!(
                    "is an index without exactly one manifest for WebAssembly (platforms: {platforms}); name the digest of one"
                ),
            ))
        }
    }
}

impl Descriptor {
    /// Whether its content may be a tar.
    pub(super) fn is_tar(&self) -> bool {
        TAR.contains(&self.media_type.as_str())
    }

    fn is_for_wasm(&self) -> bool {
        self.platform
            .as_ref()
            .is_some_and(|Platform { architecture, os }| {
                architecture.starts_with("wasm")
                    || os.starts_with("wasi")
                    || os.starts_with("wasip")
            })
    }

    fn platform(&self) -> String {
        match &self.platform {
            Some(Platform { architecture, os }) => format!("{os}/{architecture}"),
            None => "unspecified".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// The digest that stands for a text.
    fn digest(text: &str) -> String {
        crate::digest(text.as_bytes())
    }

    fn descriptor(kind: &str, digest: &str) -> Value {
        json!({"mediaType": kind, "digest": digest, "size": 1})
    }

    fn image(kinds: &[&str]) -> Value {
        let layers: Vec<_> = kinds
            .iter()
            .map(|kind| descriptor(kind, &digest(kind)))
            .collect();
        json!({"config": descriptor("application/vnd.wasm.config.v0+json", "config"), "layers": layers})
    }

    fn index(platforms: &[(&str, &str)]) -> Value {
        let manifests: Vec<_> = platforms
            .iter()
            .map(|(os, architecture)| {
                let mut manifest = descriptor("", &digest(&format!("{os}/{architecture}")));
                manifest["platform"] = json!({"os": os, "architecture": architecture});
                manifest
            })
            .collect();
        json!({"manifests": manifests})
    }

    /// The digest that a manifest leads to, or the reason why it leads nowhere.
    fn found(manifest: &Value) -> Result<String, &'static str> {
        let content = Manifest::parse(manifest.to_string().as_bytes())
            .and_then(|manifest| manifest.content());
        match content {
            Ok(Content::Manifest(descriptor) | Content::Layer(descriptor)) => Ok(descriptor.digest),
            Err(fault) => Err(fault.reason),
        }
    }

    #[test]
    fn the_layer_of_a_component_is_found_in_each_layout() {
        let [wasm, other, module] = WASM;
        let [tar, gzip, docker, docker_gzip] = TAR;
        for (kinds, expected) in [
            (&[wasm][..], Ok(wasm)),
            (&["text/markdown", other], Ok(other)),
            (&[module], Ok(module)),
            (
                &["application/octet-stream"],
                Ok("application/octet-stream"),
            ),
            (&[tar], Ok(tar)),
            (&[gzip], Ok(gzip)),
            (&[docker], Ok(docker)),
            (&[docker_gzip], Ok(docker_gzip)),
            (&[], Err("UnknownMediaType")),
            (
                &["application/vnd.cncf.helm.chart.content.v1.tar+gzip"],
                Err("UnknownMediaType"),
            ),
            (&["a/b", "c/d"], Err("UnknownMediaType")),
            (&[wasm, other], Err("AmbiguousArtifact")),
            (&[gzip, gzip], Err("AmbiguousArtifact")),
        ] {
            let expected = expected.map(digest);
            assert_eq!(found(&image(kinds)), expected, "{kinds:?}");
        }
    }

    #[test]
    fn an_unknown_media_type_is_named_with_what_was_found() {
        let manifest = image(&["a/b"]).to_string();
        let manifest = Manifest::parse(manifest.as_bytes()).expect("valid");
        let what = manifest.content().expect_err("unknown").what;
        assert!(
            what.contains(r#"layers of type "a/b" (config "application/vnd.wasm.config.v0+json")"#),
            "{what}"
        );
    }

    #[test]
    fn an_index_leads_to_its_manifest_for_wasm_or_its_only_one() {
        for (platforms, expected) in [
            (
                &[("linux", "amd64"), ("wasip2", "wasm")][..],
                Ok("wasip2/wasm"),
            ),
            (&[("linux", "amd64"), ("wasi", "wasm32")], Ok("wasi/wasm32")),
            (
                &[("linux", "amd64"), ("unknown", "unknown")],
                Ok("linux/amd64"),
            ),
            (
                &[("linux", "amd64"), ("linux", "arm64")],
                Err("AmbiguousArtifact"),
            ),
            (
                &[("wasip1", "wasm"), ("wasip2", "wasm")],
                Err("AmbiguousArtifact"),
            ),
            (&[], Err("AmbiguousArtifact")),
        ] {
            assert_eq!(
                found(&index(platforms)),
                expected.map(digest),
                "{platforms:?}"
            );
        }
    }

    #[test]
    fn a_digest_that_cannot_be_checked_is_refused_and_so_is_no_path() {
        for digest in ["sha512:00", "../../etc/passwd", ""] {
            for list in ["layers", "manifests"] {
                let manifest = json!({list: [descriptor(WASM[0], digest)]});
                assert_eq!(found(&manifest), Err("BadManifest"), "{digest}");
            }
        }
    }

    #[test]
    fn what_is_no_manifest_is_refused() {
        for text in [
            "",
            "{}",
            r#"{"layers": [], "manifests": []}"#,
            "[]",
            r#"{"layers": {}}"#,
            r#"{"layers": [{"size": -1}]}"#,
        ] {
            let fault = Manifest::parse(text.as_bytes()).and_then(|manifest| manifest.content());
            assert_eq!(fault.expect_err(text).reason, "BadManifest", "{text}");
        }
    }
}
