//! What a user wants of an object: the address of the page that asks for confirmation, and the words for it. Pure.

use k8s_openapi::jiff::Timestamp;
use operon_cli_model::{Kind, Promotion, Verb, is_name};

use crate::{
    place::{Nowhere, address, field},
    shown::What,
};

/// A verb, and the object that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Intent {
    pub(crate) kind: Kind,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) ask: Ask,
}

/// A verb as an address has it: without the moment at which it is confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    Promote(Promotion),
    Pause,
    Resume,
    Retry,
    Rerun,
    Cancel,
}

impl Ask {
    /// What the page of an object offers, in its order. A number of targets or pods is chosen on the page of the first one.
    pub(crate) const OFFERED: [Self; 7] = [
        Self::Promote(Promotion::Next),
        Self::Promote(Promotion::All),
        Self::Resume,
        Self::Pause,
        Self::Retry,
        Self::Rerun,
        Self::Cancel,
    ];

    /// The verb, as of the moment of the question.
    pub(crate) fn verb(self, now: Timestamp) -> Verb {
        match self {
            Self::Promote(promotion) => Verb::Promote(promotion),
            Self::Pause => Verb::Pause,
            Self::Resume => Verb::Resume,
            Self::Retry => Verb::Retry(now),
            Self::Rerun => Verb::Rerun(now),
            Self::Cancel => Verb::Cancel,
        }
    }

    /// How the page calls it.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Promote(Promotion::All) => "Promote all",
            Self::Promote(Promotion::Next | Promotion::To(_)) => "Promote",
            Self::Pause => "Pause",
            Self::Resume => "Resume",
            Self::Retry => "Retry",
            Self::Rerun => "Rerun",
            Self::Cancel => "Cancel",
        }
    }

    /// The last word of the address.
    fn word(self) -> &'static str {
        match self {
            Self::Promote(_) => "promote",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Retry => "retry",
            Self::Rerun => "rerun",
            Self::Cancel => "cancel",
        }
    }

    fn query(self) -> String {
        match self {
            Self::Promote(Promotion::All) => "?all=true".to_owned(),
            Self::Promote(Promotion::To(number)) => format!("?to={number}"),
            Self::Promote(Promotion::Next)
            | Self::Pause
            | Self::Resume
            | Self::Retry
            | Self::Rerun
            | Self::Cancel => String::new(),
        }
    }

    /// The verb of this word; none if it is no verb.
    fn parse(word: &str, query: &str) -> Option<Result<Self, Nowhere>> {
        Some(match word {
            "promote" => promotion(query).map(Self::Promote),
            "pause" => Ok(Self::Pause),
            "resume" => Ok(Self::Resume),
            "retry" => Ok(Self::Retry),
            "rerun" => Ok(Self::Rerun),
            "cancel" => Ok(Self::Cancel),
            _ => return None,
        })
    }
}

fn promotion(query: &str) -> Result<Promotion, Nowhere> {
    let (all, to) = (field(query, "all"), field(query, "to"));
    match (all.as_str(), to.as_str()) {
        ("true", "") => return Ok(Promotion::All),
        ("", "") => return Ok(Promotion::Next),
        ("", _) => {}
        (_, _) => return Err(Nowhere::Path),
    }
    match to.parse().ok().filter(|number| *number >= 0) {
        Some(number) => Ok(Promotion::To(number)),
        None => Err(Nowhere::Number(to)),
    }
}

impl Intent {
    /// The intent of a path with its query; none if it is no address of a verb.
    pub(crate) fn parse(path: &str, query: Option<&str>) -> Option<Result<Self, Nowhere>> {
        let words: Vec<_> = path.split('/').filter(|word| !word.is_empty()).collect();
        let [kind, namespace, name, verb] = words.as_slice() else {
            return None;
        };
        let ask = Ask::parse(verb, query.unwrap_or_default())?;
        if !is_name(namespace) || !is_name(name) {
            return None;
        }
        let kind = match Kind::parse(kind) {
            Ok(kind) => kind,
            Err(unknown) => return Some(Err(Nowhere::Kind(unknown))),
        };
        Some(ask.map(|ask| Self {
            kind,
            namespace: (*namespace).to_owned(),
            name: (*name).to_owned(),
            ask,
        }))
    }

    /// The address of the page that asks for confirmation.
    pub(crate) fn address(&self) -> String {
        format!("{}{}", self.path(), self.ask.query())
    }

    /// The same without its query.
    pub(crate) fn path(&self) -> String {
        format!("{}/{}", self.object(), self.ask.word())
    }

    /// The address of the object.
    pub(crate) fn object(&self) -> String {
        address(What::Ours(self.kind), &self.namespace, &self.name)
    }

    /// `Promote OperationJob shop/web`.
    pub(crate) fn title(&self) -> String {
        let (label, kind) = (self.ask.label(), self.kind.name());
        format!("{label} {kind} {}/{}", self.namespace, self.name)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn intent(ask: Ask) -> Intent {
        Intent {
            kind: Kind::OperationJob,
            namespace: "shop".to_owned(),
            name: "web.1".to_owned(),
            ask,
        }
    }

    #[test]
    fn each_verb_has_an_address_that_is_read_back() {
        let numbered = [
            Ask::Promote(Promotion::To(0)),
            Ask::Promote(Promotion::To(7)),
        ];
        for ask in Ask::OFFERED.into_iter().chain(numbered) {
            let address = intent(ask).address();
            let uri: axum::http::Uri = address.parse().expect("an address");
            let read = Intent::parse(uri.path(), uri.query());
            assert_eq!(read, Some(Ok(intent(ask))), "{address}");
        }
        let all = intent(Ask::Promote(Promotion::All)).address();
        assert_eq!(all, "/operationjobs/shop/web.1/promote?all=true");
        // The form of the page, with an empty field too.
        let next = Intent::parse("/opj/shop/web.1/promote", Some("to="));
        assert_eq!(next, Some(Ok(intent(Ask::Promote(Promotion::Next)))));
    }

    #[test]
    fn what_is_no_verb_of_an_object_has_no_intent() {
        for path in [
            "/",
            "/opj/shop/web",
            "/opj/shop/web/delete",
            "/opj/shop/web/pause/x",
            "/opj/shop/a%2fb/pause",
        ] {
            assert_eq!(Intent::parse(path, None), None, "{path}");
        }
        for (path, query, expected) in [
            ("/opj/shop/web/promote", "all=false", "no such address"),
            ("/opj/shop/web/promote", "all=true&to=3", "no such address"),
            ("/opj/shop/web/promote", "to=-1", "\"-1\" is no number"),
            ("/opj/shop/web/promote", "to=<b>", "\"<b>\" is no number"),
            (
                "/operationjbos/shop/web/pause",
                "",
                "did you mean operationjob?",
            ),
        ] {
            let read = Intent::parse(path, Some(query)).expect("a verb");
            let text = read.expect_err("an error").to_string();
            assert!(text.contains(expected), "{text}");
        }
    }
}
