//! Small stories, one of each kind. The runner makes the faults, and compares what each step leads to.

use anyhow::{Result, ensure};
use clap::ValueEnum;
use operon_api::{
    CollaSet, DaemonJob, JobFlow, JobTemplate, OperationJob, ReactiveJob, daemon_job::FlowState,
    reactive_job::State as ReactiveState,
};
use operon_e2e::{
    colla_set::{self, colla_set},
    daemon_job::Daemon,
    job::Job,
    job_flow::{self, Flow, Step},
    pods::names,
    reactive_job::Reactive,
    workload::{Deployment, pod_spec},
    world::World,
};
use serde_json::json;

use crate::state::{JOBS, Kind, PODS};

/// A story in steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Scenario {
    /// An OperationJob replaces two pods of a Deployment, and is deleted
    #[value(name = "operationjob")]
    OperationJob,
    /// A ReactiveJob is made, changed and deleted
    #[value(name = "reactivejob")]
    ReactiveJob,
    /// A JobFlow of three steps, one of which is repeated
    #[value(name = "jobflow")]
    JobFlow,
    /// A DaemonJob on three nodes, two at a time
    #[value(name = "daemonjob")]
    DaemonJob,
    /// A CollaSet is made, updated, scaled to none and deleted
    #[value(name = "collaset")]
    CollaSet,
}

const KUSION: &str = "apps.kusionstack.io";
const PRACTICE: &str = "api.practice.com";

impl Scenario {
    /// How it is given on the command line.
    pub(crate) fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// The kinds that it is about: its end is what there is of these, and these are what the host watches.
    pub(crate) fn kinds(self) -> &'static [Kind] {
        match self {
            Self::OperationJob => &[[KUSION, "v1alpha1", "OperationJob", "operationjobs"], PODS],
            Self::ReactiveJob => &[
                [
                    "batch.cs.sap.com",
                    "v1alpha1",
                    "ReactiveJob",
                    "reactivejobs",
                ],
                JOBS,
                PODS,
            ],
            Self::JobFlow => &[[PRACTICE, "v1alpha1", "JobFlow", "jobflows"], JOBS, PODS],
            Self::DaemonJob => &[
                [PRACTICE, "v1alpha1", "DaemonJob", "daemonjobs"],
                JOBS,
                PODS,
            ],
            Self::CollaSet => &[
                [KUSION, "v1alpha1", "CollaSet", "collasets"],
                PODS,
                ["apps", "v1", "ControllerRevision", "controllerrevisions"],
                [KUSION, "v1alpha1", "ResourceContext", "resourcecontexts"],
            ],
        }
    }

    pub(crate) fn steps(self) -> usize {
        match self {
            Self::OperationJob | Self::JobFlow | Self::DaemonJob => 2,
            Self::ReactiveJob => 3,
            Self::CollaSet => 4,
        }
    }

    /// What is there before a host is.
    pub(crate) async fn prepare(self, world: &World) {
        match self {
            Self::OperationJob => {
                Deployment::of("foo", 2).up(world).await;
            }
            Self::JobFlow => {
                world
                    .make::<JobTemplate>(job_flow::template("shared"))
                    .await;
            }
            Self::ReactiveJob | Self::DaemonJob | Self::CollaSet => {}
        }
    }

    /// Does what a user does in this step, with few requests.
    pub(crate) async fn act(self, step: usize, world: &World) -> Result<()> {
        match (self, step) {
            (Self::OperationJob, 0) => {
                let pods = world.pods("foo").await?;
                world
                    .create(&Job::replace("opj", &names(&pods)).object())
                    .await;
            }
            (Self::OperationJob, _) => world.delete::<OperationJob>("opj").await,
            (Self::ReactiveJob, 0) => drop(Reactive::of("rj").apply(world).await),
            (Self::ReactiveJob, 1) => world.edit("rj", "2").await,
            (Self::ReactiveJob, _) => world.delete::<ReactiveJob>("rj").await,
            (Self::JobFlow, 0) => {
                let retry = json!({"limit": 1, "backoffSeconds": 1});
                let steps = [
                    Step::of("first"),
                    Step::from_template("second", "shared").after(&["first"]),
                    Step::of("third")
                        .failing()
                        .with("retry", retry)
                        .after(&["first"]),
                ];
                Flow::of("jf", steps).apply(world).await;
            }
            (Self::JobFlow, _) => world.delete::<JobFlow>("jf").await,
            (Self::DaemonJob, 0) => {
                // Nodes that come and go would take pods of other scenarios with them.
                let nodes = json!({"matchLabels": {"operon.dev/simulated": "true"}});
                let daemon = Daemon::of(world, "dj").nodes("selector", nodes);
                daemon.rollout("parallelism", json!(2)).apply(world).await;
            }
            (Self::DaemonJob, _) => world.delete::<DaemonJob>("dj").await,
            (Self::CollaSet, 0) => {
                world
                    .make::<CollaSet>(colla_set("cs", 2, &pod_spec()))
                    .await;
            }
            (Self::CollaSet, 1) => {
                let mut pod = pod_spec();
                pod["containers"][0]["env"] = json!([{"name": "A", "value": "2"}]);
                let spec = json!({"spec": {"template": {"spec": pod}}});
                world.patch::<CollaSet>("cs", spec).await;
            }
            (Self::CollaSet, 2) => {
                world
                    .patch::<CollaSet>("cs", json!({"spec": {"replicas": 0}}))
                    .await;
            }
            (Self::CollaSet, _) => world.delete::<CollaSet>("cs").await,
        }
        Ok(())
    }

    /// Waits for what this step leads to without a fault.
    pub(crate) async fn done(self, step: usize, world: &World) {
        let is_last = step + 1 == self.steps();
        match self {
            Self::OperationJob if is_last => world.gone::<OperationJob>("opj").await,
            Self::OperationJob => drop(world.finished("opj").await),
            Self::ReactiveJob if is_last => world.gone::<ReactiveJob>("rj").await,
            Self::ReactiveJob => drop(world.comes_to("rj", ReactiveState::Ready).await),
            Self::JobFlow if is_last => world.gone::<JobFlow>("jf").await,
            Self::JobFlow => {
                let finished = job_flow::is_finished;
                world.flow_until("jf", "is finished", finished).await;
            }
            Self::DaemonJob if is_last => world.gone::<DaemonJob>("dj").await,
            Self::DaemonJob => drop(world.daemon_comes_to("dj", FlowState::Succeed).await),
            Self::CollaSet if is_last => world.gone::<CollaSet>("cs").await,
            Self::CollaSet => colla_set_done(world, if step == 2 { 0 } else { 2 }).await,
        }
    }
}

/// Waits until a CollaSet has so many pods, all of the newest revision, and these serve.
async fn colla_set_done(world: &World, replicas: i32) {
    world
        .eventually("the CollaSet is as its spec says", async || {
            let object = world.get::<CollaSet>("cs").await?;
            let status = colla_set::status(&object);
            let is_seen = status.observed_generation == object.metadata.generation;
            let counts = [status.replicas, status.updated_available_replicas];
            ensure!(is_seen && counts == [replicas; 2], "{status:?}");
            let pods = names(&world.pods("cs").await?);
            ensure!(i32::try_from(pods.len())? == replicas, "{pods:?}");
            Ok(())
        })
        .await;
}
