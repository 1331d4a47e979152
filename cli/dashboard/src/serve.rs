//! The server: which address answers what, and the headers of every answer.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow};
use askama::Template;
use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header},
    middleware::{Next, from_fn, from_fn_with_state},
    response::{Html, IntoResponse, Redirect, Response},
    routing::get,
};
use operon_cli_cluster::Cluster;
use tokio::net::TcpListener;

use crate::{
    cache::Cache,
    gate::{Gate, Pass},
    intent::Intent,
    live,
    part::{Part, Reading, Source},
    place::{Place, field},
};

/// What a browser may do with a page: load what this server has, and nothing else.
const POLICY: &str = "default-src 'none'; base-uri 'none'; frame-ancestors 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'";

/// How many bytes a form may have. It has a token.
const FORM: usize = 1024;

/// How long the first page waits for the lists.
const PATIENCE: Duration = Duration::from_secs(5);

/// A server that listens.
pub struct Page {
    listener: TcpListener,
    gate: Arc<Gate>,
}

impl Page {
    /// Listens on loopback: at this port, or at any that is free.
    ///
    /// # Errors
    /// The port is taken, or nothing can be listened to.
    pub async fn bind(port: Option<u16>) -> anyhow::Result<Self> {
        let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, port.unwrap_or(0))).await;
        let listener = bound.map_err(|error| match (error.kind(), port) {
            (std::io::ErrorKind::AddrInUse, Some(port)) => {
                anyhow!("port {port} is taken by another program: choose another --port, or none")
            }
            (_, Some(port)) => anyhow::Error::new(error).context(format!(
                "failed to listen on port {port}: choose another --port, or none"
            )),
            (_, None) => anyhow::Error::new(error).context("failed to listen on 127.0.0.1"),
        })?;
        let port = listener.local_addr().context("failed to read the port")?;
        Ok(Self {
            gate: Arc::new(Gate::new(port.port())?),
            listener,
        })
    }

    /// The address for the browser. It can be used once.
    pub fn address(&self) -> String {
        self.gate.address()
    }

    /// Serves until the program ends: the objects of all namespaces, or of that of the cluster.
    ///
    /// # Errors
    /// The server ended.
    pub async fn serve(self, cluster: Cluster, is_everywhere: bool) -> anyhow::Result<()> {
        let source = Source {
            cache: Cache::start(&cluster, is_everywhere),
            cluster,
            rights: Arc::default(),
            ledger: Arc::default(),
        };
        let router = Router::new()
            .route(
                "/page.css",
                get(async || asset("text/css", include_str!("../static/page.css"))),
            )
            .route(
                "/graph.css",
                get(async || asset("text/css", operon_flow_graph::STYLE)),
            )
            .route(
                "/page.js",
                get(async || asset("text/javascript", include_str!("../static/page.js"))),
            )
            .route(
                "/icon.svg",
                get(async || asset("image/svg+xml", include_str!("../static/icon.svg"))),
            )
            .fallback(get(page).post(answer))
            .with_state(source)
            .layer(from_fn_with_state(self.gate, admit))
            .layer(from_fn(with_headers));
        let served = axum::serve(self.listener, router).await;
        served.context("the server of the page ended")
    }
}

fn asset(content_type: &'static str, text: &'static str) -> impl IntoResponse {
    let content_type = format!("{content_type}; charset=utf-8");
    ([(header::CONTENT_TYPE, content_type)], text)
}

/// Lets only those requests in that the gate accepts.
async fn admit(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    match gate.check(request.method(), request.uri(), request.headers()) {
        Ok(Pass::Page) => next.run(request).await,
        Ok(Pass::Enter(cookie)) => match HeaderValue::from_str(&cookie) {
            Ok(cookie) => ([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response(),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        },
        Err(refusal) => (StatusCode::FORBIDDEN, refusal.text()).into_response(),
    }
}

/// Adds the headers that every answer has.
async fn with_headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers: &mut HeaderMap = response.headers_mut();
    for (name, value) in [
        ("content-security-policy", POLICY),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "same-origin"),
        ("cache-control", "no-store"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// The whole page around the part that changes.
#[derive(Template)]
#[template(path = "page.html")]
struct Whole<'a> {
    title: &'a str,
    /// What a user has just done, in a sentence; empty if nothing.
    done: &'a str,
    head: &'a str,
    live: &'a str,
    is_live: bool,
}

/// A page, or the changes of its part.
async fn page(State(source): State<Source>, uri: Uri) -> Response {
    let path = uri.path();
    let (path, is_stream) = match path.strip_prefix("/live") {
        Some(rest) if rest.starts_with('/') => (rest, true),
        _ => (path, false),
    };
    if !is_stream && let Some(intent) = Intent::parse(path, uri.query()) {
        return match intent {
            Ok(intent) => whole(&source.question(&intent).await, "", false),
            Err(nowhere) => whole(&Part::nowhere(&nowhere.to_string()), "", false),
        };
    }
    let place = match Place::parse(path, uri.query()) {
        Ok(place) => place,
        Err(nowhere) => return whole(&Part::nowhere(&nowhere.to_string()), "", false),
    };
    if is_stream {
        return live::stream(source, place).into_response();
    }
    source.cache.settle(PATIENCE).await;
    let done = field(uri.query().unwrap_or_default(), "done");
    let (done, reading) = match source.ledger.said(&done) {
        Some(done) => (done, Reading::Fresh),
        None => (String::new(), Reading::Watched),
    };
    whole(&source.part(&place, reading).await, &done, true)
}

/// The answer to a question: the only request that writes.
async fn answer(State(source): State<Source>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let Some(Ok(intent)) = Intent::parse(head.uri.path(), head.uri.query()) else {
        let allowed = [(header::ALLOW, "GET, HEAD")];
        return (StatusCode::METHOD_NOT_ALLOWED, allowed).into_response();
    };
    let token = match token(&head.headers, body).await {
        Ok(token) => token,
        Err(refused) => return refused.into_response(),
    };
    match source.answered(&intent, &token).await {
        Ok(address) => Redirect::to(&address).into_response(),
        Err(part) => whole(&part, "", false),
    }
}

/// The token of a form.
async fn token(headers: &HeaderMap, body: Body) -> Result<String, (StatusCode, &'static str)> {
    let kind = headers.get(header::CONTENT_TYPE);
    if kind.is_none_or(|kind| kind != "application/x-www-form-urlencoded") {
        let code = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return Err((code, "This server reads only forms of its own page."));
    }
    let Ok(form) = to_bytes(body, FORM).await else {
        return Err((StatusCode::PAYLOAD_TOO_LARGE, "The form is too large."));
    };
    let form = String::from_utf8_lossy(&form);
    match field(&form, "confirmation") {
        token if token.is_empty() => {
            Err((StatusCode::BAD_REQUEST, "The form has no confirmation."))
        }
        token => Ok(token),
    }
}

fn whole(part: &Part, done: &str, is_live: bool) -> Response {
    let whole = Whole {
        title: &part.title,
        done,
        head: &part.head,
        live: &part.live,
        is_live,
    };
    match whole.render() {
        Ok(html) => (part.code, Html(html)).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
