//! Which controllers stand down while KusionStack's run in the same cluster: those of the same kinds, unless an
//! argument says otherwise.

use std::sync::Arc;

use kube::Client;
use operon_controllers::{
    health::Health,
    run::Reconciler,
    stand_down::{Guarded, KusionStack},
    store::Store,
};

use crate::{run::BesideKusionStack, wiring::Queue};

/// When controllers stand down.
#[derive(Debug, clap::Args)]
pub(crate) struct StandDown {
    /// The controllers that run even if KusionStack's controllers run in the cluster, separated by commas [default: none]
    #[arg(long, env = "OPERON_NO_STAND_DOWN", value_enum, value_delimiter = ',')]
    no_stand_down: Vec<BesideKusionStack>,

    /// The namespace of KusionStack's controllers, if they are installed: their Lease counts only there
    #[arg(
        long,
        env = "OPERON_KUSIONSTACK_NAMESPACE",
        default_value = "kusionstack-system"
    )]
    kusionstack_namespace: String,
}

/// Guards controllers.
pub(crate) struct Beside {
    kusion_stack: KusionStack,
    /// For controllers that do not stand down.
    absent: KusionStack,
    forced: Vec<BesideKusionStack>,
}

impl Beside {
    /// Finds out whether KusionStack's controllers run. `running` are the controllers of its kinds that are
    /// enabled.
    pub(crate) async fn watch(
        client: &Client,
        health: &Health,
        running: &[BesideKusionStack],
        stand_down: StandDown,
    ) -> Self {
        let StandDown {
            no_stand_down: forced,
            kusionstack_namespace: namespace,
        } = stand_down;
        let guarded = running.iter().filter(|one| !forced.contains(one));
        let names = guarded.map(|one| one.name()).collect();
        Self {
            kusion_stack: KusionStack::watch(client, health, names, &namespace).await,
            absent: KusionStack::watch(client, health, Vec::new(), &namespace).await,
            forced,
        }
    }

    /// A controller that stands down, if this one does. When KusionStack goes, it reconciles the objects of the `store`
    /// that it reconciles at all.
    pub(crate) fn guard<R: Reconciler>(
        &self,
        kind: BesideKusionStack,
        reconciler: Arc<R>,
        store: &Store<R::Object>,
        queue: &Queue<R::Object>,
        concerns: fn(&R::Object) -> bool,
    ) -> Guarded<R> {
        let kusion_stack = if self.forced.contains(&kind) {
            &self.absent
        } else {
            &self.kusion_stack
        };
        Guarded::new(reconciler, kusion_stack, store, &queue.sender, concerns)
    }
}
