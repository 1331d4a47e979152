//! `operon plugin push`: puts a component into an OCI registry, in the layout that `wkg` and other tools for
//! WebAssembly have: a config of their own media type, and the component as the only layer.

mod reference;
mod session;

use std::{
    io::Read as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use operon_plugin_registry::digest;
use operon_plugin_runtime::{Description, describe};
use reqwest::{Certificate, Client, redirect::Policy};
use serde_json::{Value, json};

use self::{
    reference::Reference,
    session::{Refused, Session},
};
use super::{
    component::Component,
    credentials::{self, Login},
    inspect::HANDLER,
};
use crate::stdout::print;

/// The media types of the layout.
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.wasm.config.v0+json";
const LAYER: &str = "application/wasm";

/// What is pushed, and to where.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  operon plugin push mark-pod.wasm registry.example.com/actions/mark-pod:1.0.0
  operon plugin push mark-pod.wasm localhost:5000/mark-pod:dev --plain-http

The credentials are those of `docker login`: the section auths of $DOCKER_CONFIG/config.json, or of
~/.docker/config.json. Credential helpers are not used: give --username and --password-stdin instead.
The same component always has the same digest. Sign it with cosign, by the digest that is printed.")]
pub(super) struct Arguments {
    /// The component
    file: PathBuf,

    /// Registry, repository and tag, such as registry.example.com/actions/mark-pod:1.0.0
    reference: String,

    /// Speak HTTP without TLS to the registry
    #[arg(long)]
    plain_http: bool,

    /// A file of PEM certificates: authorities to trust besides those of this machine
    #[arg(long, value_name = "FILE", conflicts_with = "plain_http")]
    ca: Option<PathBuf>,

    /// The user at the registry
    #[arg(long, value_name = "NAME", requires = "password_stdin")]
    username: Option<String>,

    /// Read the user's password or token from standard input
    #[arg(long, requires = "username")]
    password_stdin: bool,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let component = Component::read(&arguments.file)?;
    let description = describe(&component.bytes);
    let file = arguments.file.display();
    ensure!(
        description
            .exports
            .iter()
            .any(|name| name.starts_with(HANDLER)),
        "{file} is not an action; `operon plugin inspect {file}` says why"
    );
    let reference = Reference::parse(&arguments.reference)?;
    let login = login(arguments, &reference.registry)?;
    let client = client(arguments)?;
    let image = Image::of(component.bytes, &description)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start")?;
    let scheme = if arguments.plain_http {
        "http"
    } else {
        "https"
    };
    let pushed = runtime.block_on(async {
        let session = Session::open(&client, scheme, &reference, &login).await?;
        image.push(&session).await
    });
    pushed.map_err(|error| explained(error, &reference, &login))?;
    print(&report(&arguments.file, &reference, &image))
}

fn login(arguments: &Arguments, registry: &str) -> anyhow::Result<Login> {
    let Some(user) = &arguments.username else {
        return credentials::of(registry);
    };
    let mut password = String::new();
    std::io::stdin()
        .read_to_string(&mut password)
        .context("failed to read the password from standard input")?;
    let password = password.trim_end_matches(['\r', '\n']);
    ensure!(
        !password.is_empty(),
        "the password on standard input is empty"
    );
    Ok(Login::new(user, password, "--username"))
}

fn client(arguments: &Arguments) -> anyhow::Result<Client> {
    // The default of the process, once: the second time it is set already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let authorities = arguments.ca.as_deref().map(certificates).transpose()?;
    Client::builder()
        .user_agent(concat!("operon/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(10))
        .read_timeout(Duration::from_mins(1))
        .redirect(Policy::none())
        .https_only(!arguments.plain_http)
        .tls_certs_merge(authorities.unwrap_or_default())
        .build()
        .context("failed to start a client for registries")
}

fn certificates(file: &Path) -> anyhow::Result<Vec<Certificate>> {
    let shown = file.display();
    let text = std::fs::read(file).with_context(|| format!("failed to read {shown}"))?;
    let found = Certificate::from_pem_bundle(&text);
    let found = found.with_context(|| format!("{shown} is not valid PEM"))?;
    ensure!(!found.is_empty(), "{shown} has no certificate in PEM");
    Ok(found)
}

/// What is pushed: two blobs, and the manifest that names them.
struct Image {
    component: Vec<u8>,
    config: Vec<u8>,
    manifest: Vec<u8>,
}

impl Image {
    fn of(component: Vec<u8>, description: &Description) -> anyhow::Result<Self> {
        let layer = digest(&component);
        // No time of creation, so that the same component is the same image.
        let config = json!({
            "created": "1970-01-01T00:00:00Z", "architecture": "wasm", "os": "wasip2",
            "layerDigests": [layer],
            "component": {"exports": description.exports, "imports": description.imports},
        });
        let config = bytes(&config)?;
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": digest(&config), "size": config.len()},
            "layers": [{"mediaType": LAYER, "digest": layer, "size": component.len()}],
        });
        let manifest = bytes(&manifest)?;
        Ok(Self {
            component,
            config,
            manifest,
        })
    }

    /// The manifest last: what it names is there.
    async fn push(&self, session: &Session<'_>) -> anyhow::Result<()> {
        for blob in [&self.component, &self.config] {
            session.blob(blob, &digest(blob)).await?;
        }
        session.manifest(&self.manifest, MANIFEST).await
    }
}

fn bytes(value: &Value) -> anyhow::Result<Vec<u8>> {
    serde_json::to_vec(value).context("failed to write JSON")
}

/// What went wrong, with what to do about it.
fn explained(error: anyhow::Error, reference: &Reference, login: &Login) -> anyhow::Error {
    let Reference {
        registry,
        repository,
        tag: _,
    } = reference;
    if error.is::<Refused>() {
        let way_out = match login.basic() {
            None => format!(
                "it takes no anonymous push: run `docker login {registry}`, or give --username and --password-stdin"
            ),
            Some(_) => format!(
                "the credentials of {} may not push to {repository}",
                login.source
            ),
        };
        return error.context(format!("{registry} refused the push; {way_out}"));
    }
    let text = format!("{error:#}");
    let hint = if text.contains("UnknownIssuer") {
        "; if its authority is your own, give its certificate by --ca FILE"
    } else if text.contains("InvalidContentType") || text.contains("corrupt message") {
        "; if it has no TLS, add --plain-http"
    } else {
        ""
    };
    error.context(format!("failed to push to {registry}{hint}"))
}

fn report(file: &Path, reference: &Reference, image: &Image) -> String {
    let (file, digest) = (file.display(), digest(&image.manifest));
    let repository = format!("{}/{}", reference.registry, reference.repository);
    format!(
        "\
Pushed {file} to {reference}
  digest  {digest}

In the ActionPlugin:
  source:
    oci:
      reference: {repository}@{digest}

To sign it: cosign sign --key cosign.key {repository}@{digest}
"
    )
}
