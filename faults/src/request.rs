//! What a request to the API server is about, read from its method and its address. Pure.

use std::fmt;

use hyper::Method;

/// Kinds without namespaces that the host lists.
const CLUSTER_SCOPED: [&str; 4] = [
    "actionplugins",
    "customresourcedefinitions",
    "namespaces",
    "nodes",
];

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
}

/// A request about objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct About {
    pub(crate) verb: Verb,
    pub(crate) namespace: Option<String>,
    pub(crate) resource: String,
    /// With a slash before it.
    subresource: String,
    /// The API server only tries it.
    dry_run: bool,
}

impl About {
    /// Reads a request; nothing if it is not about objects.
    pub(crate) fn of(method: &Method, path: &str, query: &str) -> Option<Self> {
        let (_, rest) = resource_path(path)?;
        let segments: Vec<&str> = rest.split('/').collect();
        let (namespace, rest) = match segments.as_slice() {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some(*namespace), rest),
            rest => (None, rest),
        };
        let (resource, named) = rest.split_first()?;
        if resource.is_empty() {
            return None;
        }
        let has = |parameter: &str| query.split('&').any(|found| found == parameter);
        let verb = match *method {
            Method::GET if has("watch=true") || has("watch=1") => Verb::Watch,
            Method::GET if named.is_empty() => Verb::List,
            Method::POST => Verb::Create,
            Method::PUT => Verb::Update,
            Method::PATCH => Verb::Patch,
            Method::DELETE => Verb::Delete,
            _ => Verb::Get,
        };
        let subresource = named.get(1).map(|name| format!("/{name}"));
        Some(Self {
            verb,
            namespace: namespace.map(str::to_owned),
            resource: (*resource).to_owned(),
            subresource: subresource.unwrap_or_default(),
            dry_run: has("dryRun=All"),
        })
    }

    /// Whether it changes something in this namespace.
    pub(crate) fn is_write_in(&self, namespace: &str) -> bool {
        let writes = match self.verb {
            Verb::Get | Verb::List | Verb::Watch => false,
            Verb::Create | Verb::Update | Verb::Patch | Verb::Delete => true,
        };
        writes
            && self.namespace.as_deref() == Some(namespace)
            && !self.resource.ends_with("accessreviews")
    }

    /// The path that asks for the objects of one namespace only, for a list or watch of all namespaces: many hosts run
    /// beside each other, each for a namespace of its own.
    pub(crate) fn narrowed(&self, path: &str, namespace: &str) -> Option<String> {
        let reads_all = matches!(self.verb, Verb::List | Verb::Watch)
            && self.namespace.is_none()
            && !CLUSTER_SCOPED.contains(&self.resource.as_str());
        let (version, rest) = resource_path(path).filter(|_| reads_all)?;
        Some(format!("{version}/namespaces/{namespace}/{rest}"))
    }
}

impl fmt::Display for About {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            verb,
            namespace: _,
            resource,
            subresource,
            dry_run,
        } = self;
        let verb = format!("{verb:?}").to_lowercase();
        let tries = if *dry_run { "try-to-" } else { "" };
        write!(formatter, "{tries}{verb} {resource}{subresource}")
    }
}

/// The path up to the API's version, and what follows it.
fn resource_path(path: &str) -> Option<(&str, &str)> {
    let slashes = if path.starts_with("/api/") { 3 } else { 4 };
    if slashes == 4 && !path.starts_with("/apis/") {
        return None;
    }
    let (end, _) = path.match_indices('/').nth(slashes - 1)?;
    Some((&path[..end], &path[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(method: &Method, address: &str) -> Option<String> {
        let (path, query) = address.split_once('?').unwrap_or((address, ""));
        let about = About::of(method, path, query)?;
        let namespace = about.namespace.as_deref().unwrap_or("-");
        Some(format!("{namespace} {about}"))
    }

    #[test]
    fn a_request_is_read_from_its_method_and_address() {
        let jobs = "/apis/batch/v1/namespaces/shop/jobs";
        let status = "/apis/apps.kusionstack.io/v1alpha1/namespaces/shop/operationjobs/a/status";
        for (method, address, wanted) in [
            (Method::GET, "/api/v1/pods?limit=100", Some("- list pods")),
            (
                Method::GET,
                "/api/v1/pods?x=1&watch=true",
                Some("- watch pods"),
            ),
            (
                Method::GET,
                "/api/v1/namespaces/shop/pods/a",
                Some("shop get pods"),
            ),
            (
                Method::GET,
                "/api/v1/namespaces/shop",
                Some("- get namespaces"),
            ),
            (Method::POST, jobs, Some("shop create jobs")),
            (
                Method::POST,
                &format!("{jobs}?dryRun=All"),
                Some("shop try-to-create jobs"),
            ),
            (
                Method::PATCH,
                status,
                Some("shop patch operationjobs/status"),
            ),
            (
                Method::DELETE,
                &format!("{jobs}/a"),
                Some("shop delete jobs"),
            ),
            (Method::PUT, &format!("{jobs}/a"), Some("shop update jobs")),
            (Method::GET, "/version", None),
            (Method::GET, "/api/v1", None),
            (Method::GET, "/apis/apps/v1", None),
        ] {
            assert_eq!(
                about(&method, address).as_deref(),
                wanted,
                "{method} {address}"
            );
        }
    }

    #[test]
    fn only_lists_and_watches_of_all_namespaces_are_narrowed() {
        let narrowed = |method: Method, path: &str| {
            About::of(&method, path, "").and_then(|about| about.narrowed(path, "shop"))
        };
        let pods = narrowed(Method::GET, "/api/v1/pods");
        assert_eq!(pods.as_deref(), Some("/api/v1/namespaces/shop/pods"));
        let jobs = narrowed(Method::GET, "/apis/batch/v1/jobs");
        assert_eq!(jobs.as_deref(), Some("/apis/batch/v1/namespaces/shop/jobs"));
        for path in [
            "/api/v1/nodes",
            "/api/v1/nodes/a",
            "/api/v1/namespaces/operon-system/configmaps",
        ] {
            assert_eq!(narrowed(Method::GET, path), None, "{path}");
        }
        let review = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
        assert_eq!(narrowed(Method::POST, review), None);
    }

    #[test]
    fn a_write_of_the_story_is_in_its_namespace_and_changes_something() {
        let writes = |method: Method, path: &str| {
            About::of(&method, path, "").is_some_and(|about| about.is_write_in("shop"))
        };
        assert!(writes(Method::PATCH, "/api/v1/namespaces/shop/pods/a"));
        assert!(!writes(Method::PATCH, "/api/v1/namespaces/other/pods/a"));
        assert!(!writes(Method::GET, "/api/v1/namespaces/shop/pods/a"));
        let review = "/apis/authorization.k8s.io/v1/namespaces/shop/localsubjectaccessreviews";
        assert!(!writes(Method::POST, review));
    }
}
