//! The rules of what an action declares, beyond the limits that the plugin runtime checks.

use crate::{
    action::{LoadError, Registration, Watch},
    selector::Selector,
};

/// The declared kinds, each with its label selector.
///
/// Errors: `BadSelector`; `BadRegistration` for a kind that is declared twice, or as cluster-scoped without being the
/// kind of nodes.
pub fn watches<'a>(
    action: &str,
    registration: &'a Registration,
) -> Result<Vec<(&'a Watch, Selector)>, LoadError> {
    let watches = registration.watches.iter();
    let checked = watches.map(|watch| {
        let selector = selector(action, watch)?;
        check_once(action, registration, watch)?;
        check_scope(action, watch)?;
        Ok((watch, selector))
    });
    checked.collect()
}

fn selector(action: &str, watch: &Watch) -> Result<Selector, LoadError> {
    Selector::parse(&watch.label_selector).map_err(|error| LoadError {
        reason: "BadSelector",
        message: format!(
            "setup of action {action:?} declares a watch of {} with a label selector that can't be used: {error}",
            watch.kind
        ),
        transient: false,
    })
}

/// One watch per kind: two would be two views of it.
fn check_once(action: &str, registration: &Registration, watch: &Watch) -> Result<(), LoadError> {
    let same =
        |other: &&Watch| (&other.api_version, &other.kind) == (&watch.api_version, &watch.kind);
    if registration.watches.iter().filter(same).count() == 1 {
        return Ok(());
    }
    Err(bad(format!(
        "setup of action {action:?} declares {} {} more than once; declare it once with all its mappings",
        watch.api_version, watch.kind
    )))
}

fn check_scope(action: &str, watch: &Watch) -> Result<(), LoadError> {
    let name = (watch.api_version.as_str(), watch.kind.as_str());
    if watch.is_cluster_scoped && name != ("v1", "Node") {
        return Err(bad(format!(
            "setup of action {action:?} declares {} {} as cluster-scoped; of the kinds without a namespace an action can read only nodes (v1 Node)",
            watch.api_version, watch.kind
        )));
    }
    Ok(())
}

fn bad(message: String) -> LoadError {
    LoadError {
        reason: "BadRegistration",
        message,
        transient: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(api_version: &str, kind: &str) -> Watch {
        Watch {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            ..Watch::default()
        }
    }

    #[test]
    fn what_an_action_declares_must_keep_the_rules() {
        let nodes = Watch {
            is_cluster_scoped: true,
            ..watch("v1", "Node")
        };
        let volumes = Watch {
            kind: "PersistentVolume".to_owned(),
            ..nodes.clone()
        };
        let crooked = Watch {
            label_selector: "a in (".to_owned(),
            ..watch("v1", "Pod")
        };
        let pods = || watch("v1", "Pod");
        for (declared, reason) in [
            (vec![], Ok(0)),
            (vec![pods(), watch("v2", "Pod"), nodes], Ok(3)),
            (vec![pods(), pods()], Err("BadRegistration")),
            (vec![volumes], Err("BadRegistration")),
            (vec![crooked], Err("BadSelector")),
        ] {
            let registration = Registration {
                watches: declared,
                ..Registration::default()
            };
            let found = watches("Test", &registration);
            let found = found.map(|found| found.len()).map_err(|error| error.reason);
            assert_eq!(found, reason);
        }
    }
}
