//! One run of a scenario in a namespace of its own, with a host of its own behind a proxy, and at most one fault.

use std::{
    convert::Infallible,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use operon_e2e::{
    environment,
    host::{self, Host},
    world::{World, story_named},
};
use serde_json::json;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::{
    plan::{Fault, Point},
    proxy::{Kill, Proxy, Strike},
    scenario::Scenario,
    state::{Observer, State},
};

/// How often what there is is compared with what there should be.
const LOOK: Duration = Duration::from_millis(100);

/// How long it must stay as it should be.
const STEADY: Duration = Duration::from_secs(1);

/// The same for a run without a fault: what comes late then would be missed in all others.
const STEADY_FIRST: Duration = Duration::from_secs(4);

/// What a scenario leads to without a fault.
#[derive(Debug, Default)]
pub(crate) struct Course {
    /// Its writes.
    pub(crate) writes: Vec<Point>,
    /// What there is after each step.
    pub(crate) states: Vec<State>,
    /// Whether the fault happened.
    pub(crate) has_struck: bool,
}

/// How long a fault may delay the end of a step.
fn patience(fault: Option<Fault>) -> Duration {
    match fault {
        // The longest wait of a host is for an answer to a watch: 100 s.
        Some(Fault::Freeze | Fault::Delay | Fault::Gone | Fault::Stale) => Duration::from_mins(5),
        Some(Fault::Etcd | Fault::Apiserver) => Duration::from_mins(4),
        _ => Duration::from_mins(2),
    }
}

/// Runs a scenario. What its steps lead to is compared with `expected`, if there is one.
///
/// # Errors
/// A step that leads to something else, a host that ends by itself, two hosts that write at the same time.
pub(crate) async fn run(
    scenario: Scenario,
    strike: Option<Strike>,
    expected: Option<&[State]>,
) -> Result<Course> {
    let mut ended = Err(anyhow::anyhow!("it did not begin"));
    story_named(
        &format!("faults-{}", scenario.name()),
        async |world: &World| {
            scenario.prepare(world).await;
            ended = in_world(scenario, strike, expected, world).await;
            if ended.is_ok() {
                // The logs of hosts help only where something went wrong; those of others would fill the disk.
                let _ = std::fs::remove_dir_all(host::folder(world));
            }
        },
    )
    .await;
    ended
}

async fn in_world(
    scenario: Scenario,
    strike: Option<Strike>,
    expected: Option<&[State]>,
    world: &World,
) -> Result<Course> {
    let fault = strike.as_ref().map(|strike| strike.fault);
    let account = environment::host_kubeconfig();
    let (proxy, kills) = Proxy::start(&account, &world.namespace, strike).await?;
    let story = async {
        let states = steps(scenario, expected, patience(fault), world).await;
        world.delete_what_hosts_hold().await;
        states
    };
    let states = if let Some(Fault::Lease | Fault::Partition) = fault {
        let (other, _kills) = Proxy::start(&account, &world.namespace, None).await?;
        let states = tokio::select! {
            states = story => states?,
            ended = pair(world, &proxy, &other) => match ended? {},
        };
        ensure_one_after_another(&proxy, &other)?;
        states
    } else {
        tokio::select! {
            states = story => states?,
            ended = keep(world, &proxy, kills) => match ended? {},
        }
    };
    Ok(Course {
        writes: proxy.writes(),
        states,
        has_struck: proxy.has_struck(),
    })
}

/// Keeps a host running: one that the proxy has killed is followed by another.
async fn keep(
    world: &World,
    proxy: &Proxy,
    mut kills: UnboundedReceiver<Kill>,
) -> Result<Infallible> {
    let start = |name: &str| start(world, proxy, name, &["--no-leader-election"]);
    let mut host = start("first")?;
    loop {
        tokio::select! {
            Some(is_dead) = kills.recv() => {
                host.kill().await;
                // The request waits no more, nor does its connection.
                let _ = is_dead.send(());
                host = start("second")?;
            }
            status = host.exit() => bail!("the host ended by itself, {status}:\n{}", host.log()),
        }
    }
}

/// Two hosts, the first of which leads. It is the one to which things happen, and then it ends.
async fn pair(world: &World, proxy: &Proxy, other: &Proxy) -> Result<Infallible> {
    let mut first = start(world, proxy, "first", &[])?;
    first.leads(world).await;
    let mut second = start(world, other, "second", &[])?;
    tokio::select! {
        status = second.exit() => bail!("the second host ended, {status}:\n{}", second.log()),
        status = first.exit() => {
            ensure!(proxy.has_struck(), "the leader ended, {status}:\n{}", first.log());
        }
    }
    let status = second.exit().await;
    bail!("the second host ended, {status}:\n{}", second.log())
}

fn start(world: &World, proxy: &Proxy, name: &str, arguments: &[&str]) -> Result<Host> {
    let folder = host::folder(world);
    std::fs::create_dir_all(&folder).context("failed to make the host's folder")?;
    let kubeconfig = folder.join(format!("{name}.kubeconfig"));
    write_kubeconfig(&kubeconfig, proxy)?;
    Ok(Host::start_as(
        world,
        name,
        &kubeconfig,
        &cache(),
        0,
        arguments,
    ))
}

/// What hosts compile is the same for all: the folder is that of the cluster.
fn cache() -> PathBuf {
    environment::host_kubeconfig().with_file_name("compiled")
}

/// A kubeconfig without credentials: the proxy has them.
fn write_kubeconfig(file: &Path, proxy: &Proxy) -> Result<()> {
    let server = format!("http://{}", proxy.address);
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "proxy",
        "clusters": [{"name": "proxy", "cluster": {"server": server}}],
        "users": [{"name": "proxy", "user": {}}],
        "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}],
    });
    std::fs::write(file, config.to_string())
        .with_context(|| format!("failed to write {}", file.display()))
}

