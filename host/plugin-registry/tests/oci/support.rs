//! Registries to pull from: a real one, and one that answers as a test says.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, Result, ensure};
use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{StatusCode, header},
    response::Response,
};
use operon_core::action::LoadError;
use operon_devcluster::{Progress, Tool};
use operon_plugin_registry::{
    digest,
    oci::{DockerConfig, PullRequest, Puller, PullerConfig},
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The first bytes of any component, and some more.
pub(crate) const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0 a component";
pub(crate) const WASM: &str = "application/wasm";
pub(crate) const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// A puller without a cache.
pub(crate) fn puller() -> Puller {
    Puller::new(PullerConfig::default())
}

/// A request by plain HTTP, without credentials.
pub(crate) fn request(reference: &str) -> PullRequest<'_> {
    PullRequest {
        reference,
        plain_http: true,
        ca: None,
        credentials: &[],
        manifest: None,
    }
}

/// The Secret `name` with a user of a registry.
pub(crate) fn secret(name: &str, registry: &str, user: &str, password: &str) -> DockerConfig {
    let auths = json!({"auths": {registry: {"username": user, "password": password}}});
    DockerConfig::parse(name, auths.to_string().as_bytes()).expect("a valid Secret")
}

/// Checks an error's reason, and that its message has all of `parts`.
pub(crate) fn expect_error<T: std::fmt::Debug>(
    result: Result<T, LoadError>,
    reason: &str,
    parts: &[&str],
) -> LoadError {
    let error = result.expect_err(reason);
    assert_eq!(error.reason, reason, "{}", error.message);
    for part in parts {
        assert!(error.message.contains(part), "{part:?}: {}", error.message);
    }
    error
}

/// A real registry in a process of its own, which ends with this value.
pub(crate) struct Registry {
    process: Child,
    /// Host and port.
    pub address: String,
    /// A folder for what is pushed.
    pub folder: TempDir,
}

impl Registry {
    /// Starts one with the referrers API and these flags.
    pub(crate) fn start(flags: &[&str]) -> Result<Self> {
        let program = Tool::Registry.ensure(&Progress::stderr())?;
        // It ends with its standard input, however this process ends.
        let mut process = Command::new(program)
            .args(flags)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = process.stdout.take().context("its output is piped")?;
        Self::at(process, output, |line| Some(line.to_owned()))
    }

    /// Starts the one that most others are made of.
    pub(crate) fn distribution() -> Result<Self> {
        let program = Tool::Distribution.ensure(&Progress::stderr())?;
        let mut process = Command::new(program)
            .args(["serve", "/dev/stdin"])
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut input = process.stdin.take().context("its input is piped")?;
        input.write_all(b"{version: 0.1, storage: {inmemory: {}}, http: {addr: '127.0.0.1:0'}}")?;
        drop(input);
        let output = process.stderr.take().context("its output is piped")?;
        Self::at(process, output, |line| {
            let (_, rest) = line.split_once("listening on ")?;
            Some(rest.split('"').next()?.to_owned())
        })
    }

    /// A registry whose address is in a line of its output, which is read to its end.
    fn at(
        process: Child,
        output: impl Read + Send + 'static,
        find: impl Fn(&str) -> Option<String>,
    ) -> Result<Self> {
        let mut lines = BufReader::new(output).lines().map_while(Result::ok);
        let address = lines.find_map(|line| find(&line));
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Self {
            process,
            address: address.context("the registry did not start")?,
            folder: tempfile::tempdir()?,
        })
    }

    /// The reference of what is pushed under this name.
    pub(crate) fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// Writes a file to push.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        Ok(fs::write(self.folder.path().join(name), bytes)?)
    }

    /// Runs oras, without whatever this machine logs in with.
    pub(crate) fn oras(&self, arguments: &[&str]) -> Result<()> {
        run(Tool::Oras, self.folder.path(), arguments)
    }

    /// Runs crane.
    pub(crate) fn crane(&self, arguments: &[&str]) -> Result<()> {
        run(Tool::Crane, self.folder.path(), arguments)
    }

    /// Pushes one file of this content and media type under this name.
    pub(crate) fn push(&self, name: &str, bytes: &[u8], media_type: &str) -> Result<()> {
        self.write("plugin.wasm", bytes)?;
        let (reference, file) = (self.reference(name), format!("plugin.wasm:{media_type}"));
        self.oras(&[
            "push",
            "--plain-http",
            "--artifact-type",
            "application/vnd.wasm.config.v0+json",
            &reference,
            &file,
        ])
    }

    /// Attaches one file of this type to an artifact.
    pub(crate) fn attach(&self, reference: &str, bytes: &[u8], kind: &str) -> Result<()> {
        self.write("attached", bytes)?;
        let file = format!("attached:{kind}");
        self.oras(&[
            "attach",
            "--plain-http",
            "--artifact-type",
            kind,
            reference,
            &file,
        ])
    }

    /// Ends it.
    pub(crate) fn stop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(tool: Tool, folder: &Path, arguments: &[&str]) -> Result<()> {
    let output = Command::new(tool.ensure(&Progress::stderr())?)
        .args(arguments)
        .current_dir(folder)
        .env("HOME", folder)
        .env("DOCKER_CONFIG", folder)
        .output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{} {arguments:?}: {error}",
        tool.name()
    );
    Ok(())
}

