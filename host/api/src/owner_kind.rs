//! The kinds of controllers by which `spec.targetSelector.owner` of an OperationJob selects pods.

/// A kind of controllers that have pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnerKind {
    /// Its word in `spec.targetSelector.owner`: `deployment/NAME`.
    pub word: &'static str,
    /// The short name that kubectl has for it, if any.
    pub short: Option<&'static str>,
    /// Its API group.
    pub group: &'static str,
    /// The version of the group that has it.
    pub version: &'static str,
    /// Its kind.
    pub kind: &'static str,
}

/// Its pods are those of its ReplicaSets.
pub const DEPLOYMENT: OwnerKind = OwnerKind {
    word: "deployment",
    short: Some("deploy"),
    group: "apps",
    version: "v1",
    kind: "Deployment",
};

/// All of them.
pub const ALL: [OwnerKind; 6] = [
    DEPLOYMENT,
    OwnerKind {
        word: "replicaset",
        short: Some("rs"),
        kind: "ReplicaSet",
        ..DEPLOYMENT
    },
    OwnerKind {
        word: "statefulset",
        short: Some("sts"),
        kind: "StatefulSet",
        ..DEPLOYMENT
    },
    OwnerKind {
        word: "daemonset",
        short: Some("ds"),
        kind: "DaemonSet",
        ..DEPLOYMENT
    },
    OwnerKind {
        word: "job",
        short: None,
        group: "batch",
        kind: "Job",
        ..DEPLOYMENT
    },
    OwnerKind {
        word: "collaset",
        short: Some("cls"),
        group: "apps.kusionstack.io",
        version: "v1alpha1",
        kind: "CollaSet",
    },
];

impl OwnerKind {
    /// The kind that `spec.targetSelector.owner` calls so.
    pub fn of_word(word: &str) -> Option<Self> {
        ALL.into_iter().find(|kind| kind.word == word)
    }

    /// The words that kubectl has for the kind: its name, its plural and its short name.
    pub fn words(self) -> impl Iterator<Item = String> {
        let plural = format!("{}s", self.word);
        [self.word.to_owned(), plural]
            .into_iter()
            .chain(self.short.map(str::to_owned))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OperationJob;
    use kube::CustomResourceExt as _;

    #[test]
    fn the_schema_accepts_exactly_these_kinds() {
        let words: Vec<_> = ALL.iter().map(|kind| kind.word).collect();
        let schema = serde_json::to_string(&OperationJob::crd()).expect("a CRD");
        assert!(schema.contains(&format!("^({})/", words.join("|"))));
    }
}
