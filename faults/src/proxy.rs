//! Stands between a host and the API server: passes requests on with the host's credentials, limits the host to one
//! namespace, and does to the requests what the plan says.

use std::{
    convert::Infallible,
    future::pending,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header,
    http::request::Parts,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use kube::{Client, Config, client::Body, config::KubeConfigOptions, config::Kubeconfig};
use serde_json::json;
use tokio::{
    net::{TcpListener, TcpStream},
    process::Command,
    sync::{Notify, mpsc, oneshot, watch},
    task::JoinHandle,
};

use crate::{
    plan::{Act, Fault, Plan, Point},
    request::{About, Verb},
    watches::disturbed,
};

/// What an answer has.
pub(crate) type Content = UnsyncBoxBody<Bytes, anyhow::Error>;

type Answer = Response<Content>;

/// How long a write waits for the list that is to miss it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Lists of the watch that ended have begun in this time after the first.
const GATHER: Duration = Duration::from_millis(300);

/// One fault, and what it is about.
#[derive(Clone, Debug)]
pub(crate) struct Strike {
    pub(crate) point: Point,
    pub(crate) fault: Fault,
    /// The resource of the watch, if the fault is one of a watch.
    pub(crate) watch: String,
}

/// Asks for the death of the host; an answer comes when it is dead.
pub(crate) type Kill = oneshot::Sender<()>;

/// A proxy; it ends when this is dropped.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

struct Shared {
    namespace: String,
    upstream: Client,
    strike: Option<Strike>,
    plan: Mutex<Plan>,
    struck: watch::Sender<bool>,
    kills: mpsc::UnboundedSender<Kill>,
    /// A list has been read that the next write is to miss.
    listed: Notify,
    /// That write was made.
    written: watch::Sender<bool>,
    times: Mutex<Vec<Instant>>,
}

impl Proxy {
    /// Starts a proxy with the credentials of this kubeconfig, for a host of one namespace; and what asks for the host's
    /// death.
    pub(crate) async fn start(
        kubeconfig: &Path,
        namespace: &str,
        strike: Option<Strike>,
    ) -> Result<(Self, mpsc::UnboundedReceiver<Kill>)> {
        let options = KubeConfigOptions::default();
        let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
        config.default_retry = false;
        let (kills, killed) = mpsc::unbounded_channel();
        let fault = strike.as_ref().map(|s| (s.point.clone(), s.fault));
        let shared = Arc::new(Shared {
            namespace: namespace.to_owned(),
            upstream: Client::try_from(config)?,
            plan: Mutex::new(Plan::new(namespace, fault)),
            strike,
            struck: watch::Sender::new(false),
            kills,
            listed: Notify::new(),
            written: watch::Sender::new(false),
            times: Mutex::default(),
        });
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let server = tokio::spawn(serve(listener, Arc::clone(&shared)));
        let proxy = Self {
            address,
            shared,
            server,
        };
        Ok((proxy, killed))
    }

    /// The writes so far.
    pub(crate) fn writes(&self) -> Vec<Point> {
        lock(&self.shared.plan).writes.clone()
    }

    /// When the first and the last write was passed on.
    pub(crate) fn times(&self) -> Option<(Instant, Instant)> {
        let times = lock(&self.shared.times);
        Some((*times.first()?, *times.last()?))
    }

    /// Whether the fault has happened.
    pub(crate) fn has_struck(&self) -> bool {
        *self.shared.struck.borrow()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    // Its end ends the connections.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(connection(stream, Arc::clone(&shared)));
    }
}

/// A request that fails here ends the connection without an answer.
async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    // Small answers must not wait for an acknowledgement; a socket that refuses is only slower.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { shared.answer(request).await }
    });
    // How it ended is the host's business.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

