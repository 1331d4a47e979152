//! What a place shows, read from the cluster and written as HTML: for the whole page, and for each change of it.

use std::sync::Arc;

use anyhow::anyhow;
use askama::Template;
use axum::http::StatusCode;
use k8s_openapi::jiff::Timestamp;
use kube::api::DynamicObject;
use operon_api::ActionPlugin;
use operon_cli_cluster::{Cluster, Failure, Missing, timely};
use operon_cli_model::{Happening, Kind, Object, happenings};

use crate::{
    cache::{Cache, Known, Link, of},
    ledger::Ledger,
    object,
    overview::{Form, Overview},
    place::Place,
    rights::Rights,
    shown::{Shown, What},
};

/// How many Events a page lists.
const EVENTS: usize = 50;

/// How many lines of each log are shown.
const LINES: usize = 200;

/// The namespace of Events about objects that have none.
const EVENTS_OF_CLUSTER: &str = "default";

/// What a place depends on, as far as watches report it: while it is the same, the place shows the same.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stamp {
    /// How often each kind changed.
    Kinds(Vec<u64>),
    /// The version of the object, and whether it is watched.
    Object(Option<String>, Option<Link>),
}

impl Stamp {
    pub(crate) fn of(all: &[Known], place: &Place) -> Self {
        let (what, namespace, name) = match place {
            Place::Overview(_) => return Self::Kinds(all.iter().map(|one| one.version).collect()),
            Place::Object {
                kind,
                namespace,
                name,
                table: _,
            } => (What::Ours(*kind), namespace.as_str(), name),
            Place::Plugin { name } => (What::Plugin, "", name),
            Place::Log {
                namespace: _,
                pod: _,
            } => return Self::Kinds(Vec::new()),
        };
        let known = of(all, what);
        let key = (namespace.to_owned(), name.clone());
        let shown = known.and_then(|known| known.objects.get(&key)?.as_ref().ok());
        let version = shown.and_then(|shown| shown.version().map(str::to_owned));
        Self::Object(version, known.map(|known| known.link.clone()))
    }
}

/// Where everything comes from.
#[derive(Clone)]
pub(crate) struct Source {
    pub(crate) cluster: Cluster,
    pub(crate) cache: Arc<Cache>,
    pub(crate) rights: Arc<Rights>,
    pub(crate) ledger: Arc<Ledger>,
}

/// Where an object is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// From its watch, if that has it.
    Watched,
    /// From the API server: it was just written, and its watch may not have reported that.
    Fresh,
}

/// What a place shows.
pub(crate) struct Part {
    pub(crate) code: StatusCode,
    pub(crate) title: String,
    /// What does not change.
    pub(crate) head: String,
    /// What does.
    pub(crate) live: String,
}

/// The head of an object's page.
#[derive(Template)]
#[template(path = "head.html")]
struct Head<'a> {
    title: &'a str,
    /// The page with the objects of the same kind.
    kind: &'a str,
    all: &'a str,
}

#[derive(Template)]
#[template(source = "<h1>{{ title }}</h1>", ext = "html")]
struct Title<'a> {
    title: &'a str,
}

/// The last lines of the containers of a pod.
#[derive(Template)]
#[template(path = "log.html")]
struct Log {
    containers: Vec<Container>,
}

struct Container {
    name: String,
    lines: Vec<String>,
    /// Why there are none.
    trouble: String,
}

impl Container {
    fn of(name: String, log: &str) -> Self {
        let trouble = if log.is_empty() {
            "it has written nothing"
        } else {
            ""
        };
        Self {
            lines: log.lines().map(str::to_owned).collect(),
            ..Self::without(name, trouble.to_owned())
        }
    }

    fn without(name: String, trouble: String) -> Self {
        Self {
            name,
            lines: Vec::new(),
            trouble,
        }
    }
}

/// Why nothing is shown.
#[derive(Template)]
#[template(path = "failed.html")]
struct Failed {
    notes: Vec<String>,
    text: String,
}

impl Part {
    /// The page of an address that shows nothing.
    pub(crate) fn nowhere(text: &str) -> Self {
        let title = "Not found".to_owned();
        let head = "<h1>Not found</h1>".to_owned();
        failed(title, head, StatusCode::NOT_FOUND, Vec::new(), text)
    }
}

impl Source {
    /// What the place shows now.
    pub(crate) async fn part(&self, place: &Place, reading: Reading) -> Part {
        let now = Timestamp::now();
        match place {
            Place::Overview(filter) => {
                let overview = {
                    let all = self.cache.subscribe();
                    let all = all.borrow();
                    Overview::of(&all, filter, now)
                };
                let head = Form::of(filter).render();
                shown("Overview".to_owned(), head, overview.render())
            }
            Place::Object {
                kind,
                namespace,
                name,
                table,
            } => {
                let what = What::Ours(*kind);
                let title = format!("{} {namespace}/{name}", kind.name());
                match self.object(*kind, namespace, name, reading).await {
                    Ok(object) => {
                        let cluster = self.cluster.within(namespace);
                        let uid = object.metadata().uid.clone().unwrap_or_default();
                        let (related, events, offers) = tokio::join!(
                            cluster.related(&object),
                            events(&cluster, &uid),
                            self.offers(&object, now)
                        );
                        let notes = self.notes(what);
                        let read = object::Read {
                            object: &object,
                            related: &related,
                            offers,
                        };
                        let page = object::object(read, events, notes, table, now);
                        shown(title.clone(), head(&title, what), page.render())
                    }
                    Err(error) => self.missing(title, what, &error),
                }
            }
            Place::Plugin { name } => {
                let what = What::Plugin;
                let title = format!("ActionPlugin {name}");
                match self.plugin(name).await {
                    Ok(plugin) => {
                        let cluster = self.cluster.within(EVENTS_OF_CLUSTER);
                        let uid = plugin.metadata.uid.clone().unwrap_or_default();
                        let events = events(&cluster, &uid).await;
                        let page = object::plugin(&plugin, events, self.notes(what), now);
                        shown(title.clone(), head(&title, what), page.render())
                    }
                    Err(error) => self.missing(title, what, &error),
                }
            }
            Place::Log { namespace, pod } => self.log(namespace, pod).await,
        }
    }

