//! A component in a ConfigMap that must be signed: it loads with the signature beside it, shows its signer, and
//! stops when its key is no longer accepted. And the chart's value that requires this of all components.

use std::process::{Command, Output};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use operon_api::ActionPlugin;
use operon_e2e::{
    environment,
    plugin::{Plugin, SYSTEM, digest, said},
    prelude::*,
};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use serde_json::Value;

/// What stands before the point of a P-256 key in its DER form (SubjectPublicKeyInfo).
const P256: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// A key pair as cosign makes it. The component is built anew for each run, so its signature is, too.
struct Signer {
    pair: EcdsaKeyPair,
    random: SystemRandom,
}

impl Signer {
    fn new() -> Self {
        let (algorithm, random) = (&ECDSA_P256_SHA256_ASN1_SIGNING, SystemRandom::new());
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("a key");
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random);
        Self {
            pair: pair.expect("a key"),
            random,
        }
    }

    fn public_key(&self) -> String {
        let der = [&P256, self.pair.public_key().as_ref()].concat();
        let text = STANDARD.encode(der);
        let (first, second) = text.split_at(64);
        format!("-----BEGIN PUBLIC KEY-----\n{first}\n{second}\n-----END PUBLIC KEY-----\n")
    }

    /// What `cosign sign-blob --key … --bundle … --tlog-upload=false` writes.
    fn bundle(&self, component: &[u8]) -> Value {
        let signature = self.pair.sign(&self.random, component).expect("signed");
        json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {"publicKey": {"hint": ""}},
            "messageSignature": {
                "messageDigest": {},
                "signature": STANDARD.encode(signature.as_ref()),
            },
        })
    }
}

fn signers(plugin: &ActionPlugin) -> Vec<String> {
    let status = plugin.status.clone().unwrap_or_default();
    status.signers
}

#[tokio::test]
async fn a_component_that_must_be_signed_serves_only_with_a_signature_by_an_accepted_key() {
    story(async |world: &World| {
        let component = environment::component("operon_example_annotate");
        let (ours, other) = (Signer::new(), Signer::new());
        let verify = |signer: &Signer| json!({"keys": [signer.public_key()]});
        let plugin = Plugin::annotate(world)
            .with("verify", verify(&ours))
            .install(world)
            .await;
        let name = &plugin.name;
        let unsigned = world.plugin_until(name, "False", "NotSigned").await;
        let words = said(&unsigned);
        assert!(words.contains("plugin.wasm.sigstore.json"), "{words}");
        assert!(words.contains("cosign sign-blob"), "{words}");
        assert_eq!((digest(&unsigned), signers(&unsigned)), (None, Vec::new()));

        let signed_by = |signer: &Signer| {
            let bundle = signer.bundle(&component).to_string();
            json!({
                "binaryData": {"plugin.wasm": STANDARD.encode(&component)},
                "data": {"plugin.wasm.sigstore.json": bundle},
            })
        };
        world.config_map(name, signed_by(&other)).await;
        world.plugin_until(name, "False", "SignatureInvalid").await;
        world.config_map(name, signed_by(&ours)).await;
        let loaded = world.plugin_until(name, "True", "Loaded").await;
        let [signer] = signers(&loaded).try_into().expect("one signer");
        assert!(signer.starts_with("sha256:"), "{signer}");
        let described = world.kubectl(&["describe", "actionplugin", name]).await;
        let described = String::from_utf8_lossy(&described.stdout).into_owned();
        assert!(described.contains(&signer), "{described}");

        // Another key: what serves by the signature of the previous one stops.
        let patch = |signer: &Signer| json!({"spec": {"verify": verify(signer)}});
        world.patch_plugin(name, patch(&other)).await;
        let stopped = world.plugin_until(name, "False", "SignatureInvalid").await;
        assert_eq!((digest(&stopped), signers(&stopped)), (None, Vec::new()));
        world.patch_plugin(name, patch(&ours)).await;
        world.plugin_until(name, "True", "Loaded").await;
    })
    .await;
}

/// `helm template` of the chart's Deployment, with signatures required and these arguments.
fn rendered(arguments: &[&str]) -> Output {
    Command::new(environment::helm())
        .args(["template", "another", "--namespace", SYSTEM])
        .args(["--kube-version=1.34.0", "--set=verification.required=true"])
        .args(["--show-only", "templates/deployment.yaml"])
        .args(arguments)
        .arg(environment::chart())
        .output()
        .expect("helm can be started")
}

#[tokio::test]
async fn a_chart_that_requires_signatures_gives_the_keys_to_the_host_and_is_refused_without_any() {
    story(async |world: &World| {
        let without = rendered(&[]);
        let words = String::from_utf8_lossy(&without.stderr);
        assert!(
            !without.status.success() && words.contains("set verification.keys"),
            "{words}"
        );
        let folder = std::env::temp_dir().join(world.named("keys"));
        std::fs::create_dir_all(&folder).expect("a folder of our own");
        let (key, manifest) = (folder.join("cosign.pub"), folder.join("deployment.yaml"));
        let text = Signer::new().public_key();
        std::fs::write(&key, &text).expect("written");
        let with = rendered(&[
            "--set-file",
            &format!("verification.keys[0]={}", key.display()),
        ]);
        std::fs::write(&manifest, &with.stdout).expect("written");
        let manifest = manifest.to_string_lossy();
        let create = ["create", "--namespace", SYSTEM, "--dry-run=server"];
        let create = [&create[..], &["-o", "json", "-f", &manifest]].concat();
        let created = world.kubectl(&create).await;
        assert!(created.status.success(), "{created:?}");
        let created: Value = serde_json::from_slice(&created.stdout).expect("a Deployment");
        let pod = &created["spec"]["template"];
        let annotation = "operon.dev/signature-key-0";
        assert_eq!(pod["metadata"]["annotations"][annotation], json!(text));
        let volumes = pod["spec"]["volumes"].as_array().expect("volumes");
        let keys = volumes.iter().find(|v| v["name"] == "signature-keys");
        let item = &keys.expect("a volume of keys")["downwardAPI"]["items"][0];
        assert_eq!(item["path"], "key-0.pub");
        let path = format!("metadata.annotations['{annotation}']");
        assert_eq!(item["fieldRef"]["fieldPath"], json!(path));
        std::fs::remove_dir_all(folder).expect("a folder of our own");
    })
    .await;
}