impl Shared {
    async fn answer(&self, request: Request<Incoming>) -> Result<Answer> {
        let (mut parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let Some(about) = About::of(&parts.method, parts.uri.path(), &query) else {
            return self.forward(&parts, body).await;
        };
        if let Some(path) = about.narrowed(parts.uri.path(), &self.namespace) {
            parts.uri = format!("{path}?{query}").parse()?;
        }
        if self.is_to_be_stale(&about) {
            let list = whole(self.forward(&parts, body).await?).await?;
            self.listed.notify_one();
            self.written.subscribe().wait_for(|is| *is).await?;
            return Ok(list);
        }
        let act = lock(&self.plan).next(&about);
        let is_write = about.is_write_in(&self.namespace);
        match act {
            Act::Hang => Ok(hang().await),
            Act::Strike(fault) => self.strike(fault, &parts, body).await,
            Act::Pass => {
                if is_write {
                    lock(&self.times).push(Instant::now());
                }
                let answer = self.forward(&parts, body).await?;
                Ok(self.watched(&about, answer))
            }
        }
    }

    async fn strike(&self, fault: Fault, parts: &Parts, body: Bytes) -> Result<Answer> {
        let mut made = None;
        match fault {
            Fault::KillAfter | Fault::Lose | Fault::Gone => {
                made = Some(whole(self.forward(parts, body.clone()).await?).await?);
            }
            Fault::Etcd => restart("etcd").await?,
            Fault::Apiserver => restart("kube-apiserver").await?,
            _ => {}
        }
        self.struck.send_replace(true);
        match fault {
            Fault::KillBefore | Fault::KillAfter => self.kill().await,
            Fault::Lose => bail!("the answer is lost"),
            Fault::Conflict | Fault::TooMany | Fault::Internal | Fault::Unavailable => {
                refusal(fault)
            }
            Fault::Partition => Ok(hang().await),
            Fault::Stale => {
                // Without such a list the write is made all the same.
                if tokio::time::timeout(PATIENCE, self.listed.notified())
                    .await
                    .is_ok()
                {
                    tokio::time::sleep(GATHER).await;
                }
                let made = self.forward(parts, body).await;
                let made = async { whole(made?).await }.await;
                self.written.send_replace(true);
                made
            }
            Fault::Freeze
            | Fault::Delay
            | Fault::Gone
            | Fault::Lease
            | Fault::Etcd
            | Fault::Apiserver => match made {
                Some(answer) => Ok(answer),
                None => self.forward(parts, body).await,
            },
        }
    }

    /// Waits until the host is dead.
    async fn kill<T>(&self) -> Result<T> {
        let (done, is_dead) = oneshot::channel();
        self.kills
            .send(done)
            .context("nothing kills hosts any more")?;
        is_dead.await.context("the host was not killed")?;
        bail!("the host is dead")
    }

    async fn forward(&self, parts: &Parts, body: Bytes) -> Result<Answer> {
        let mut request = Request::new(Body::from(body.to_vec()));
        *request.method_mut() = parts.method.clone();
        *request.uri_mut() = parts.uri.clone();
        *request.headers_mut() = parts.headers.clone();
        for name in [header::HOST, header::CONNECTION] {
            request.headers_mut().remove(name);
        }
        let (mut parts, body) = self.upstream.send(request).await?.into_parts();
        for name in [header::TRANSFER_ENCODING, header::CONNECTION] {
            parts.headers.remove(name);
        }
        let body = body.map_err(anyhow::Error::from).boxed_unsync();
        Ok(Response::from_parts(parts, body))
    }

    /// The answer, with the fault that a watch has.
    fn watched(&self, about: &About, answer: Answer) -> Answer {
        let Some(strike) = &self.strike else {
            return answer;
        };
        let is_hit = match strike.fault {
            Fault::Lease => about.resource == "leases",
            Fault::Partition => true,
            fault => fault.is_of_watch() && about.resource == strike.watch,
        };
        if about.verb != Verb::Watch || !is_hit || *self.struck.borrow() {
            return answer;
        }
        answer.map(|body| disturbed(body, strike.fault, self.struck.subscribe()))
    }

    /// Whether this list is to be answered as it was before the write that waits for it.
    fn is_to_be_stale(&self, about: &About) -> bool {
        let is_of_it = |strike: &Strike| {
            strike.fault == Fault::Stale
                && about.verb == Verb::List
                && about.resource == strike.watch
        };
        let is_written = *self.written.borrow();
        self.strike.as_ref().is_some_and(is_of_it) && *self.struck.borrow() && !is_written
    }
}

/// An answer that never comes.
async fn hang() -> Answer {
    let never: Infallible = pending().await;
    match never {}
}

/// An answer that has arrived in whole.
async fn whole(answer: Answer) -> Result<Answer> {
    let (parts, body) = answer.into_parts();
    let body = full(body.collect().await?.to_bytes());
    Ok(Response::from_parts(parts, body))
}

pub(crate) fn full(bytes: Bytes) -> Content {
    Full::new(bytes)
        .map_err(|never| match never {})
        .boxed_unsync()
}

fn json_answer(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(full(body.into()));
    *answer.status_mut() = status;
    let json = header::HeaderValue::from_static("application/json");
    answer.headers_mut().insert(header::CONTENT_TYPE, json);
    answer
}

/// What the API server answers instead of doing it.
fn refusal(fault: Fault) -> Result<Answer> {
    let (code, reason) = match fault {
        Fault::Conflict => (409, "Conflict"),
        Fault::TooMany => (429, "TooManyRequests"),
        Fault::Internal => (500, "InternalError"),
        _ => (503, "ServiceUnavailable"),
    };
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
        "code": code, "reason": reason, "message": "a fault on purpose",
    });
    let mut answer = json_answer(StatusCode::from_u16(code)?, status.to_string());
    if fault == Fault::TooMany {
        let second = header::HeaderValue::from_static("1");
        answer.headers_mut().insert(header::RETRY_AFTER, second);
    }
    Ok(answer)
}

/// Kills a part of the control plane and starts it again.
async fn restart(component: &str) -> Result<()> {
    let xtask = std::env::var_os("OPERON_XTASK").context("OPERON_XTASK is not set")?;
    let cluster = std::env::var("OPERON_CLUSTER").context("OPERON_CLUSTER is not set")?;
    let mut command = Command::new(xtask);
    command.args(["cluster", "restart", component, "--name", &cluster]);
    let output = command.output().await?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
