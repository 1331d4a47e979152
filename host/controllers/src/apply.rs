//! The only writer of objects for the controllers. The writes of actions are in
//! [`effects`](crate::effects).

use std::{fmt::Debug, future::Future, time::Duration};

use kube::{
    Api, Config, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::error::{Class, Error};

/// The longest time one write may take. Writes are not retried by the client: a failed reconcile is
/// repeated as a whole.
pub(crate) const WRITE_LIMIT: Duration = Duration::from_secs(15);

/// The longest time without a byte from the API server in answer to a request: longer than a list takes, or
/// a watch without an event lasts. It ends requests on a connection that died unnoticed.
const READ_LIMIT: Duration = Duration::from_secs(100);

/// A client configuration that never retries by itself: a retried POST could create twice, and a
/// refused eviction would hang for minutes.
pub fn client_config(mut config: Config) -> Config {
    config.default_retry = false;
    config.read_timeout = Some(READ_LIMIT);
    // Not from when the connection was last used.
    config.reset_reader_on_write = true;
    config.connect_timeout = Some(Duration::from_secs(5));
    config
}

/// Awaits a request, but not for ever, and names the object in its error.
pub(crate) async fn timely<K, T>(
    verb: &'static str,
    object: &K,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Error>
where
    K: Resource<DynamicType = ()>,
{
    let name = || {
        describe(
            &K::kind(&()),
            object.namespace().as_deref(),
            &object.name_any(),
        )
    };
    within_limit(verb, name, request).await
}

pub(crate) async fn within_limit<T>(
    verb: &'static str,
    object: impl Fn() -> String,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(WRITE_LIMIT, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(source)) => Err(Error::Write {
            verb,
            object: object(),
            source,
        }),
        Err(_) => Err(Error::Timeout {
            verb,
            object: object(),
            seconds: WRITE_LIMIT.as_secs(),
        }),
    }
}

pub(crate) fn describe(kind: &str, namespace: Option<&str>, name: &str) -> String {
    match namespace {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}

/// Puts our finalizer on an object, or takes it off; nothing is sent if that is how it is already.
/// Other finalizers stay.
pub async fn set_finalizer<K>(
    api: &Api<K>,
    object: &K,
    finalizer: &str,
    wanted: bool,
) -> Result<Option<K>, Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    if object.finalizers().iter().any(|f| f == finalizer) == wanted {
        return Ok(None);
    }
    let mut finalizers: Vec<_> = object
        .finalizers()
        .iter()
        .filter(|f| *f != finalizer)
        .cloned()
        .collect();
    if wanted {
        finalizers.push(finalizer.to_owned());
    }
    let patch = json!({
        "metadata": {
            "uid": object.uid(),
            "resourceVersion": object.resource_version(),
            "finalizers": finalizers,
        }
    });
    let name = object.name_any();
    let params = PatchParams::default();
    let patch = Patch::Merge(&patch);
    timely(
        "set the finalizer of",
        object,
        api.patch(&name, &params, &patch),
    )
    .await
    .map(Some)
}

/// Deletes an object, if it is still this one and, where `version` is true, if it has not changed; `how` is
/// the propagation policy for its dependents.
pub async fn delete<K>(
    api: &Api<K>,
    object: &K,
    version: bool,
    how: DeleteParams,
) -> Result<(), Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: object.uid(),
            resource_version: object.resource_version().filter(|_| version),
        }),
        ..how
    };
    timely("delete", object, api.delete(&object.name_any(), &params))
        .await
        .map(drop)
}

/// Patches an object, if it is still this one and, where `version` is true, if it has not changed.
pub async fn patch<K>(api: &Api<K>, object: &K, mut body: Value, version: bool) -> Result<K, Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    body["metadata"]["uid"] = json!(object.uid());
    if version {
        body["metadata"]["resourceVersion"] = json!(object.resource_version());
    }
    let (name, params, patch) = (
        object.name_any(),
        PatchParams::default(),
        Patch::Merge(&body),
    );
    timely("patch", object, api.patch(&name, &params, &patch)).await
}

/// The result of creating an object with a deterministic name.
#[derive(Debug)]
pub enum Created<K> {
    /// It was created.
    New(K),
    /// There is one of that name.
    Exists(K),
}

/// Creates an object. If an object of that name exists, returns that object: the caller decides who owns
/// it.
pub async fn create<K>(api: &Api<K>, manager: &str, object: &Value) -> Result<Created<K>, Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let name = text("/metadata/name").unwrap_or_default();
    let described = || describe(&K::kind(&()), text("/metadata/namespace"), name);
    let params = PostParams {
        field_manager: Some(manager.to_owned()),
        ..PostParams::default()
    };
    let request = kube::core::Request::new(api.resource_url())
        .create(&params, creation_body(object))
        .map_err(|error| Error::Effect {
            message: error.to_string(),
        })?;
    let client = api.clone().into_client();
    match within_limit("create", described, client.request(request)).await {
        Ok(made) => Ok(Created::New(made)),
        Err(exists) if exists.class() == Class::Exists => {
            match within_limit("get", described, api.get(name)).await {
                // It was deleted in between: the next reconcile creates it.
                Err(error) if error.class() == Class::Gone => Err(exists),
                found => found.map(Created::Exists),
            }
        }
        Err(error) => Err(error),
    }
}

/// An object as JSON, with the escapes that the API server itself writes. It keeps what a ControllerRevision
/// holds as it was sent, but any later patch writes it anew, and what differs in one byte is refused: it is
/// immutable.
pub(crate) fn creation_body(object: &Value) -> Vec<u8> {
    let mut body = object.to_string();
    // These stand in texts only, where the escape means the same.
    for (sign, escape) in [
        ('<', "\\u003c"),
        ('>', "\\u003e"),
        ('&', "\\u0026"),
        ('\u{2028}', "\\u2028"),
        ('\u{2029}', "\\u2029"),
    ] {
        if body.contains(sign) {
            body = body.replace(sign, escape);
        }
    }
    body.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_created_with_the_escapes_of_the_api_server() -> serde_json::Result<()> {
        let object = json!({"a<b": ["x > y && z", "\u{2028}", {"c": "ä\\\"\n"}]});
        let body = creation_body(&object);
        let text = String::from_utf8_lossy(&body);
        let written = r#"{"a\u003cb":["x \u003e y \u0026\u0026 z","\u2028",{"c":"ä\\\"\n"}]}"#;
        assert_eq!(text, written);
        assert_eq!(serde_json::from_slice::<Value>(&body)?, object);
        Ok(())
    }
}
