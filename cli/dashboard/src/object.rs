//! The page of an object: what `kubectl operon why` and `get` say, what its kind has beside, and its Events.

use std::collections::BTreeMap;

use askama::Template;
use k8s_openapi::jiff::Timestamp;
use operon_api::{ActionPlugin, JobFlow};
use operon_cli_model::{
    Happening, Mark, Object, Related, Row, Tree, facts, plugin_tree, plugin_why, targets, why,
};
use operon_flow_graph::{draw_unstyled, pictures};

use crate::{
    fragment::{Branch, Events, Pages, Sign, Twig},
    offer::Offers,
    place::Table,
};

/// How many targets a page of the table has.
const SIZE: usize = 100;

/// How many squares the grid has at most; each of them has as many targets as that takes.
const SQUARES: usize = 500;

/// An object of the command's kinds, and what was read beside it.
pub(crate) struct Read<'a> {
    pub(crate) object: &'a Object,
    pub(crate) related: &'a Related,
    pub(crate) offers: Offers,
}

/// The part of the page that changes.
#[derive(Template)]
#[template(path = "object.html")]
pub(crate) struct Page {
    notes: Vec<String>,
    /// The lines of `why`.
    why: Vec<String>,
    head: Head,
    /// The verbs; an ActionPlugin has none.
    offers: Option<Offers>,
    /// What its status records beside, under this title.
    facts_title: &'static str,
    facts: Vec<(String, String)>,
    targets: Option<Targets>,
    /// The image of a JobFlow, or why there is none.
    graph: Option<Result<String, String>>,
    rows: Branch,
    has_rows: bool,
    events: Events,
}

/// The first line of the tree.
struct Head {
    sign: Sign,
    state: &'static str,
    progress: (usize, usize),
    age: String,
    text: String,
}

/// The targets of an OperationJob.
#[derive(Template)]
#[template(path = "targets.html")]
struct Targets {
    counts: Vec<Count>,
    all: usize,
    grid: Vec<Sign>,
    /// How many targets a square of the grid has.
    each: usize,
    rows: Vec<Twig>,
    state: String,
    pages: Pages,
}

/// How many targets stand so.
struct Count {
    sign: Sign,
    state: String,
    number: usize,
    query: String,
}

/// What is shown of an object of the command's kinds.
pub(crate) fn object(
    read: Read<'_>,
    events: Result<Vec<Happening>, String>,
    notes: Vec<String>,
    table: &Table,
    now: Timestamp,
) -> Page {
    let Read {
        object,
        related,
        offers,
    } = read;
    let graph = match object {
        Object::JobFlow(flow) => Some(graph(flow, now)),
        Object::OperationJob(_)
        | Object::DaemonJob(_)
        | Object::ReactiveJob(_)
        | Object::CollaSet(_) => None,
    };
    let why = match why(object, related, None, now) {
        Ok(why) => why,
        Err(missing) => missing.to_string(),
    };
    let targets = matches!(object, Object::OperationJob(_))
        .then(|| Targets::of(targets(object, related), table, now));
    let tree = Tree::of(object, related);
    Page {
        offers: Some(offers),
        targets,
        graph,
        facts_title: "Outputs",
        facts: outputs(object),
        ..page(&tree, object.namespace(), &why, events, notes, now)
    }
}

/// What is shown of an ActionPlugin.
pub(crate) fn plugin(
    plugin: &ActionPlugin,
    events: Result<Vec<Happening>, String>,
    notes: Vec<String>,
    now: Timestamp,
) -> Page {
    let why = plugin_why(plugin, now);
    Page {
        facts_title: "Component",
        facts: facts(plugin)
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
        ..page(&plugin_tree(plugin), "", &why, events, notes, now)
    }
}

fn page(
    tree: &Tree,
    namespace: &str,
    why: &str,
    events: Result<Vec<Happening>, String>,
    notes: Vec<String>,
    now: Timestamp,
) -> Page {
    Page {
        notes,
        why: why.lines().map(str::to_owned).collect(),
        head: Head {
            sign: Sign::of(tree.mark),
            state: tree.state,
            progress: tree.progress,
            age: tree.age(now),
            text: tree.text.clone(),
        },
        offers: None,
        facts_title: "",
        facts: Vec::new(),
        targets: None,
        graph: None,
        rows: Branch::of(&tree.rows, namespace, now),
        has_rows: !tree.rows.is_empty(),
        events: Events::of(events, now),
    }
}

/// What the steps of a JobFlow passed on: `step.key`, and the value.
fn outputs(object: &Object) -> Vec<(String, String)> {
    let Object::JobFlow(flow) = object else {
        return Vec::new();
    };
    let steps = flow.status.iter().flat_map(|status| &status.steps);
    let outputs = steps.flat_map(|step| {
        let of_step = step.outputs.iter();
        of_step.map(|(key, value)| (format!("{}.{key}", step.name), value.clone()))
    });
    outputs.collect()
}

fn graph(flow: &JobFlow, now: Timestamp) -> Result<String, String> {
    match pictures(std::slice::from_ref(flow), now) {
        Ok(pictures) => Ok(draw_unstyled(&pictures)),
        Err(errors) => {
            let errors = errors.iter().map(|error| format!("{error:#}"));
            Err(errors.collect::<Vec<_>>().join("; "))
        }
    }
}

impl Targets {
    fn of(mut rows: Vec<Row>, table: &Table, now: Timestamp) -> Self {
        let all = rows.len();
        let mut counts: BTreeMap<(Mark, String), usize> = BTreeMap::new();
        for row in &rows {
            *counts.entry((row.mark, row.state.clone())).or_default() += 1;
        }
        let count = |((mark, state), number): ((Mark, String), usize)| Count {
            sign: Sign::of(mark),
            query: Table {
                state: state.clone(),
                mark: Sign::of(mark).word_of_address().to_owned(),
                page: 1,
            }
            .query(1),
            state,
            number,
        };
        let (grid, each) = grid(&rows);
        rows.retain(|row| {
            let word = Sign::of(row.mark).word_of_address();
            (table.state.is_empty() || row.state == table.state)
                && (table.mark.is_empty() || word == table.mark)
        });
        let query = |page| table.query(page);
        let (rows, pages) = Pages::of(rows, SIZE, table.page, "Pages of targets", query);
        Self {
            counts: counts.into_iter().map(count).collect(),
            all,
            grid,
            each,
            rows: rows.iter().map(|row| Twig::of(row, "", now)).collect(),
            state: table.state.clone(),
            pages,
        }
    }
}

/// The squares of the grid, and how many targets each has. A square shows the target in it that needs attention first.
fn grid(rows: &[Row]) -> (Vec<Sign>, usize) {
    let each = rows.len().div_ceil(SQUARES).max(1);
    let squares = rows.chunks(each);
    let worst = squares.filter_map(|square| square.iter().map(|row| row.mark).min());
    (worst.map(Sign::of).collect(), each)
}
