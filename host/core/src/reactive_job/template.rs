//! The hashes of a template, and whether a Job was made from it.

use operon_api::{ReactiveJob, embedded::JobTemplateSpec};
use serde_json::{Value, json};

use super::sap_hash::{SapHashes, sap_hashes, sha256};

/// The hashes of `spec.jobTemplate`, each of 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hashes {
    /// The whole.
    whole: SapHashes,
    /// `spec.template` alone.
    pod: String,
}

impl Hashes {
    /// The hashes of this object's template.
    pub fn of(object: &ReactiveJob) -> Self {
        let JobTemplateSpec(template) = &object.spec.job_template;
        let pod = object.spec.job_template.at(&["spec", "template"]);
        Self {
            whole: hashes(&json!(template)),
            pod: hashes(&json!({"spec": {"template": pod}})).current,
        }
    }

    /// The hash of the whole template, as it is written today.
    pub fn whole(&self) -> &str {
        &self.whole.current
    }

    /// The hash of `spec.template`.
    pub fn pod(&self) -> &str {
        &self.pod
    }

    /// Whether this is a hash of the whole template, as it is written today or was once.
    pub fn is_whole(&self, hash: &str) -> bool {
        hash == self.whole.current || hash == self.whole.before_0_1_37
    }
}

/// The hashes that SAP's operator would write. What it could not read, no API server takes as a Job
/// either; it has a hash nevertheless, so that it is seen to change.
fn hashes(template: &Value) -> SapHashes {
    sap_hashes(template).unwrap_or_else(|| SapHashes {
        current: sha256(&template.to_string()),
        before_0_1_37: String::new(),
    })
}
