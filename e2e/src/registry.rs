//! An OCI registry of a story's own, and a client of another project that pushes to it.

use std::{
    io::{BufRead as _, BufReader},
    net::IpAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use anyhow::Context as _;
use k8s_openapi::{
    ByteString,
    api::{core::v1::Secret, discovery::v1::EndpointSlice},
};
use kube::{
    Api,
    api::{DeleteParams, ListParams, ObjectMeta, PostParams},
};
use serde_json::{Value, json};

use crate::{environment, plugin::SYSTEM, world::World};

/// The user and the password that registries of stories ask for.
pub const USER: &str = "operon";
/// See [`USER`].
pub const PASSWORD: &str = "open-sesame";

/// A Secret of the operator's namespace with credentials for registries of stories.
pub async fn put_secret(world: &World, name: &str, config: &Value) {
    let secrets: Api<Secret> = Api::namespaced(world.client.clone(), SYSTEM);
    let _ = secrets.delete(name, &DeleteParams::default()).await;
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        type_: Some("kubernetes.io/dockerconfigjson".to_owned()),
        data: Some(
            [(
                ".dockerconfigjson".to_owned(),
                ByteString(config.to_string().into_bytes()),
            )]
            .into(),
        ),
        ..Secret::default()
    };
    let created = secrets.create(&PostParams::default(), &secret).await;
    created.expect("the Secret is created");
}

/// A registry that runs until this is dropped. It speaks plain HTTP.
pub struct Registry {
    process: Child,
    /// Its address, `IP:PORT`.
    pub address: String,
    folder: PathBuf,
}

impl Registry {
    /// Starts a registry that the host can reach. It asks for [`USER`] and [`PASSWORD`].
    pub async fn up(world: &World) -> Self {
        let login = ["--user", USER, "--password", PASSWORD];
        Self::start(world, machine(world).await, &login)
    }

    /// Starts a registry that the host can reach, and that serves every client without credentials.
    pub async fn open(world: &World) -> Self {
        Self::start(world, machine(world).await, &[])
    }

    /// Starts a registry from which a real node pulls images: container runtimes speak plain HTTP on loopback only.
    pub fn of_images(world: &World) -> Self {
        Self::start(world, IpAddr::from([127, 0, 0, 1]), &[])
    }

    fn start(world: &World, ip: IpAddr, arguments: &[&str]) -> Self {
        let mut process = Command::new(environment::registry())
            .args(["--address", &format!("{ip}:0")])
            .args(arguments)
            // It ends with its input.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the registry starts");
        let mut said = String::new();
        let output = process.stdout.take().expect("its output is piped");
        BufReader::new(output)
            .read_line(&mut said)
            .expect("the registry says its address");
        let address = said.trim().to_owned();
        let folder = std::env::temp_dir().join(world.named("registry"));
        std::fs::create_dir_all(&folder).expect("a folder of our own");
        Self {
            process,
            address,
            folder,
        }
    }

    /// The `source` of an artifact here, for a plugin.
    pub fn source(&self, reference: &str, secrets: &Value) -> Value {
        let reference = format!("{}/{reference}", self.address);
        json!({"oci": {"reference": reference, "plainHttp": true, "pullSecrets": secrets}})
    }

    /// The content of a Secret for this registry, with this password.
    pub fn login(&self, password: &str) -> Value {
        json!({"auths": {self.address.clone(): {"username": USER, "password": password}}})
    }

    /// Pushes a component by the program `oras`, as an artifact with one WebAssembly layer. Returns its digest.
    pub fn push(&self, repository: &str, component: &[u8]) -> String {
        std::fs::write(self.folder.join("plugin.wasm"), component).expect("a folder of our own");
        let reference = format!("{}/{repository}", self.address);
        let arguments = [
            "push",
            "--plain-http",
            "--username",
            USER,
            "--password",
            PASSWORD,
            "--artifact-type",
            "application/vnd.wasm.config.v0+json",
            "--format",
            "go-template={{.digest}}",
            &reference,
            "plugin.wasm:application/wasm",
        ];
        let output = oras(&self.folder, &arguments);
        let digest = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        assert!(digest.starts_with("sha256:"), "{output:?}");
        digest
    }

    /// Pushes the image of an OCI layout, by the program `oras`.
    pub fn push_image(&self, layout: &Path, tag: &str, repository: &str) {
        let from = format!("{}:{tag}", layout.display());
        let to = format!("{}/{repository}:{tag}", self.address);
        let arguments = ["cp", "--from-oci-layout", &from, "--to-plain-http", &to];
        oras(&self.folder, &arguments);
    }

    /// Attaches a file to an artifact, by the program `oras`.
    pub fn attach(&self, repository: &str, bytes: &[u8], kind: &str) {
        std::fs::write(self.folder.join("attached"), bytes).expect("a folder of our own");
        let reference = format!("{}/{repository}", self.address);
        let file = format!("attached:{kind}");
        let login = ["--plain-http", "--username", USER, "--password", PASSWORD];
        let arguments = ["--artifact-type", kind, &reference, &file];
        oras(
            &self.folder,
            &[&["attach"], &login[..], &arguments].concat(),
        );
    }

    /// Ends the registry: from now on it is not available.
    pub fn end(&mut self) {
        // It may have ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.end();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn oras(folder: &Path, arguments: &[&str]) -> Output {
    let output = Command::new(environment::oras())
        .current_dir(folder)
        .args(arguments)
        .output()
        .expect("oras runs");
    assert!(output.status.success(), "oras {arguments:?}: {output:?}");
    output
}

/// The address by which the host reaches this machine: pods reach it as they reach the API server.
async fn machine(world: &World) -> IpAddr {
    if !environment::has_containers() {
        return IpAddr::from([127, 0, 0, 1]);
    }
    let slices: Api<EndpointSlice> = Api::namespaced(world.client.clone(), "default");
    let of_api = ListParams::default().labels("kubernetes.io/service-name=kubernetes");
    let found = slices.list(&of_api).await.expect("EndpointSlices");
    let addresses = found.items.iter().flat_map(|slice| &slice.endpoints);
    let address = addresses.flat_map(|endpoint| &endpoint.addresses).next();
    address
        .and_then(|address| address.parse().ok())
        .context("the API server has no address")
        .expect("the address of this machine")
}