    /// The last lines that the containers of a pod wrote.
    async fn log(&self, namespace: &str, pod: &str) -> Part {
        let title = format!("Log of pod {namespace}/{pod}");
        let head = Title { title: &title }.render();
        match self.cluster.within(namespace).logs(pod, LINES).await {
            Ok(logs) => {
                let containers = logs.into_iter().map(|(name, log)| match log {
                    Ok(log) => Container::of(name, &log),
                    Err(failure) => Container::without(name, failure.to_string()),
                });
                let containers = containers.collect();
                shown(title.clone(), head, Log { containers }.render())
            }
            Err(error) => {
                let code = code(&error);
                let head = head.unwrap_or_else(|error| error.to_string());
                failed(title, head, code, Vec::new(), &format!("{error:#}"))
            }
        }
    }

    /// The object as the watch has it; otherwise it is read, for example from a namespace that is not watched.
    async fn object(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        reading: Reading,
    ) -> anyhow::Result<Arc<Object>> {
        let is_watched = reading == Reading::Watched;
        if is_watched
            && let Some(Shown::Object(object)) = self.cached(What::Ours(kind), namespace, name)?
        {
            return Ok(object);
        }
        let cluster = self.cluster.within(namespace);
        Ok(Arc::new(cluster.get(kind, name).await?))
    }

    async fn plugin(&self, name: &str) -> anyhow::Result<Arc<ActionPlugin>> {
        if let Some(Shown::Plugin(plugin)) = self.cached(What::Plugin, "", name)? {
            return Ok(plugin);
        }
        let api = What::Plugin.api(&self.cluster, None);
        let found: DynamicObject = timely(api.get(name)).await.map_err(|failure| match failure {
            failure if failure.is_unknown_kind() => anyhow!(
                "the cluster does not serve ActionPlugins: `kubectl apply --server-side -f crds/` installs Operon's CRDs"
            ),
            Failure::Refused { code: 404, .. } => Missing::error(format!(
                "there is no ActionPlugin {name:?}; `kubectl get actionplugins` lists those that exist"
            )),
            failure => anyhow!("failed to read ActionPlugin {name:?}: {failure}"),
        })?;
        match What::Plugin.parsed(&found)? {
            Shown::Plugin(plugin) => Ok(plugin),
            Shown::Object(_) => Err(anyhow!("the cluster answered with another kind")),
        }
    }

    fn cached(&self, what: What, namespace: &str, name: &str) -> anyhow::Result<Option<Shown>> {
        let all = self.cache.subscribe();
        let all = all.borrow();
        let key = (namespace.to_owned(), name.to_owned());
        let found = of(&all, what).and_then(|known| known.objects.get(&key));
        found.cloned().transpose().map_err(|why| anyhow!(why))
    }

    /// Why what is shown of the kind may be old.
    fn notes(&self, what: What) -> Vec<String> {
        let all = self.cache.subscribe();
        let all = all.borrow();
        match of(&all, what).map(|known| &known.link) {
            Some(Link::Lost(why)) => vec![format!(
                "What you see may be out of date; the connection is tried again: {why}"
            )],
            _ => Vec::new(),
        }
    }

    /// The page of an object that could not be read.
    fn missing(&self, title: String, what: What, error: &anyhow::Error) -> Part {
        let head = match head(&title, what) {
            Ok(head) => head,
            Err(error) => error.to_string(),
        };
        failed(
            title,
            head,
            code(error),
            self.notes(what),
            &format!("{error:#}"),
        )
    }
}

/// The HTTP status of the page of an object that could not be read.
pub(crate) fn code(error: &anyhow::Error) -> StatusCode {
    if error.is::<Missing>() {
        StatusCode::NOT_FOUND
    } else {
        StatusCode::BAD_GATEWAY
    }
}

async fn events(cluster: &Cluster, uid: &str) -> Result<Vec<Happening>, String> {
    let events = cluster.events(uid).await;
    let events = events.map_err(|failure| failure.to_string())?;
    Ok(happenings(events, EVENTS))
}

fn head(title: &str, what: What) -> askama::Result<String> {
    let all = format!("/?kind={}", what.plural());
    let kind = format!("{}s", what.name());
    Head {
        title,
        kind: &kind,
        all: &all,
    }
    .render()
}

pub(crate) fn shown(
    title: String,
    head: askama::Result<String>,
    live: askama::Result<String>,
) -> Part {
    match (head, live) {
        (Ok(head), Ok(live)) => Part {
            code: StatusCode::OK,
            title,
            head,
            live,
        },
        (Err(error), _) | (_, Err(error)) => {
            let code = StatusCode::INTERNAL_SERVER_ERROR;
            failed(title, String::new(), code, Vec::new(), &error.to_string())
        }
    }
}

pub(crate) fn failed(
    title: String,
    head: String,
    code: StatusCode,
    notes: Vec<String>,
    text: &str,
) -> Part {
    let text = text.to_owned();
    let live = match (Failed { notes, text }).render() {
        Ok(live) => live,
        Err(error) => error.to_string(),
    };
    Part {
        code,
        title,
        head,
        live,
    }
}