/// Neither of two hosts writes while the other does.
fn ensure_one_after_another(first: &Proxy, second: &Proxy) -> Result<()> {
    let (Some((_, last)), Some((begin, _))) = (first.times(), second.times()) else {
        return Ok(());
    };
    let both = last.saturating_duration_since(begin);
    ensure!(both.is_zero(), "both hosts wrote for {both:?}");
    Ok(())
}

/// Goes through the steps, and returns what each has led to.
async fn steps(
    scenario: Scenario,
    expected: Option<&[State]>,
    patience: Duration,
    world: &World,
) -> Result<Vec<State>> {
    let observer = Observer::start(world, scenario.kinds());
    let mut states = Vec::new();
    for step in 0..scenario.steps() {
        scenario.act(step, world).await?;
        let state = if let Some(expected) = expected {
            let expected = expected.get(step).context("a step too many")?;
            comes_to(&observer, expected, patience)
                .await
                .with_context(|| format!("step {}", step + 1))?;
            expected.clone()
        } else {
            scenario.done(step, world).await;
            settles(&observer).await
        };
        states.push(state);
    }
    Ok(states)
}

/// Waits until there is what there should be, and stays so.
async fn comes_to(observer: &Observer, expected: &State, patience: Duration) -> Result<()> {
    let begin = Instant::now();
    let mut since = None;
    loop {
        let state = observer.state();
        if state == *expected {
            if since.get_or_insert_with(Instant::now).elapsed() > STEADY {
                return Ok(());
            }
        } else if begin.elapsed() > patience {
            let difference = expected.difference(&state);
            bail!(
                "after {} s it is another end:\n{difference}",
                patience.as_secs()
            );
        } else {
            since = None;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits until nothing changes any more, and the garbage collector has nothing left to do.
async fn settles(observer: &Observer) -> State {
    let (mut state, mut since) = (observer.state(), Instant::now());
    while since.elapsed() < STEADY_FIRST || !observer.is_collected() {
        tokio::time::sleep(LOOK).await;
        let now = observer.state();
        if now != state {
            (state, since) = (now, Instant::now());
        }
    }
    state
}
