//! `operon plugin push` against a registry: what arrives there, and what is said when nothing does.

mod support;

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    process::{Command, Output, Stdio},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, Result, ensure};
use axum::{
    Router,
    body::Bytes,
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode},
    response::{IntoResponse as _, Response},
};
use operon_plugin_registry::digest;
use serde_json::{Value, json};
use support::annotate;

/// me:secret
const LOGIN: &str = "Basic bWU6c2VjcmV0";
const TOKEN: &str = "Bearer t0";
/// What a token is asked for.
const SCOPE: &str = "scope=repository%3Aactions%2Fannotate%3Apull%2Cpush&service=test";

/// A registry in memory, as far as a push goes: blobs in one or more parts, manifests by tag.
#[derive(Default)]
struct Registry {
    /// The header `authorization` that lets a request in; none: everybody may push.
    authorization: Option<String>,
    /// How it is asked for.
    challenge: String,
    upload: Vec<u8>,
    blobs: BTreeMap<String, Vec<u8>>,
    manifests: BTreeMap<String, (String, Vec<u8>)>,
}

type Shared = Arc<Mutex<Registry>>;

impl Registry {
    fn answer(
        &mut self,
        method: &Method,
        path: &str,
        query: &str,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Response {
        let given = headers
            .get("authorization")
            .and_then(|value| value.to_str().ok());
        if path == "/token" {
            let is_known = given == Some(LOGIN) && query.contains(SCOPE);
            let token = if is_known { TOKEN } else { "Bearer of nobody" };
            return format!(r#"{{"token": "{}"}}"#, token.replace("Bearer ", "")).into_response();
        }
        if self.authorization.is_some() && self.authorization.as_deref() != given {
            let challenge = [("www-authenticate", self.challenge.clone())];
            return (StatusCode::UNAUTHORIZED, challenge).into_response();
        }
        let location = [("location", "/v2/actions/annotate/blobs/uploads/1")];
        match (method.as_str(), path.rsplit_once('/')) {
            ("POST", _) => {
                self.upload.clear();
                (StatusCode::ACCEPTED, location).into_response()
            }
            ("PATCH", _) => {
                self.upload.extend(body);
                let end = self.upload.len().saturating_sub(1);
                let range = [("range", format!("0-{end}"))];
                (StatusCode::ACCEPTED, location, range).into_response()
            }
            ("PUT", Some((_, tag))) if path.contains("/manifests/") => {
                let kind = headers
                    .get("content-type")
                    .and_then(|value| value.to_str().ok());
                let manifest = (kind.unwrap_or_default().to_owned(), body.to_vec());
                self.manifests.insert(tag.to_owned(), manifest);
                let location = [("location", path.to_owned())];
                (StatusCode::CREATED, location).into_response()
            }
            ("PUT", _) => {
                self.upload.extend(body);
                let wanted = query.replace("%3A", ":").replace("digest=", "");
                let blob = std::mem::take(&mut self.upload);
                if digest(&blob) != wanted {
                    return StatusCode::BAD_REQUEST.into_response();
                }
                self.blobs.insert(wanted, blob);
                (StatusCode::CREATED, location).into_response()
            }
            ("HEAD", Some((_, blob))) if self.blobs.contains_key(blob) => {
                StatusCode::OK.into_response()
            }
            ("GET", _) => StatusCode::OK.into_response(),
            _ => StatusCode::NOT_FOUND.into_response(),
        }
    }
}

async fn serve(State(registry): State<Shared>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, 16 << 20).await else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let query = parts.uri.query().unwrap_or_default();
    let mut registry = registry.lock().unwrap_or_else(PoisonError::into_inner);
    registry.answer(&parts.method, parts.uri.path(), query, &parts.headers, body)
}

/// A registry that serves, and a folder with a component.
struct World {
    registry: Shared,
    address: String,
    folder: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
}

impl World {
    fn new(authorization: Option<&str>) -> Result<Self> {
        let runtime = tokio::runtime::Runtime::new()?;
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))?;
        let address = listener.local_addr()?.to_string();
        let challenge = if authorization == Some(TOKEN) {
            format!("Bearer realm=\"http://{address}/token\",service=\"test\"")
        } else {
            "Basic realm=\"test\"".to_owned()
        };
        let registry = Shared::new(Mutex::new(Registry {
            authorization: authorization.map(str::to_owned),
            challenge,
            ..Registry::default()
        }));
        let router = Router::new()
            .fallback(serve)
            .with_state(Arc::clone(&registry));
        runtime.spawn(async move { axum::serve(listener, router).await });
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("annotate.wasm"), annotate()?)?;
        Ok(Self {
            registry,
            address,
            folder,
            _runtime: runtime,
        })
    }

    fn push(&self, file: &str, arguments: &[&str], input: &str) -> Result<Output> {
        let reference = format!("{}/actions/annotate:1.0", self.address);
        let mut child = Command::new(env!("CARGO_BIN_EXE_operon"))
            .args(["plugin", "push", file, &reference])
            .args(arguments)
            .current_dir(self.folder.path())
            .env("DOCKER_CONFIG", self.folder.path())
            .env("NO_PROXY", "127.0.0.1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut stdin = child.stdin.take().context("standard input")?;
        // Not every push reads it.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        Ok(child.wait_with_output()?)
    }

    fn pushed(&self, arguments: &[&str], input: &str) -> Result<String> {
        let output = self.push("annotate.wasm", arguments, input)?;
        ensure!(output.status.success(), String::from_utf8(output.stderr)?);
        Ok(String::from_utf8(output.stdout)?)
    }

    fn error(&self, file: &str, arguments: &[&str]) -> Result<String> {
        let output = self.push(file, arguments, "")?;
        ensure!(output.status.code() == Some(1), "it was pushed");
        ensure!(self.manifest().is_err(), "it was pushed");
        Ok(String::from_utf8(output.stderr)?)
    }

    fn manifest(&self) -> Result<(String, Vec<u8>)> {
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        registry
            .manifests
            .get("1.0")
            .cloned()
            .context("no manifest")
    }

    fn blob(&self, digest: &Value) -> Result<Vec<u8>> {
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let digest = digest.as_str().context("a digest")?;
        registry.blobs.get(digest).cloned().context("no such blob")
    }
}

