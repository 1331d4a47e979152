//! A call that ends while a reconcile is under way.

use kube::core::ApiResource;
use operon_core::action::{Effect, ObjectReference, PatchKind};

use super::*;

/// How long a call takes: longer than the reconcile that begins one.
const CALL: Duration = PATIENCE.saturating_add(Duration::from_secs(1));

/// How long the write of the finalizer takes: the call ends meanwhile.
const WRITE: Duration = Duration::from_secs(2);

/// An action that changes its target by its first call, and notes which version of the pod each call is about.
#[derive(Default)]
struct Changing {
    registration: Registration,
    seen: Mutex<Vec<String>>,
}

impl Action for Changing {
    fn registration(&self) -> &Registration {
        &self.registration
    }

    fn operate_target<'a>(
        &'a self,
        request: Request<'a>,
    ) -> BoxFuture<'a, Result<Operation, ActionError>> {
        let pod = request.target.pod.as_ref().expect("the target has a pod");
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = seen.is_empty();
        seen.push(pod.resource_version.clone());
        drop(seen);
        let effect = Effect::Patch {
            object: ObjectReference {
                api_version: "v1".to_owned(),
                kind: "Pod".to_owned(),
                name: request.target.name.clone(),
            },
            subresource: None,
            kind: PatchKind::Merge,
            body: json!({"metadata": {"labels": {"is": "changed"}}}),
            uid: None,
            resource_version: None,
        };
        Box::pin(async move {
            let mut operation = Operation::default();
            if is_first {
                tokio::time::sleep(CALL).await;
                operation.effects.push(effect);
            }
            Ok(operation)
        })
    }

    fn get_ops_progress<'a>(
        &'a self,
        _: Request<'a>,
    ) -> BoxFuture<'a, Result<ProgressReport, ActionError>> {
        Box::pin(std::future::ready(Ok(ProgressReport {
            progress: OpsProgress::Processing,
            failure: None,
            extra_info: BTreeMap::new(),
            recheck_after: None,
        })))
    }

    fn release_target<'a>(
        &'a self,
        _: Request<'a>,
    ) -> BoxFuture<'a, Result<Operation, ActionError>> {
        Box::pin(std::future::ready(Ok(Operation::default())))
    }
}

fn pod(version: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "ns", "name": "web-0", "uid": "web-0", "resourceVersion": version},
    })
}

/// The job loses its finalizer, so the next reconcile writes it before it calls the action.
fn lose_finalizer(world: &World) {
    {
        let mut stored = world.stored.lock().unwrap_or_else(PoisonError::into_inner);
        stored["metadata"]["finalizers"] = json!([]);
        written(&mut stored);
    }
    world.controller.jobs.wrote(world.job());
}

#[tokio::test(start_paused = true)]
async fn a_reconcile_does_not_call_about_a_pod_that_a_call_changed_after_it_was_read() {
    let mut world = World::new(&names("web", 1));
    let stored = Arc::clone(&world.stored);
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let stored = Arc::clone(&stored);
        async move {
            let path = request.uri().path();
            let answer = if path.ends_with("/pods/web-0") {
                http::Response::new(Body::from(pod("2").to_string().into_bytes()))
            } else {
                if path.ends_with("/operationjobs/job") {
                    tokio::time::sleep(WRITE).await;
                }
                serve(stored, request).await
            };
            Ok::<_, std::convert::Infallible>(answer)
        }
    });
    let client = Client::new(service, "ns");
    world.controller.client = client.clone();
    let kinds = [ApiResource::erase::<Pod>(&())];
    let performers = Performers::of_client(client, "scripted", kinds);
    let action = Arc::new(Changing::default());
    let changing = Loaded {
        action: Arc::clone(&action) as Arc<dyn Action>,
        ..loaded(&performers, &world.action)
    };
    let catalogue = &world.controller.catalogue;
    assert!(catalogue.publish("Scripted", changing, || true));
    let read = serde_json::from_value(pod("1")).expect("a pod");
    world.controller.pods.wrote(read);

    world.reconcile().await;
    lose_finalizer(&world);
    world.reconcile().await;
    let seen = || {
        action
            .seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    };
    assert_eq!(seen(), ["1"], "the call of the first reconcile alone");
    world.reconcile().await;
    assert_eq!(seen(), ["1", "2"]);
}