/// A request that a [`Fake`] saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Method, path and query.
    pub line: String,
    pub host: Option<String>,
    pub authorization: Option<String>,
}

/// A server that answers as a test says, and remembers what it was asked.
pub(crate) struct Fake {
    /// Host and port.
    pub address: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Fake {
    /// Serves what `answer` makes of `METHOD /path?query` and the Authorization header.
    pub(crate) async fn serve(
        answer: impl Fn(&Seen) -> Response + Clone + Send + Sync + 'static,
    ) -> Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let handler = move |request: Request| {
            let header = |name| Some(request.headers().get(name)?.to_str().ok()?.to_owned());
            // A proxy is sent whole URLs.
            let path = request.uri().path_and_query();
            let asked = Seen {
                line: format!(
                    "{} {}",
                    request.method(),
                    path.map_or("", |path| path.as_str())
                ),
                host: header(header::HOST),
                authorization: header(header::AUTHORIZATION),
            };
            let response = answer(&asked);
            log.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(asked);
            std::future::ready(response)
        };
        let router = Router::new().fallback(handler);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { address, seen })
    }

    /// Serves one artifact, `a:1`, except where `answer` has another answer.
    pub(crate) async fn with_artifact(
        artifact: &Artifact,
        answer: impl Fn(&Seen) -> Option<Response> + Clone + Send + Sync + 'static,
    ) -> Result<Self> {
        let artifact = artifact.clone();
        Self::serve(move |asked| answer(asked).unwrap_or_else(|| artifact.answer(&asked.line)))
            .await
    }

    /// The reference of the artifact.
    pub(crate) fn reference(&self) -> String {
        format!("{}/a:1", self.address)
    }

    /// What it was asked until now.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// A manifest with one layer.
#[derive(Clone)]
pub(crate) struct Artifact {
    pub manifest: Vec<u8>,
    pub layer: Vec<u8>,
}

impl Artifact {
    /// A component as its tools push it.
    pub(crate) fn component() -> Self {
        Self::of(COMPONENT)
    }

    /// A layer as it is.
    pub(crate) fn of(layer: &[u8]) -> Self {
        Self::declared(layer, layer.len() as u64)
    }

    /// A layer of which the manifest claims another size.
    pub(crate) fn declared(layer: &[u8], size: u64) -> Self {
        let config = descriptor("application/vnd.wasm.config.v0+json", b"{}", 2);
        let descriptor = descriptor(WASM, layer, size);
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": [descriptor]});
        Self {
            manifest: manifest.to_string().into_bytes(),
            layer: layer.to_vec(),
        }
    }

    /// `sha256:…` of the manifest.
    pub(crate) fn digest(&self) -> String {
        digest(&self.manifest)
    }

    /// A registry's answer.
    fn answer(&self, line: &str) -> Response {
        let (manifest, layer) = (self.digest(), digest(&self.layer));
        let path = line.split(' ').nth(1).unwrap_or_default();
        match path.strip_prefix("/v2/a/") {
            _ if path == "/v2/" => ok(b"{}"),
            Some(path) if path == "manifests/1" || path == format!("manifests/{manifest}") => {
                let mut response = ok(if line.starts_with("HEAD") {
                    b""
                } else {
                    &self.manifest
                });
                let value = manifest.parse().expect("a digest is a header");
                response
                    .headers_mut()
                    .insert("docker-content-digest", value);
                response
            }
            Some(path) if path == format!("blobs/{layer}") => ok(&self.layer),
            _ => status(404),
        }
    }
}

fn descriptor(media_type: &str, bytes: &[u8], size: u64) -> Value {
    json!({"mediaType": media_type, "digest": digest(bytes), "size": size})
}

/// 200 with a body.
pub(crate) fn ok(body: &[u8]) -> Response {
    Response::new(Body::from(body.to_vec()))
}

/// An empty answer.
pub(crate) fn status(code: u16) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::from_u16(code).expect("a status");
    response
}

/// An empty answer with a header.
pub(crate) fn with_header(code: u16, name: header::HeaderName, value: &str) -> Response {
    let mut response = status(code);
    response
        .headers_mut()
        .insert(name, value.parse().expect("a header"));
    response
}
