//! The hashes of a template, and whether a Job was created from it. The stored form of a template counts;
//! for Jobs without our hash, the hash of SAP's operator decides.

use operon_api::{ReactiveJob, embedded::JobTemplateSpec};
use serde_json::{Value, json};

use super::sap_hash::{SapHashes, sap_hashes, sha256};
use crate::jobs::stored::stored;

/// The hashes of `spec.jobTemplate`, each of 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hashes {
    /// The whole, as it is written.
    whole: SapHashes,
    /// The whole, as it is stored.
    stored: String,
    /// `spec.template` alone, as it is stored.
    pod: String,
}

impl Hashes {
    /// The hashes of this object's template.
    pub fn of(object: &ReactiveJob) -> Self {
        let JobTemplateSpec(template) = &object.spec.job_template;
        let template = json!(template);
        let stored = stored(&template);
        let pod = stored.pointer("/spec/template");
        Self {
            whole: hashes(&template),
            pod: hashes(&json!({"spec": {"template": pod}})).current,
            stored: hashes(&stored).current,
        }
    }

    /// The hash of the whole template, as SAP's operator writes it today.
    pub fn whole(&self) -> &str {
        &self.whole.current
    }

    /// The hash of what an API server would store of the whole template.
    pub fn stored(&self) -> &str {
        &self.stored
    }

    /// The hash of `spec.template`.
    pub fn pod(&self) -> &str {
        &self.pod
    }

    /// Whether this is a hash of the whole template: ours, or SAP's of today or of before.
    pub fn is_whole(&self, hash: &str) -> bool {
        let SapHashes {
            current,
            before_0_1_37,
        } = &self.whole;
        hash == self.stored || hash == current || hash == before_0_1_37
    }
}

/// The hashes that SAP's operator would write. A template that SAP's operator could not read is no valid
/// Job either; it has a hash nevertheless, so that its changes are noticed.
fn hashes(template: &Value) -> SapHashes {
    sap_hashes(template).unwrap_or_else(|| SapHashes {
        current: sha256(&template.to_string()),
        before_0_1_37: String::new(),
    })
}
