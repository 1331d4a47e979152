//! A component that must be signed, in a ConfigMap or a registry: it loads with its signature, shows its signer, and
//! stops when its key is no longer accepted. And a host, and a chart's value, that require this of all components.

use std::process::{Command, Output};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, api::DeleteParams};
use operon_api::ActionPlugin;
use operon_e2e::{
    environment,
    host::{Host, alone},
    plugin::{Plugin, SYSTEM, digest, said},
    prelude::*,
    registry::{PASSWORD, Registry, put_secret},
};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use serde_json::Value;

const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// One of the Secrets that the chart's value `oci.pullSecrets` names where stories run.
const PULL_SECRET: &str = "e2e-signed";
/// A file, its signature by an identity, and the trust root of that.
const PUBLIC: &[u8] =
    include_bytes!("../../../host/plugin-registry/src/verify/fixtures/keyless/public.txt");
const PUBLIC_BUNDLE: &str =
    include_str!("../../../host/plugin-registry/src/verify/fixtures/keyless/public.sigstore.json");
const PUBLIC_ROOT: &str = include_str!(
    "../../../host/plugin-registry/src/verify/fixtures/keyless/public.trusted_root.json"
);
const ISSUER: &str = "https://github.com/login/oauth";
const SUBJECT: &str = "w.vollprecht@gmail.com";

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
            "mediaType": BUNDLE,
            "verificationMaterial": {"publicKey": {"hint": ""}},
            "messageSignature": {
                "messageDigest": {},
                "signature": STANDARD.encode(signature.as_ref()),
            },
        })
    }

    /// What `cosign sign --key …` attaches to an artifact with this manifest.
    fn statement(&self, manifest: &str) -> Value {
        let kind = "application/vnd.in-toto+json";
        let payload = json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"digest": {"sha256": manifest.trim_start_matches("sha256:")}}],
            "predicateType": "https://sigstore.dev/cosign/sign/v1",
        })
        .to_string();
        let encoded = format!("DSSEv1 {} {kind} {} {payload}", kind.len(), payload.len());
        let signature = self.pair.sign(&self.random, encoded.as_bytes());
        json!({
            "mediaType": BUNDLE,
            "verificationMaterial": {"publicKey": {"hint": ""}},
            "dsseEnvelope": {
                "payload": STANDARD.encode(payload),
                "payloadType": kind,
                "signatures": [{"sig": STANDARD.encode(signature.expect("signed").as_ref())}],
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

#[tokio::test]
async fn an_artifact_of_a_registry_that_must_be_signed_serves_only_with_its_signature() {
    story(async |world: &World| {
        let component = environment::component("operon_example_annotate");
        let registry = Registry::up(world).await;
        put_secret(world, PULL_SECRET, &registry.login(PASSWORD)).await;
        let manifest = registry.push("actions/signed:1", &component);
        let (ours, other) = (Signer::new(), Signer::new());
        let secrets = json!([{"name": PULL_SECRET}]);
        let plugin = Plugin::annotate(world)
            .without_component()
            .with("source", registry.source("actions/signed:1", &secrets))
            .with("verify", json!({"keys": [ours.public_key()]}))
            .install(world)
            .await;
        let name = &plugin.name;
        let unsigned = world.plugin_until(name, "False", "NotSigned").await;
        let words = said(&unsigned);
        assert!(words.contains(&manifest), "{words}");
        assert!(words.contains("cosign sign"), "{words}");

        // A signature by another key, then one by ours beside it. The plugin changes so that it is loaded again.
        for (signer, memory, status, reason) in [
            (&other, "40Mi", "False", "SignatureInvalid"),
            (&ours, "48Mi", "True", "Loaded"),
        ] {
            let bundle = signer.statement(&manifest).to_string();
            registry.attach("actions/signed:1", bundle.as_bytes(), BUNDLE);
            let limits = json!({"spec": {"limits": {"memory": memory}}});
            world.patch_plugin(name, limits).await;
            world.plugin_until(name, status, reason).await;
        }
        let loaded = world.plugins().get(name).await.expect("the plugin");
        assert_eq!(signers(&loaded).len(), 1, "{:?}", loaded.status);
        let secrets: Api<Secret> = Api::namespaced(world.client.clone(), SYSTEM);
        let deleted = secrets.delete(PULL_SECRET, &DeleteParams::default()).await;
        deleted.expect("the Secret is deleted");
    })
    .await;
}

#[tokio::test]
async fn a_host_that_requires_signatures_of_all_accepts_its_key_and_its_identity_and_no_other() {
    alone(async |world: &World| {
        let ours = Signer::new();
        let folder = std::env::temp_dir().join(world.named("trust"));
        std::fs::create_dir_all(&folder).expect("a folder of our own");
        let file = |name: &str, content: &str| {
            let path = folder.join(name);
            std::fs::write(&path, content).expect("written");
            path.display().to_string()
        };
        let identities = json!([{"issuer": ISSUER, "subject": SUBJECT}]).to_string();
        let arguments = [
            "--signature-keys",
            &file("cosign.pub", &ours.public_key()),
            "--signature-identities",
            &file("identities.json", &identities),
            "--trusted-root",
            &file("trusted_root.json", PUBLIC_ROOT),
        ];
        let host = Host::start_with(world, "strict", &arguments);
        host.leads(world).await;

        let component = environment::component("operon_example_annotate");
        let plugin = Plugin::annotate(world).install(world).await;
        let unsigned = world.plugin_until(&plugin.name, "False", "NotSigned").await;
        let words = said(&unsigned);
        for part in ["this host requires for all", SUBJECT, ISSUER] {
            assert!(words.contains(part), "{words}");
        }
        let bundle = ours.bundle(&component).to_string();
        let signed = |content: &[u8], bundle: &str| {
            json!({
                "binaryData": {"plugin.wasm": STANDARD.encode(content)},
                "data": {"plugin.wasm.sigstore.json": bundle},
            })
        };
        world
            .config_map(&plugin.name, signed(&component, &bundle))
            .await;
        let loaded = world.plugin_until(&plugin.name, "True", "Loaded").await;
        assert_eq!(signers(&loaded).len(), 1, "{:?}", loaded.status);

        // The identity signed a text. With its signature it is read, and is no component; before, it is not read.
        let verify =
            |subject: &str| json!({"identities": [{"issuer": ISSUER, "subject": subject}]});
        let plugin = Plugin::of(world, "Keyless", component, json!([]))
            .with("verify", verify("someone@example.com"))
            .install(world)
            .await;
        let name = &plugin.name;
        world.config_map(name, signed(PUBLIC, PUBLIC_BUNDLE)).await;
        let refused = world
            .plugin_until(name, "False", "IdentityNotAccepted")
            .await;
        let words = said(&refused);
        for part in [SUBJECT, "someone@example.com"] {
            assert!(words.contains(part), "{words}");
        }
        world
            .config_map(name, signed(b"other", PUBLIC_BUNDLE))
            .await;
        world
            .plugin_until(name, "False", "SignatureOfAnother")
            .await;
        world.config_map(name, signed(PUBLIC, PUBLIC_BUNDLE)).await;
        world
            .patch_plugin(name, json!({"spec": {"verify": verify(SUBJECT)}}))
            .await;
        world.plugin_until(name, "False", "NotWasm").await;
        std::fs::remove_dir_all(&folder).expect("a folder of our own");
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
        let keys = volumes.iter().find(|v| v["name"] == "verification");
        let item = &keys.expect("a volume of keys")["downwardAPI"]["items"][0];
        assert_eq!(item["path"], "key-0.pub");
        let path = format!("metadata.annotations['{annotation}']");
        assert_eq!(item["fieldRef"]["fieldPath"], json!(path));
        std::fs::remove_dir_all(folder).expect("a folder of our own");
    })
    .await;
}

#[tokio::test]
async fn a_chart_that_requires_identities_gives_them_and_the_trust_root_to_the_host() {
    story(async |world: &World| {
        let folder = std::env::temp_dir().join(world.named("identities"));
        std::fs::create_dir_all(&folder).expect("a folder of our own");
        let root = folder.join("trusted_root.json");
        std::fs::write(&root, PUBLIC_ROOT).expect("written");
        let identities = [
            format!("--set=verification.identities[0].issuer={ISSUER}"),
            format!("--set=verification.identities[0].subject={SUBJECT}"),
        ];
        let [issuer, subject] = identities.each_ref().map(String::as_str);
        let without = rendered(&[issuer, subject]);
        let words = String::from_utf8_lossy(&without.stderr);
        assert!(
            !without.status.success() && words.contains("set verification.trustedRoot"),
            "{words}"
        );
        let root = format!("--set-file=verification.trustedRoot={}", root.display());
        let with = rendered(&[issuer, subject, &root]);
        let deployment: Value = serde_yaml_ng::from_slice(&with.stdout).expect("a Deployment");
        let pod = &deployment["spec"]["template"];
        let annotations = &pod["metadata"]["annotations"];
        let listed = annotations["operon.dev/signature-identities"].as_str();
        let listed: Value = serde_json::from_str(listed.expect("identities")).expect("JSON");
        assert_eq!(listed, json!([{"issuer": ISSUER, "subject": SUBJECT}]));
        assert_eq!(annotations["operon.dev/trusted-root"], json!(PUBLIC_ROOT));
        let volumes = pod["spec"]["volumes"].as_array().expect("volumes");
        let volume = volumes.iter().find(|v| v["name"] == "verification");
        let items = &volume.expect("a volume")["downwardAPI"]["items"];
        let variables = pod["spec"]["containers"][0]["env"].as_array();
        let variables = variables.expect("variables");
        for (index, file, annotation, variable) in [
            (
                0,
                "identities.json",
                "signature-identities",
                "OPERON_SIGNATURE_IDENTITIES",
            ),
            (
                1,
                "trusted_root.json",
                "trusted-root",
                "OPERON_TRUSTED_ROOT",
            ),
        ] {
            let path = format!("metadata.annotations['operon.dev/{annotation}']");
            let item = json!({"path": file, "fieldRef": {"fieldPath": path}});
            assert_eq!(items[index], item);
            let value = format!("/etc/operon/verification/{file}");
            let wanted = json!({"name": variable, "value": value});
            assert!(variables.contains(&wanted), "{wanted}: {variables:?}");
        }
        // Identities that have no effect.
        let upgrade = Command::new(environment::helm())
            .args(["upgrade", "operon", "--namespace", SYSTEM])
            .args(["--reuse-values", "--dry-run=client"])
            .args([issuer, subject])
            .arg(environment::chart())
            .output()
            .expect("helm can be started");
        let notes = String::from_utf8_lossy(&upgrade.stdout);
        assert!(notes.contains("identities are ignored"), "{upgrade:?}");
        std::fs::remove_dir_all(folder).expect("a folder of our own");
    })
    .await;
}