#[test]
fn a_component_arrives_in_the_layout_of_other_tools() -> Result<()> {
    let world = World::new(None)?;
    let printed = world.pushed(&["--plain-http"], "")?;
    let (kind, bytes) = world.manifest()?;
    assert_eq!(kind, "application/vnd.oci.image.manifest.v1+json");
    let manifest: Value = serde_json::from_slice(&bytes)?;
    let layer = digest(annotate()?);
    let layers =
        json!([{"mediaType": "application/wasm", "digest": layer, "size": annotate()?.len()}]);
    assert_eq!(manifest["layers"], layers);
    assert_eq!(world.blob(&layers[0]["digest"])?, annotate()?);
    assert_eq!(
        manifest["config"]["mediaType"],
        "application/vnd.wasm.config.v0+json"
    );
    let config: Value = serde_json::from_slice(&world.blob(&manifest["config"]["digest"])?)?;
    assert_eq!(config["layerDigests"], json!([layer]));
    assert_eq!(
        (&config["os"], &config["architecture"]),
        (&json!("wasip2"), &json!("wasm"))
    );
    let exports = config["component"]["exports"]
        .as_array()
        .context("exports")?;
    assert!(
        exports.contains(&json!("operon:action/handler@0.2.0")),
        "{exports:?}"
    );

    let pinned = format!("{}/actions/annotate@{}", world.address, digest(&bytes));
    assert!(
        printed.contains(&format!("  digest  {}\n", digest(&bytes))),
        "{printed}"
    );
    assert!(
        printed.contains(&format!("    oci:\n      reference: {pinned}\n")),
        "{printed}"
    );
    assert_eq!(
        world.pushed(&["--plain-http"], "")?,
        printed,
        "the same image again"
    );
    Ok(())
}

#[test]
fn a_push_uses_the_login_of_a_file_or_of_an_option() -> Result<()> {
    let world = World::new(Some(LOGIN))?;
    let error = world.error("annotate.wasm", &["--plain-http"])?;
    let address = &world.address;
    let expected = format!(
        "operon: {address} refused the push; it takes no anonymous push: run `docker login {address}`, or give --username and --password-stdin: "
    );
    assert!(error.starts_with(&expected), "{error}");

    let config = world.folder.path().join("config.json");
    let auths = |auth: &str| json!({"auths": {address: {"auth": auth}}}).to_string();
    fs::write(&config, auths("bWU6d3Jvbmc="))?;
    let error = world.error("annotate.wasm", &["--plain-http"])?;
    assert!(
        error.contains("config.json may not push to actions/annotate"),
        "{error}"
    );
    assert!(
        !error.contains("wrong") && !error.contains("bWU6"),
        "{error}"
    );

    fs::write(&config, auths("bWU6c2VjcmV0"))?;
    world.pushed(&["--plain-http"], "")?;
    fs::write(&config, "{}")?;
    let login = ["--plain-http", "--username", "me", "--password-stdin"];
    world.pushed(&login, "secret\n")?;
    Ok(())
}

#[test]
fn a_registry_with_a_token_server_gets_a_token_for_the_repository() -> Result<()> {
    let world = World::new(Some(TOKEN))?;
    let error = world.error("annotate.wasm", &["--plain-http"])?;
    assert!(error.contains("it takes no anonymous push"), "{error}");
    let login = ["--plain-http", "--username", "me", "--password-stdin"];
    world.pushed(&login, "secret")?;
    world.manifest()?;
    Ok(())
}

#[test]
fn what_can_not_be_pushed_is_said_with_the_way_out() -> Result<()> {
    let world = World::new(None)?;
    let error = world.error("annotate.wasm", &[])?;
    assert!(
        error.contains("; if it has no TLS, add --plain-http: "),
        "{error}"
    );
    fs::write(
        world.folder.path().join("plugin.yaml"),
        "kind: ActionPlugin",
    )?;
    let error = world.error("plugin.yaml", &["--plain-http"])?;
    assert!(
        error.contains("plugin.yaml is not an action; `operon plugin inspect"),
        "{error}"
    );
    let error = world.error("annotate.wasm", &["--ca", "plugin.yaml"])?;
    assert!(
        error.contains("plugin.yaml has no certificate in PEM"),
        "{error}"
    );
    Ok(())
}
