//! Clients of a Service: one connection for each request, at a steady rate, while a story changes the pods.
//!
//! They run on this machine and go to the Service's address, so kube-proxy chooses the pod. Needs a real
//! node. Every answer is read to its end, and what is not whole counts as a failure.

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, ErrorKind},
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Service;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinHandle,
    time::{MissedTickBehavior, interval, timeout},
};

use crate::world::World;

/// Connections that are open at the same time, at most. The servers' queues hold nine each.
const CLIENTS: u32 = 16;

/// How many requests the clients send in a second, all together. A third of what two processors answer.
const RATE: u32 = 1_000;

/// A request that has no whole answer after this time has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many failures are reported one by one.
const REPORTED: usize = 10;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n";

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// The port has no listener.
    Refused,
    /// The connection was cut.
    Reset,
    /// There was no whole answer in time.
    TimedOut,
    /// The connection ended before the whole answer.
    Short,
    /// A whole answer that is not 200.
    Status,
    /// Anything else, for example no way to the address.
    Other,
}

/// What the clients have seen.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// How long each request took that succeeded, in microseconds.
    micros: Vec<u32>,
    failures: BTreeMap<Failure, usize>,
    reported: Vec<String>,
}

impl Tally {
    /// How many requests have ended.
    pub fn requests(&self) -> usize {
        self.micros.len() + self.failed()
    }

    /// How many of them failed.
    pub fn failed(&self) -> usize {
        self.failures.values().sum()
    }

    /// The time within which this share of the requests succeeded.
    fn within(&self, share: f64) -> Duration {
        let mut sorted = self.micros.clone();
        sorted.sort_unstable();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index into a few hundred thousand"
        )]
        let index = (sorted.len() as f64 * share) as usize;
        let found = sorted.get(index.min(sorted.len().saturating_sub(1)));
        Duration::from_micros(found.copied().unwrap_or_default().into())
    }

    fn note(&mut self, at: Duration, took: Duration, result: &Result<(), (Failure, String)>) {
        match result {
            Ok(()) => {
                let micros = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
                self.micros.push(micros);
            }
            Err((failure, text)) => {
                *self.failures.entry(*failure).or_default() += 1;
                if self.reported.len() < REPORTED {
                    self.reported.push(format!("after {at:.1?}: {text}"));
                }
            }
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} requests, {} failed {:?}, p50 {:.1?}, p99 {:.1?}, slowest {:.1?}",
            self.requests(),
            self.failed(),
            self.failures,
            self.within(0.5),
            self.within(0.99),
            self.within(1.0),
        )?;
        for failure in &self.reported {
            write!(formatter, "\n  {failure}")?;
        }
        Ok(())
    }
}

/// Clients that go on until [`Traffic::end`].
pub struct Traffic {
    seen: Arc<Mutex<Tally>>,
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
}

impl Traffic {
    /// Sends requests to this address.
    fn to(address: SocketAddr) -> Self {
        let seen = Arc::<Mutex<Tally>>::default();
        let stop = Arc::<AtomicBool>::default();
        let since = Instant::now();
        let client = |_| {
            let (seen, stop) = (Arc::clone(&seen), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut turn = interval(Duration::from_secs(1) * CLIENTS / RATE);
                turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
                while !stop.load(Ordering::Relaxed) {
                    turn.tick().await;
                    let start = Instant::now();
                    let result = ask(address).await;
                    seen.lock().unwrap_or_else(PoisonError::into_inner).note(
                        since.elapsed(),
                        start.elapsed(),
                        &result,
                    );
                }
            })
        };
        let clients = (0..CLIENTS).map(client).collect();
        Self {
            seen,
            stop,
            clients,
        }
    }

    /// What the clients have seen so far.
    pub fn so_far(&self) -> Tally {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Waits for the requests that are under way, and returns what the clients have seen.
    pub async fn end(mut self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        for client in std::mem::take(&mut self.clients) {
            client
                .await
                .unwrap_or_else(|error| panic!("a client failed: {error}"));
        }
        self.so_far()
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        for client in &self.clients {
            client.abort();
        }
    }
}

impl World {
    /// Sends requests to a Service, from when it answers.
    pub async fn traffic(&self, service: &str) -> Traffic {
        let address = self
            .eventually(&format!("Service {service} answers"), async || {
                let object = self.get::<Service>(service).await?;
                let spec = object.spec.unwrap_or_default();
                let ip = spec.cluster_ip.context("no address")?.parse()?;
                let address = SocketAddr::new(ip, 80);
                let answer = ask(address).await;
                ensure!(answer.is_ok(), "{answer:?}");
                Ok(address)
            })
            .await;
        Traffic::to(address)
    }
}

/// One request on a connection of its own.
async fn ask(address: SocketAddr) -> Result<(), (Failure, String)> {
    let answer = match timeout(PATIENCE, exchange(address)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err((kind_of(&error), error.to_string())),
        Err(_) => return Err((Failure::TimedOut, format!("no answer in {PATIENCE:?}"))),
    };
    judge(&answer)
}

async fn exchange(address: SocketAddr) -> io::Result<Vec<u8>> {
    let mut connection = TcpStream::connect(address).await?;
    connection.write_all(REQUEST).await?;
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).await?;
    Ok(answer)
}

fn kind_of(error: &io::Error) -> Failure {
    match error.kind() {
        ErrorKind::ConnectionRefused => Failure::Refused,
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => {
            Failure::Reset
        }
        ErrorKind::TimedOut => Failure::TimedOut,
        _ => Failure::Other,
    }
}

/// Why this is not all of an answer, or not a good one.
pub fn judge(answer: &[u8]) -> Result<(), (Failure, String)> {
    let text = String::from_utf8_lossy(answer);
    let short = || (Failure::Short, format!("only {} bytes", answer.len()));
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(short)?;
    let mut lines = head.lines();
    let status = lines.next().unwrap_or_default();
    if !status.starts_with("HTTP/1.1 200 ") {
        return Err((Failure::Status, status.to_owned()));
    }
    let length = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse::<usize>().ok());
    if length.is_none_or(|length| body.len() < length) {
        return Err(short());
    }
    Ok(())
}
