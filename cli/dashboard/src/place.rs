//! The places of the page: what an address shows. Pure.

use std::fmt;

use form_urlencoded::{Serializer, parse};
use operon_cli_model::{Kind, UnknownKind, is_name};

use crate::shown::What;

/// What an address shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Overview(Filter),
    Object {
        kind: Kind,
        namespace: String,
        name: String,
        table: Table,
    },
    Plugin {
        name: String,
    },
    /// The log of a pod.
    Log {
        namespace: String,
        pod: String,
    },
}

/// Which objects the overview lists. Empty fields allow all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    /// The plural of a kind.
    pub(crate) kind: String,
    pub(crate) namespace: String,
    /// `unfinished`, `failed` or `succeeded`.
    pub(crate) state: String,
    /// What is somewhere in the name, the state or the reason.
    pub(crate) text: String,
    /// Counted from 1.
    pub(crate) page: usize,
}

/// Which targets of an OperationJob the table lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Table {
    /// Their state; all if empty.
    pub(crate) state: String,
    /// Their mark, as [`Sign::word_of_address`](crate::fragment::Sign::word_of_address) has it; all if empty.
    pub(crate) mark: String,
    /// Counted from 1.
    pub(crate) page: usize,
}

/// An address that shows nothing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Nowhere {
    Kind(UnknownKind),
    /// What is no number of targets or pods.
    Number(String),
    Path,
}

impl fmt::Display for Nowhere {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind(unknown) => write!(out, "{unknown}"),
            Self::Number(text) => write!(out, "{text:?} is no number: write one, 0 or more"),
            Self::Path => write!(
                out,
                "this page has no such address: an object is at /KIND/NAMESPACE/NAME, an ActionPlugin at /actionplugins/NAME"
            ),
        }
    }
}

impl Place {
    /// The place of a path with its query.
    pub(crate) fn parse(path: &str, query: Option<&str>) -> Result<Self, Nowhere> {
        let query = query.unwrap_or_default();
        let words: Vec<_> = path.split('/').filter(|word| !word.is_empty()).collect();
        match words.as_slice() {
            [] => Ok(Self::Overview(Filter {
                kind: field(query, "kind"),
                namespace: field(query, "namespace"),
                state: field(query, "state"),
                text: field(query, "text"),
                page: page(query),
            })),
            ["actionplugins" | "actionplugin" | "ap", name] if is_name(name) => Ok(Self::Plugin {
                name: (*name).to_owned(),
            }),
            ["pods", namespace, pod] if is_name(namespace) && is_name(pod) => Ok(Self::Log {
                namespace: (*namespace).to_owned(),
                pod: (*pod).to_owned(),
            }),
            [kind, namespace, name] => {
                let kind = Kind::parse(kind).map_err(Nowhere::Kind)?;
                if !is_name(namespace) || !is_name(name) {
                    return Err(Nowhere::Path);
                }
                Ok(Self::Object {
                    kind,
                    namespace: (*namespace).to_owned(),
                    name: (*name).to_owned(),
                    table: Table {
                        state: field(query, "state"),
                        mark: field(query, "mark"),
                        page: page(query),
                    },
                })
            }
            _ => Err(Nowhere::Path),
        }
    }
}

/// The address of an object.
pub(crate) fn address(what: What, namespace: &str, name: &str) -> String {
    match what {
        What::Ours(_) => format!("/{}/{namespace}/{name}", what.plural()),
        What::Plugin => format!("/{}/{name}", what.plural()),
    }
}

/// The address of a pod's log.
pub(crate) fn log_address(namespace: &str, pod: &str) -> String {
    format!("/pods/{namespace}/{pod}")
}

impl Filter {
    /// The query of another page of the same list.
    pub(crate) fn query(&self, page: usize) -> String {
        let fields = [
            ("kind", &self.kind),
            ("namespace", &self.namespace),
            ("state", &self.state),
            ("text", &self.text),
        ];
        query(fields.into_iter(), page)
    }
}

impl Table {
    /// The query of another page of the same table.
    pub(crate) fn query(&self, page: usize) -> String {
        let fields = [("state", &self.state), ("mark", &self.mark)];
        query(fields.into_iter(), page)
    }
}

fn query<'a>(fields: impl Iterator<Item = (&'a str, &'a String)>, page: usize) -> String {
    let mut query = Serializer::new(String::new());
    query.extend_pairs(fields.filter(|(_, value)| !value.is_empty()));
    if page > 1 {
        query.append_pair("page", &page.to_string());
    }
    format!("?{}", query.finish())
}

/// The last value of a field; empty if there is none.
pub(crate) fn field(query: &str, name: &str) -> String {
    let values = parse(query.as_bytes()).filter(|(key, _)| key == name);
    values
        .last()
        .map_or(String::new(), |(_, value)| value.trim().to_owned())
}

fn page(query: &str) -> usize {
    field(query, "page").parse().unwrap_or(1).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_shows_one_place() {
        let object = |state: &str, page| Place::Object {
            kind: Kind::OperationJob,
            namespace: "shop".to_owned(),
            name: "web.1".to_owned(),
            table: Table {
                state: state.to_owned(),
                mark: String::new(),
                page,
            },
        };
        let filter = Filter {
            kind: "jobflows".to_owned(),
            namespace: "shop".to_owned(),
            text: "a b&c".to_owned(),
            page: 2,
            ..Filter::default()
        };
        let table = [
            (
                "/",
                "",
                Ok(Place::Overview(Filter {
                    page: 1,
                    ..Filter::default()
                })),
            ),
            (
                "/",
                "kind=jobflows&namespace=+shop&text=a+b%26c&page=2&x=y",
                Ok(Place::Overview(filter.clone())),
            ),
            ("/operationjobs/shop/web.1", "", Ok(object("", 1))),
            (
                "/opj/shop/web.1/",
                "state=Failed&page=7",
                Ok(object("Failed", 7)),
            ),
            ("/opj/shop/web.1", "page=-1", Ok(object("", 1))),
            (
                "/actionplugins/restart",
                "",
                Ok(Place::Plugin {
                    name: "restart".to_owned(),
                }),
            ),
            (
                "/pods/shop/web-0",
                "",
                Ok(Place::Log {
                    namespace: "shop".to_owned(),
                    pod: "web-0".to_owned(),
                }),
            ),
            ("/opj/shop", "", Err(Nowhere::Path)),
            ("/opj/shop/a%2fb", "", Err(Nowhere::Path)),
            ("/opj/shop/web/x", "", Err(Nowhere::Path)),
            ("/actionplugins/a%20b", "", Err(Nowhere::Path)),
        ];
        for (path, query, expected) in table {
            assert_eq!(Place::parse(path, Some(query)), expected, "{path} {query}");
        }
        let unknown =
            Place::parse("/operationjbos/shop/web", None).map_err(|error| error.to_string());
        assert_eq!(
            unknown.expect_err("no kind"),
            "unknown kind \"operationjbos\"; did you mean operationjob?"
        );
        assert_eq!(
            filter.query(3),
            "?kind=jobflows&namespace=shop&text=a+b%26c&page=3"
        );
        assert_eq!(Filter::default().query(1), "?");
    }
}
