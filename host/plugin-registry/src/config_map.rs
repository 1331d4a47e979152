//! Components in ConfigMaps: `binaryData` of one key, plain or gzipped (detected by its first bytes). A signature
//! of the uncompressed bytes may stand beside it, or several.

use k8s_openapi::api::core::v1::ConfigMap;
use operon_api::action_plugin::ConfigMapSource;
use operon_core::{action::LoadError, action_plugin::source::ConfigMaps};

use crate::{
    found::{Found, Signatures},
    gzip, refused,
};

/// What the key of a component's signature has behind the component's. The keys of further signatures have a dot and
/// a name of their own behind that.
const SIGNATURE: &str = ".sigstore.json";
/// How many signatures of a component are read.
const MAX_SIGNATURES: usize = 16;

/// The bytes that the source refers to, uncompressed, of which there may be `most`.
pub(crate) fn find(
    namespace: &str,
    source: &ConfigMapSource,
    config_maps: &dyn ConfigMaps,
    most: usize,
) -> Result<Found, LoadError> {
    let ConfigMapSource {
        namespace: wanted,
        name,
        key,
    } = source;
    if let Some(other) = wanted.as_deref().filter(|other| *other != namespace) {
        return Err(refused(
            "ForeignNamespace",
            format!(
                "spec.source.configMap.namespace is {other:?}, but components are taken only from the operator's own namespace {namespace:?}"
            ),
        ));
    }
    let config_map = config_maps.get(name).ok_or_else(|| {
        refused(
            "ConfigMapNotFound",
            format!("there is no ConfigMap {name:?} in namespace {namespace:?}"),
        )
    })?;
    let binary = config_map
        .binary_data
        .as_ref()
        .and_then(|data| data.get(key));
    let Some(bytes) = binary else {
        return Err(missing_key(namespace, name, key, &config_map));
    };
    let bytes = if gzip::is_gzip(&bytes.0) {
        unzip(name, key, &bytes.0, most)?
    } else {
        bytes.0.clone()
    };
    Ok(Found::signed_by_bytes(
        bytes,
        signatures(namespace, name, key, &config_map),
    ))
}

/// The signatures beside the component: text or binary, as `kubectl create configmap` chose.
fn signatures(namespace: &str, name: &str, key: &str, config_map: &ConfigMap) -> Signatures {
    let ConfigMap {
        data, binary_data, ..
    } = config_map;
    let beside = format!("{key}{SIGNATURE}");
    let text = data.iter().flatten();
    let text = text.map(|(key, text)| (key, text.as_bytes()));
    let binary = binary_data.iter().flatten();
    let binary = binary.map(|(key, bytes)| (key, bytes.0.as_slice()));
    let is_beside = |key: &str| {
        let end = key.strip_prefix(&beside);
        end.is_some_and(|end| end.is_empty() || end.starts_with('.'))
    };
    let mut found: Vec<_> = text.chain(binary).collect();
    found.retain(|(key, _)| is_beside(key));
    found.sort();
    let count = found.len();
    let left_out = format!(
        "ConfigMap {name:?} of namespace {namespace:?} has {count} signatures of {key:?}, of which at most {MAX_SIGNATURES} are read, in the order of their keys: remove those that are not needed"
    );
    let found = found.into_iter().take(MAX_SIGNATURES);
    Signatures {
        bundles: found.map(|(_, bundle)| bundle.to_vec()).collect(),
        left_out: (count > MAX_SIGNATURES).then_some(left_out),
        missing: format!(
            "ConfigMap {name:?} of namespace {namespace:?} has no key {beside:?}. Make its content with `cosign sign-blob --key cosign.key --bundle plugin.wasm.sigstore.json --use-signing-config=false --tlog-upload=false plugin.wasm` (an identity: with --bundle only), of the component before gzip"
        ),
        incomplete: false,
    }
}

