//! The audit log: a line for each effect on an object, when its outcome is known. Its target is its own, so that the
//! filter of the log can switch it off, and whoever collects the log can route it. `docs/security.md` has the fields.

use std::borrow::Cow;

use kube::Resource;
use operon_api::OperationJob;
use operon_core::action::{Effect, JobView};
use tracing::Level;

use super::{Performed, Performer, reference};
use crate::error::Error;

/// The target of the lines.
pub const TARGET: &str = "operon::audit";

/// The object that an effect is performed for: an OperationJob, or an object that owns what is written.
#[derive(Clone, Debug)]
pub struct OnBehalf<'a> {
    kind: Cow<'a, str>,
    /// Its namespace, and that of everything that is written for it.
    pub(crate) namespace: &'a str,
    name: &'a str,
    uid: &'a str,
}

impl<'a> OnBehalf<'a> {
    /// For this object.
    pub fn of<K: Resource<DynamicType = ()>>(object: &'a K) -> Self {
        let metadata = object.meta();
        Self {
            kind: K::kind(&()),
            namespace: metadata.namespace.as_deref().unwrap_or_default(),
            name: metadata.name.as_deref().unwrap_or_default(),
            uid: metadata.uid.as_deref().unwrap_or_default(),
        }
    }

    /// For this OperationJob.
    pub(crate) fn of_job(job: &'a JobView) -> Self {
        Self {
            kind: OperationJob::kind(&()),
            namespace: &job.namespace,
            name: &job.name,
            uid: &job.uid,
        }
    }
}

/// Who performs effects, as the audit log names it.
#[derive(Debug)]
pub(super) struct Actor {
    /// The user that the API server sees.
    pub(super) account: String,
    /// The ActionPlugin, and the digest of its component; none of a controller.
    pub(super) plugin: Option<(String, String)>,
}

/// How an effect ended, as far as the API server is concerned.
pub(super) enum Outcome<'a> {
    /// The host refused it, and sent nothing.
    Refused(&'a Error),
    /// It was sent.
    Sent(&'a Result<Performed, Error>),
}

/// The object that an effect is about.
struct Object {
    api_version: String,
    kind: String,
    name: String,
    uid: Option<String>,
}

impl Object {
    /// None for an Event, and for a body that names no object: nothing is sent for it.
    fn of(effect: &Effect) -> Option<Self> {
        let (object, uid) = match effect {
            Effect::Patch { object, uid, .. } | Effect::Delete { object, uid, .. } => {
                (object.clone(), uid.clone())
            }
            Effect::Apply(body) | Effect::Create(body) => {
                let uid = body["metadata"]["uid"].as_str().map(str::to_owned);
                (reference(body)?, uid)
            }
            Effect::Evict { pod, uid, .. } => {
                return Some(Self {
                    api_version: "v1".to_owned(),
                    kind: "Pod".to_owned(),
                    name: pod.clone(),
                    uid: uid.clone(),
                });
            }
            Effect::Event { .. } => return None,
        };
        Some(Self {
            api_version: object.api_version,
            kind: object.kind,
            name: object.name,
            uid,
        })
    }
}

impl Performer {
    /// Writes the line of an effect.
    pub(super) fn note(&self, behalf: &OnBehalf<'_>, effect: &Effect, outcome: &Outcome<'_>) {
        if !tracing::enabled!(target: TARGET, Level::INFO) {
            return;
        }
        let Some(object) = Object::of(effect) else {
            return;
        };
        let (result, error, written) = match outcome {
            Outcome::Refused(error) => ("refused", Some(*error), None),
            Outcome::Sent(Err(error)) => ("error", Some(error), None),
            Outcome::Sent(Ok(Performed::Object(written))) => ("ok", None, Some(written)),
            Outcome::Sent(Ok(Performed::Nothing)) => ("ok", None, None),
        };
        let written = written.and_then(|written| written.metadata.uid.as_deref());
        let subresource = match effect {
            Effect::Patch { subresource, .. } => subresource.as_deref(),
            Effect::Apply(_)
            | Effect::Create(_)
            | Effect::Delete { .. }
            | Effect::Evict { .. }
            | Effect::Event { .. } => None,
        };
        let plugin = self.actor.plugin.as_ref();
        tracing::info!(
            target: TARGET,
            kind = &*behalf.kind,
            namespace = behalf.namespace,
            name = behalf.name,
            uid = behalf.uid,
            plugin = plugin.map(|(plugin, _)| plugin.as_str()),
            digest = plugin.map(|(_, digest)| digest.as_str()),
            account = self.actor.account,
            verb = effect.verb().as_str(),
            subresource,
            dry_run = self.dry_run,
            object_api_version = object.api_version,
            object_kind = object.kind,
            object_namespace = behalf.namespace,
            object_name = object.name,
            object_uid = written.or(object.uid.as_deref()),
            result,
            reason = error.map(Error::reason),
            "effect"
        );
    }
}

#[cfg(test)]
impl<'a> OnBehalf<'a> {
    /// For a job of this namespace.
    pub(crate) fn any_in(namespace: &'a str) -> Self {
        Self {
            kind: OperationJob::kind(&()),
            namespace,
            name: "job",
            uid: "u-job",
        }
    }
}

#[cfg(test)]
mod tests;
