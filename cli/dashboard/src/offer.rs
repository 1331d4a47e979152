//! The verbs on the page of an object: those that fit it, and why one of them is disabled.

use std::collections::HashMap;

use askama::Template;
use futures::future::join_all;
use k8s_openapi::jiff::Timestamp;
use operon_cli_cluster::Access;
use operon_cli_model::{Effect, Object, Refusal, Right, effect};

use crate::{
    intent::{Ask, Intent},
    part::Source,
};

/// The verbs of an object.
#[derive(Template)]
#[template(path = "verbs.html")]
pub(crate) struct Offers {
    offers: Vec<Offer>,
}

struct Offer {
    id: String,
    label: &'static str,
    /// The page that asks for confirmation.
    address: String,
    /// What it does.
    says: String,
    /// Why it cannot be chosen; empty if it can.
    disabled: String,
}

impl Source {
    /// The verbs that fit the object.
    pub(crate) async fn offers(&self, object: &Object, now: Timestamp) -> Offers {
        let fitting = fitting(object, now);
        let mut refusals = HashMap::new();
        for (_, effect) in &fitting {
            if let Ok(effect) = effect {
                refusals.insert(effect.right(), None);
            }
        }
        let rights: Vec<Right> = refusals.keys().copied().collect();
        let asked = rights
            .into_iter()
            .map(|right| async move { (right, self.refusal(object, right).await) });
        refusals.extend(join_all(asked).await);
        let offer = |(ask, effect)| Offer::of(object, ask, effect, &refusals);
        Offers {
            offers: fitting.into_iter().map(offer).collect(),
        }
    }

    /// Why the user may not do this to the object.
    pub(crate) async fn refusal(&self, object: &Object, right: Right) -> Option<String> {
        let access = Access {
            right,
            kind: object.kind(),
            namespace: object.namespace().to_owned(),
            name: match right {
                Right::Patch | Right::Delete => Some(object.name().to_owned()),
                Right::Create => None,
            },
        };
        self.rights.refusal(&self.cluster, access).await
    }
}

/// The verbs that have an effect on the object, or would have one later.
fn fitting(object: &Object, now: Timestamp) -> Vec<(Ask, Result<Effect, Refusal>)> {
    let effects = Ask::OFFERED.map(|ask| (ask, effect(object, ask.verb(now))));
    let fits = |effect: &Result<Effect, Refusal>| match effect {
        Ok(_) => true,
        Err(refusal) => refusal.is_for_now(),
    };
    let effects = effects.into_iter();
    effects.filter(|(_, effect)| fits(effect)).collect()
}

impl Offer {
    fn of(
        object: &Object,
        ask: Ask,
        effect: Result<Effect, Refusal>,
        refusals: &HashMap<Right, Option<String>>,
    ) -> Self {
        let intent = Intent {
            kind: object.kind(),
            namespace: object.namespace().to_owned(),
            name: object.name().to_owned(),
            ask,
        };
        let (says, disabled) = match effect {
            Ok(effect) => {
                let refusal = refusals.get(&effect.right()).cloned().flatten();
                (effect.says().to_owned(), refusal.unwrap_or_default())
            }
            Err(refusal) => (String::new(), refusal.to_string()),
        };
        Self {
            id: ask.label().to_lowercase().replace(' ', "-"),
            label: ask.label(),
            address: intent.address(),
            says,
            disabled,
        }
    }
}
