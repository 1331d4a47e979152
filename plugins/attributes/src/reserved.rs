//! The keys that controllers depend on. A controller loses a pod, or takes it for another one, if such a key changes.

/// Keys, and what depends on them.
#[derive(Debug)]
pub struct Reserved {
    keys: Keys,
    /// The subject of a sentence that explains the refusal.
    depends: &'static str,
}

/// Which keys.
#[derive(Debug)]
enum Keys {
    /// This one.
    One(&'static str),
    /// All that begin so.
    Start(&'static str),
    /// All with this domain, or one below it, before the slash.
    Domain(&'static str),
}

impl Reserved {
    const fn one(key: &'static str, depends: &'static str) -> Self {
        let keys = Keys::One(key);
        Self { keys, depends }
    }

    const fn domain(domain: &'static str, depends: &'static str) -> Self {
        let keys = Keys::Domain(domain);
        Self { keys, depends }
    }

    fn has(&self, key: &str) -> bool {
        match self.keys {
            Keys::One(one) => key == one,
            Keys::Start(start) => key.starts_with(start),
            Keys::Domain(domain) => key
                .split_once('/')
                .and_then(|(prefix, _)| prefix.strip_suffix(domain))
                .is_some_and(|below| below.is_empty() || below.ends_with('.')),
        }
    }
}

/// Why a key is refused: what depends on it.
pub(crate) fn depends(reserved: &'static [Reserved], key: &str) -> Option<&'static str> {
    let found = reserved.iter().find(|one| one.has(key))?;
    Some(found.depends)
}

const KUSIONSTACK: Reserved = Reserved::domain(
    "kusionstack.io",
    "the PodOpsLifecycle and CollaSets operate a pod by it",
);
const OPERON: Reserved = Reserved::domain("operon.dev", "Operon remembers its own work by it");
const BATCH: Reserved = Reserved::domain("batch.kubernetes.io", "a Job finds its pods by it");

/// Those of labels.
pub(crate) const LABELS: &[Reserved] = &[
    Reserved::one(
        "pod-template-hash",
        "a ReplicaSet of a Deployment selects its pods by it",
    ),
    Reserved::one(
        "controller-revision-hash",
        "StatefulSets, DaemonSets and CollaSets read the revision of a pod from it",
    ),
    Reserved::one(
        "pod-template-generation",
        "a DaemonSet reads the revision of a pod from it",
    ),
    Reserved::one(
        "statefulset.kubernetes.io/pod-name",
        "a StatefulSet and the Services of its pods select a pod by it",
    ),
    Reserved::one("controller-uid", "a Job selects its pods by it"),
    Reserved::one("job-name", "a Job selects its pods by it"),
    BATCH,
    KUSIONSTACK,
    OPERON,
];

/// Those of annotations.
pub(crate) const ANNOTATIONS: &[Reserved] = &[
    Reserved {
        keys: Keys::Start("kubernetes.io/config."),
        depends: "the kubelet finds its static pods by it",
    },
    BATCH,
    KUSIONSTACK,
    OPERON,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_has_the_domains_below_it_and_no_others() {
        for (key, is_reserved) in [
            ("pod-template-hash", true),
            ("example.com/pod-template-hash", false),
            ("kusionstack.io/control", true),
            ("collaset.kusionstack.io/to-delete", true),
            ("operating.podopslifecycle.kusionstack.io/x", true),
            ("notkusionstack.io/control", false),
            ("kusionstack.io", false),
            ("kusionstack.io.example.com/control", false),
            ("replace.operon.dev/job", true),
            ("batch.kubernetes.io/controller-uid", true),
            ("app.kubernetes.io/name", false),
            ("app", false),
        ] {
            assert_eq!(depends(LABELS, key).is_some(), is_reserved, "{key}");
        }
    }

    #[test]
    fn annotations_have_reserved_keys_of_their_own() {
        for (key, is_reserved) in [
            ("kubernetes.io/config.mirror", true),
            ("kubernetes.io/description", false),
            ("batch.kubernetes.io/job-completion-index", true),
            (
                "podtransitionrule.kusionstack.io/skip-rule-conditions",
                true,
            ),
            ("operon.dev/restarts", true),
            ("pod-template-hash", false),
            ("example.com/owner", false),
        ] {
            assert_eq!(depends(ANNOTATIONS, key).is_some(), is_reserved, "{key}");
        }
    }
}
