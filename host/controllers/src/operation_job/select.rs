//! The targets of a job with `spec.targetSelector`. Which pods these are is decided in
//! `operon_core::operation_job::selection`.

use std::collections::BTreeSet;

use k8s_openapi::api::{apps::v1::ReplicaSet, core::v1::Pod};
use kube::{
    Api, ResourceExt,
    api::{ListParams, PartialObjectMeta},
    core::SelectorExt as _,
    runtime::reflector::ObjectRef,
};
use operon_api::{OperationJob, keys, operation_job::TargetSelector};
use operon_core::{
    action::Failure,
    operation_job::{
        selection::{self, Candidates, Unknown},
        sooner,
    },
};

use super::OperationJobs;
use crate::{apply::within_limit, error::Error, run::Next, status::whole_seconds};

impl OperationJobs {
    /// Selects the targets of a job, and writes them into its status before the first of them starts.
    pub(super) async fn select(
        &self,
        api: &Api<OperationJob>,
        job: &OperationJob,
        selector: &TargetSelector,
    ) -> Result<Next, Error> {
        let candidates = self.candidates(job, selector).await;
        let now = whole_seconds((self.clock)());
        let selection = selection::select(job, selector, &candidates, now);
        let written = self
            .status
            .write(
                api,
                keys::OPERATION_JOB_MANAGER,
                job,
                job.resource_version().as_deref(),
                job.status.as_ref(),
                &selection.status,
            )
            .await?;
        let wait = self.pass_on(job, written, selection.event.as_slice()).await;
        Ok(Next {
            requeue_after: sooner(selection.requeue_after, wait),
            retry: false,
        })
    }

    /// The pods of the job's namespace. A cache that is behind the API server is no base for a choice that is made
    /// once.
    async fn candidates(
        &self,
        job: &OperationJob,
        selector: &TargetSelector,
    ) -> Result<Candidates, Unknown> {
        let namespace = job.metadata.namespace.as_deref().unwrap_or_default();
        if let Some(stale) = self.pods.stale(namespace) {
            let message =
                format!("the pods that spec.targetSelector selects are not known: {stale}");
            return Err(Unknown::Unread(Failure::new("CacheStale", message)));
        }
        let replica_sets = match selection::deployment(selector) {
            Some(name) => self.replica_sets(job, name).await.map_err(|error| {
                let message = format!(
                    "the ReplicaSets of deployment/{name} are not known: {}",
                    error.chain()
                );
                Unknown::Unread(Failure::new(error.reason(), message))
            })?,
            None => BTreeSet::new(),
        };
        let unseen = self.unseen(job, selector, &replica_sets).await;
        let unseen = unseen.map_err(|error| {
            let message = format!(
                "the pods that spec.targetSelector selects are not known: {}",
                error.chain()
            );
            Unknown::Unread(Failure::new(error.reason(), message))
        })?;
        if let Some(pod) = unseen {
            let message = format!("waiting until the cache of pods has pod {pod:?} as it is");
            return Err(Unknown::Behind(Failure::new("CacheBehind", message)));
        }
        let namespace = job.metadata.namespace.as_deref();
        Ok(Candidates {
            pods: self.pods.store.within(namespace),
            replica_sets,
        })
    }

    /// A pod that may be selected, and that the cache does not have yet, or not with these labels or on this node.
    async fn unseen(
        &self,
        job: &OperationJob,
        selector: &TargetSelector,
        replica_sets: &BTreeSet<String>,
    ) -> Result<Option<String>, Error> {
        let namespace = job.namespace().unwrap_or_default();
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
        let mut params = ListParams::default();
        let labels = selection::labels(selector);
        if let Some(labels) = &labels {
            params = params.labels_from(labels);
        }
        if let Some(node) = &selector.node_name {
            params = params.fields(&format!("spec.nodeName={node}"));
        }
        let object = || format!("Pods of namespace {namespace:?}");
        let found = within_limit("list", object, api.list_metadata(&params)).await?;
        let is_unseen = |found: &PartialObjectMeta<Pod>| {
            let name = ObjectRef::new(&found.name_any()).within(&namespace);
            let known = self.pods.store.get(&name);
            found.metadata.deletion_timestamp.is_none()
                && selection::is_owned(selector, replica_sets, found.owner_references())
                && !known.is_some_and(|known| {
                    known.metadata.uid == found.metadata.uid
                        && labels
                            .as_ref()
                            .is_none_or(|labels| labels.matches(known.labels()))
                        && selection::is_placed(selector, &known)
                })
        };
        Ok(found
            .items
            .iter()
            .find(|found| is_unseen(found))
            .map(ResourceExt::name_any))
    }

    /// The uids of the ReplicaSets of a Deployment.
    async fn replica_sets(
        &self,
        job: &OperationJob,
        deployment: &str,
    ) -> Result<BTreeSet<String>, Error> {
        let namespace = job.namespace().unwrap_or_default();
        let api: Api<ReplicaSet> = Api::namespaced(self.client.clone(), &namespace);
        let object = || format!("ReplicaSets of namespace {namespace:?}");
        let all = ListParams::default();
        let found = within_limit("list", object, api.list_metadata(&all)).await?;
        let own = found.items.into_iter();
        let own =
            own.filter(|found| selection::is_of_deployment(found.owner_references(), deployment));
        Ok(own.filter_map(|found| found.uid()).collect())
    }
}