/// The error that names what exists instead of the key.
fn missing_key(namespace: &str, name: &str, key: &str, config_map: &ConfigMap) -> LoadError {
    if config_map
        .data
        .as_ref()
        .is_some_and(|data| data.contains_key(key))
    {
        return refused(
            "NotWasm",
            format!(
                "key {key:?} of ConfigMap {name:?} is text (data), not a component (binaryData); put it there with `kubectl create configmap {name} -n {namespace} --from-file={key}=FILE.wasm --dry-run=client -o yaml | kubectl apply --server-side --force-conflicts -f -`"
            ),
        );
    }
    let keys: Vec<_> = config_map
        .binary_data
        .iter()
        .flatten()
        .map(|(key, _)| key.as_str())
        .collect();
    let there = if keys.is_empty() {
        "none".to_owned()
    } else {
        keys.join(", ")
    };
    refused(
        "KeyNotFound",
        format!("ConfigMap {name:?} has no key {key:?} in binaryData; its keys there: {there}"),
    )
}

fn unzip(name: &str, key: &str, bytes: &[u8], most: usize) -> Result<Vec<u8>, LoadError> {
    let component = gzip::decompress(bytes, most).map_err(|error| {
        refused("BadGzip", format!("key {key:?} of ConfigMap {name:?} looks like gzip but can't be decompressed: {error}"))
    })?;
    if component.len() > most {
        return Err(refused(
            "TooLarge",
            format!(
                "key {key:?} of ConfigMap {name:?} is larger than {} MiB after decompression, the largest component that components.maxSizeMiB of the chart allows",
                most >> 20
            ),
        ));
    }
    Ok(component)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, io::Write as _, sync::Arc};

    use flate2::{Compression, write::GzEncoder};
    use k8s_openapi::ByteString;
    use operon_api::{ActionPlugin, action_plugin::Verification};

    use super::*;
    use crate::verify::{Accepted, Keys, Trust};

    const MOST: usize = 4 << 20;

    #[derive(Clone)]
    struct One(ConfigMap);

    impl ConfigMaps for One {
        fn get(&self, name: &str) -> Option<Arc<ConfigMap>> {
            (name == "plugin").then(|| Arc::new(self.0.clone()))
        }
    }

    fn with(key: &str, bytes: Vec<u8>) -> One {
        let data = BTreeMap::from([(key.to_owned(), ByteString(bytes))]);
        One(ConfigMap {
            binary_data: Some(data),
            ..ConfigMap::default()
        })
    }

    fn source(namespace: Option<&str>, name: &str) -> ConfigMapSource {
        ConfigMapSource {
            namespace: namespace.map(str::to_owned),
            name: name.to_owned(),
            key: "plugin.wasm".to_owned(),
        }
    }

    fn reason(found: Result<Found, LoadError>) -> &'static str {
        found.expect_err("refused").reason
    }

    #[test]
    fn raw_and_gzipped_bytes_are_the_same_component() {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(b"component").expect("in memory");
        let gzipped = gzip.finish().expect("in memory");
        for bytes in [b"component".to_vec(), gzipped] {
            let maps = with("plugin.wasm", bytes);
            let found = find("own", &source(None, "plugin"), &maps, MOST).expect("found");
            let component = found.verified(&ActionPlugin::default(), &Trust::default());
            let component = component.expect("nothing is required");
            assert_eq!(*component.bytes, *b"component");
            assert_eq!(component.signers, []);
        }
    }

    #[test]
    fn what_is_missing_or_foreign_is_refused_with_its_own_reason() {
        let maps = with("other.wasm", Vec::new());
        assert_eq!(
            reason(find(
                "own",
                &source(Some("elsewhere"), "plugin"),
                &maps,
                MOST
            )),
            "ForeignNamespace"
        );
        assert_eq!(
            reason(find("own", &source(Some("own"), "absent"), &maps, MOST)),
            "ConfigMapNotFound"
        );
        assert_eq!(
            reason(find("own", &source(None, "plugin"), &maps, MOST)),
            "KeyNotFound"
        );
        let text = BTreeMap::from([("plugin.wasm".to_owned(), "hello".to_owned())]);
        let maps = One(ConfigMap {
            data: Some(text),
            ..ConfigMap::default()
        });
        assert_eq!(
            reason(find("own", &source(None, "plugin"), &maps, MOST)),
            "NotWasm"
        );
    }

    #[test]
    fn a_gzip_bomb_ends_at_the_size_limit() {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        for _ in 0..=(MOST >> 20) {
            gzip.write_all(&vec![0; 1 << 20]).expect("in memory");
        }
        let maps = with("plugin.wasm", gzip.finish().expect("in memory"));
        assert_eq!(
            reason(find("own", &source(None, "plugin"), &maps, MOST)),
            "TooLarge"
        );
        let maps = with("plugin.wasm", vec![0x1f, 0x8b, 1, 2]);
        assert_eq!(
            reason(find("own", &source(None, "plugin"), &maps, MOST)),
            "BadGzip"
        );
    }

    #[test]
    fn the_signature_beside_a_component_is_one_of_its_uncompressed_bytes() {
        let (component, bundle) = (
            include_bytes!("verify/fixtures/component.txt"),
            include_str!("verify/fixtures/blob-cosign.sigstore.json"),
        );
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(component).expect("in memory");
        let gzipped = gzip.finish().expect("in memory");
        let mut plugin = ActionPlugin::default();
        let key = include_str!("verify/fixtures/cosign.pub").to_owned();
        plugin.spec.verify = Some(Verification {
            keys: vec![key],
            ..Verification::default()
        });
        let beside = "plugin.wasm.sigstore.json".to_owned();
        for bytes in [component.to_vec(), gzipped] {
            let unsigned = with("plugin.wasm", bytes);
            let mut as_text = unsigned.clone();
            as_text.0.data = Some(BTreeMap::from([(beside.clone(), bundle.to_owned())]));
            let mut as_binary = unsigned.clone();
            let binary = as_binary.0.binary_data.get_or_insert_default();
            binary.insert(beside.clone(), ByteString(bundle.as_bytes().to_vec()));
            for (maps, reason) in [
                (unsigned, Some("NotSigned")),
                (as_text, None),
                (as_binary, None),
            ] {
                let found = find("own", &source(None, "plugin"), &maps, MOST).expect("found");
                let verified = found.verified(&plugin, &Trust::default());
                assert_eq!(verified.map_err(|error| error.reason).err(), reason);
            }
        }
    }

    #[test]
    fn signers_who_are_not_the_same_sign_under_keys_of_their_own() {
        let component = include_bytes!("verify/fixtures/component.txt");
        let (cosign, p384) = (
            include_str!("verify/fixtures/blob-cosign.sigstore.json"),
            include_str!("verify/fixtures/blob-p384.sigstore.json"),
        );
        let keys = |text: &str| vec![text.to_owned()];
        let required = Keys::of_field("keys", &keys(include_str!("verify/fixtures/p384.pub")));
        let trust = Trust {
            required: Accepted::of_host(required.ok(), Vec::new()),
            root: None,
        };
        let mut plugin = ActionPlugin::default();
        plugin.spec.verify = Some(Verification {
            keys: keys(include_str!("verify/fixtures/cosign.pub")),
            ..Verification::default()
        });
        let signers = |beside: Vec<(String, &str)>| {
            let mut maps = with("plugin.wasm", component.to_vec());
            let beside = beside.into_iter();
            let beside = beside.map(|(key, text)| (key, text.to_owned())).collect();
            maps.0.data = Some(beside);
            let found = find("own", &source(None, "plugin"), &maps, MOST).expect("found");
            let verified = found.verified(&plugin, &trust);
            let limit = "ConfigMap \"plugin\" of namespace \"own\" has 18 signatures of \"plugin.wasm\", of which at most 16 are read, in the order of their keys: ";
            verified.map_or_else(
                |error| Err((error.reason, error.message.starts_with(limit))),
                |it| Ok(it.signers.len()),
            )
        };
        let key = |end: &str| format!("plugin.wasm.sigstore.json{end}");
        let many = (0..16).map(|number| (key(&format!(".a{number}")), "{}"));
        let many = many.chain([(key(".b"), cosign), (key(".c"), p384)]);
        for (beside, wanted) in [
            (vec![(key(""), cosign), (key(".b"), p384)], Ok(2)),
            (vec![(key(".a"), cosign), (key(".b"), p384)], Ok(2)),
            (vec![(key(""), cosign)], Err(("SignatureInvalid", false))),
            (vec![(key(".a"), p384)], Err(("SignatureInvalid", false))),
            (
                vec![(key("-a"), cosign), (key("x"), p384)],
                Err(("NotSigned", false)),
            ),
            (many.collect(), Err(("BadSignature", true))),
        ] {
            assert_eq!(signers(beside.clone()), wanted, "{beside:?}");
        }
    }
}
