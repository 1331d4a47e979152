//! The overview: the objects of all kinds that the filter allows. What is unfinished comes first, then what failed.

use std::cmp::Reverse;

use askama::Template;
use k8s_openapi::jiff::Timestamp;
use operon_cli_model::{Mark, Object, count, plugin_tree};

use crate::{
    cache::{Known, Link, of},
    fragment::{Pages, Sign},
    place::{Filter, address},
    shown::{Shown, What},
};

/// How many objects a page lists.
const SIZE: usize = 200;

/// The form of the filter. It does not change while the page is open.
#[derive(Template)]
#[template(path = "filter.html")]
pub(crate) struct Form {
    kinds: Vec<Choice>,
    states: Vec<Choice>,
    namespace: String,
    text: String,
}

struct Choice {
    value: &'static str,
    label: &'static str,
    is_chosen: bool,
}

impl Form {
    pub(crate) fn of(filter: &Filter) -> Self {
        let choice = |value, label, chosen: &str| Choice {
            value,
            label,
            is_chosen: value == chosen,
        };
        let kinds = What::ALL.into_iter();
        let kinds = kinds.map(|what| choice(what.plural(), what.name(), &filter.kind));
        let states = [
            ("", "all"),
            ("unfinished", "unfinished"),
            ("failed", "failed"),
            ("succeeded", "succeeded"),
        ];
        let states = states.into_iter();
        Self {
            kinds: std::iter::once(choice("", "all", &filter.kind))
                .chain(kinds)
                .collect(),
            states: states
                .map(|(value, label)| choice(value, label, &filter.state))
                .collect(),
            namespace: filter.namespace.clone(),
            text: filter.text.clone(),
        }
    }
}

/// The list.
#[derive(Template)]
#[template(path = "overview.html")]
pub(crate) struct Overview {
    notes: Vec<String>,
    summary: String,
    rows: Vec<Line>,
    pages: Pages,
}

/// An object in the list.
struct Line {
    mark: Mark,
    sign: Sign,
    is_unfinished: bool,
    created: Option<Timestamp>,
    kind: &'static str,
    namespace: String,
    name: String,
    address: String,
    state: &'static str,
    progress: (usize, usize),
    age: String,
    reason: String,
}

impl Overview {
    pub(crate) fn of(all: &[Known], filter: &Filter, now: Timestamp) -> Self {
        let mut rows = lines(all, now);
        rows.retain(|row| is_allowed(row, filter));
        rows.sort_by_key(|row| (!row.is_unfinished, row.mark, Reverse(row.created)));
        let summary = summary(&rows);
        let query = |page| filter.query(page);
        let (shown, pages) = Pages::of(rows, SIZE, filter.page, "Pages of objects", query);
        Self {
            notes: notes(all),
            summary,
            rows: shown,
            pages,
        }
    }
}

fn lines(all: &[Known], now: Timestamp) -> Vec<Line> {
    let mut lines = Vec::new();
    for what in What::ALL {
        let objects = of(all, what).into_iter().flat_map(|known| &known.objects);
        for ((namespace, name), shown) in objects {
            let Ok(shown) = shown else { continue };
            let line = Line {
                kind: what.name(),
                namespace: namespace.clone(),
                name: name.clone(),
                address: address(what, namespace, name),
                ..line(shown, now)
            };
            lines.push(line);
        }
    }
    lines
}

/// What the model says of an object.
fn line(shown: &Shown, now: Timestamp) -> Line {
    let blank = |mark: Mark, state: &'static str| Line {
        mark,
        sign: Sign::of(mark),
        is_unfinished: mark != Mark::Done,
        created: None,
        kind: "",
        namespace: String::new(),
        name: String::new(),
        address: String::new(),
        state,
        progress: (0, 0),
        age: String::new(),
        reason: String::new(),
    };
    match shown {
        Shown::Object(object) => {
            let object: &Object = object;
            let created = object.metadata().creation_timestamp.as_ref();
            Line {
                is_unfinished: object.is_unfinished(),
                created: created.map(|time| time.0),
                progress: object.progress(),
                age: object.age(now),
                reason: object.explanation(),
                ..blank(object.mark(), object.state())
            }
        }
        Shown::Plugin(plugin) => {
            let tree = plugin_tree(plugin);
            Line {
                created: tree.since,
                progress: tree.progress,
                age: tree.age(now),
                reason: tree.text,
                ..blank(tree.mark, tree.state)
            }
        }
    }
}

fn is_allowed(row: &Line, filter: &Filter) -> bool {
    let is_of_kind = filter.kind.is_empty()
        || What::ALL
            .iter()
            .any(|what| what.plural() == filter.kind && what.name() == row.kind);
    let is_in_state = match filter.state.as_str() {
        "unfinished" => row.is_unfinished,
        "failed" => row.mark == Mark::Failed,
        "succeeded" => row.mark == Mark::Done,
        _ => true,
    };
    let text = filter.text.to_lowercase();
    let has_text = |found: &str| found.to_lowercase().contains(&text);
    is_of_kind
        && is_in_state
        && (filter.namespace.is_empty() || filter.namespace == row.namespace)
        && (has_text(&row.name) || has_text(row.state) || has_text(&row.reason))
}

fn summary(rows: &[Line]) -> String {
    let number = |is_counted: fn(&Line) -> bool| rows.iter().filter(|row| is_counted(row)).count();
    format!(
        "{}: {} unfinished, {} failed, {} succeeded",
        count(rows.len(), "object"),
        number(|row| row.is_unfinished && row.mark != Mark::Failed),
        number(|row| row.mark == Mark::Failed),
        number(|row| row.mark == Mark::Done),
    )
}

/// What is missing in the list, and why.
fn notes(all: &[Known]) -> Vec<String> {
    let mut notes = Vec::new();
    let narrowed: Vec<_> = all
        .iter()
        .filter_map(|known| known.narrowed.as_ref())
        .collect();
    if let Some(first) = narrowed.first() {
        notes.push(format!(
            "Only one namespace is shown, because of rights that you do not have: {first}"
        ));
    }
    if all.iter().all(|known| known.link == Link::Unserved) {
        notes.push("The cluster serves none of Operon's kinds: `kubectl apply --server-side -f crds/` installs its CRDs.".to_owned());
    }
    for (what, known) in What::ALL.into_iter().zip(all) {
        match &known.link {
            Link::Listing => notes.push(format!("{}s are still being read.", what.name())),
            Link::Lost(why) if known.objects.is_empty() => {
                notes.push(format!("{}s are not shown: {why}", what.name()));
            }
            Link::Lost(why) => notes.push(format!(
                "{}s may be out of date; the connection is tried again: {why}",
                what.name()
            )),
            Link::Live | Link::Unserved => {}
        }
        notes.extend(
            known
                .objects
                .iter()
                .filter_map(|((namespace, name), shown)| {
                    let why = shown.as_ref().err()?;
                    Some(format!(
                        "{} {namespace}/{name} is not shown: {why}",
                        what.name()
                    ))
                }),
        );
    }
    notes
}
