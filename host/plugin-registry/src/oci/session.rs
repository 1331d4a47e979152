//! Access to one repository of a registry: its manifests, blobs and referrers.

use reqwest::{
    Method, Request, Response, StatusCode, Url,
    header::{ACCEPT, HeaderValue},
};

use super::{
    allowed::AllowedRegistries,
    auth::authorize,
    docker_config::Credential,
    fault::Fault,
    layout::{Descriptor, MANIFESTS},
    reference::{Reference, is_digest},
    transport::{Transport, body, success},
};
use crate::digest;

/// The largest manifest or index that is read. Registries have to take 4 MiB.
pub(super) const MAX_MANIFEST: usize = 4 << 20;
/// The header with the digest of what is served.
const CONTENT_DIGEST: &str = "docker-content-digest";

/// Access to one repository.
pub(super) struct Session<'a> {
    transport: Transport<'a>,
    allowed: &'a AllowedRegistries,
    reference: &'a Reference,
    credential: Option<&'a Credential>,
    authorization: Option<HeaderValue>,
}

impl<'a> Session<'a> {
    /// Authenticates if the registry asks for it. The first request, `GET /v2/`, has no credentials.
    pub(super) async fn open(
        transport: Transport<'a>,
        allowed: &'a AllowedRegistries,
        reference: &'a Reference,
        credential: Option<&'a Credential>,
    ) -> Result<Self, Fault> {
        let mut session = Self {
            transport,
            allowed,
            reference,
            credential,
            authorization: None,
        };
        let request = Request::new(Method::GET, session.url("")?);
        let response = session.transport.send_once(request).await?;
        let status = response.status();
        if status == StatusCode::UNAUTHORIZED {
            session.authorize(&response).await?;
        } else if status.is_redirection() {
            let registry = &reference.registry;
            return Err(Fault::passing(
                "BadRedirect",
                format!(
                    "can't be pulled: {registry} redirects the API's root /v2/, which is not followed; name the registry that serves it"
                ),
            ));
        } else if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            success(response, "/v2/").await?;
        }
        Ok(session)
    }

    /// The digest of the manifest with this tag or digest.
    pub(super) async fn resolve(&mut self, version: &str) -> Result<String, Fault> {
        let response = self
            .request(Method::HEAD, &format!("manifests/{version}"), &MANIFESTS)
            .await?;
        let response = success(response, &self.manifest_name(version)).await?;
        let named = response
            .headers()
            .get(CONTENT_DIGEST)
            .and_then(|value| value.to_str().ok());
        match named {
            Some(named) if is_digest(named) => Ok(named.to_owned()),
            // Not every registry sends the header.
            _ => Ok(digest(&self.read_manifest(version).await?)),
        }
    }

    /// The manifest with this digest.
    pub(super) async fn manifest(&mut self, digest: &str) -> Result<Vec<u8>, Fault> {
        let bytes = self.read_manifest(digest).await?;
        checked(bytes, digest, "manifest", &self.reference.registry)
    }

    /// The manifest with this tag, if there is one.
    pub(super) async fn tagged(&mut self, tag: &str) -> Result<Option<Vec<u8>>, Fault> {
        present(self.read_manifest(tag).await)
    }

    /// The index of the artifacts that refer to a manifest; none if the registry has no referrers API.
    pub(super) async fn referrers(&mut self, digest: &str) -> Result<Option<Vec<u8>>, Fault> {
        let response = self
            .request(
                Method::GET,
                &format!("referrers/{digest}"),
                &MANIFESTS[1..2],
            )
            .await?;
        // Registries without the API answer with different statuses: 404, 405, 400.
        if response.status().is_client_error() && response.status() != StatusCode::TOO_MANY_REQUESTS
        {
            return Ok(None);
        }
        let response = success(response, "the referrers of the manifest").await?;
        body(response, MAX_MANIFEST).await
    }

    /// A blob of at most `max` bytes.
    pub(super) async fn blob(&mut self, blob: &Descriptor, max: usize) -> Result<Vec<u8>, Fault> {
        let Descriptor { digest, size, .. } = blob;
        let declared = usize::try_from(*size).unwrap_or(usize::MAX);
        if declared > max {
            return Err(Fault::lasting(
                "TooLarge",
                format!(
                    "has a layer of {} MiB; components.maxSizeMiB of the chart allows at most {} MiB",
                    size.div_ceil(1 << 20),
                    max >> 20
                ),
            ));
        }
        let response = self
            .request(Method::GET, &format!("blobs/{digest}"), &["*/*"])
            .await?;
        let response = success(response, &format!("blob {digest}")).await?;
        let bytes = body(response, declared).await?;
        let bytes = bytes.ok_or_else(|| {
            mismatch(
                &self.reference.registry,
                &format!("a blob that is larger than the {size} bytes its manifest names"),
            )
        })?;
        checked(bytes, digest, "blob", &self.reference.registry)
    }

    async fn read_manifest(&mut self, version: &str) -> Result<Vec<u8>, Fault> {
        let response = self
            .request(Method::GET, &format!("manifests/{version}"), &MANIFESTS)
            .await?;
        let response = success(response, &self.manifest_name(version)).await?;
        let bytes = body(response, MAX_MANIFEST).await?;
        bytes.ok_or_else(|| {
            Fault::lasting(
                "TooLarge",
                format!("has a manifest of more than {} MiB", MAX_MANIFEST >> 20),
            )
        })
    }

    /// Sends a request. If the registry asks for authentication only now, authenticates and sends it again.
    async fn request(
        &mut self,
        method: Method,
        path: &str,
        accept: &[&str],
    ) -> Result<Response, Fault> {
        let mut request = Request::new(
            method,
            self.url(&format!("{}/{path}", self.reference.repository))?,
        );
        if let Ok(accept) = HeaderValue::from_str(&accept.join(", ")) {
            request.headers_mut().insert(ACCEPT, accept);
        }
        let response = self
            .transport
            .send(&request, self.authorization.as_ref())
            .await?;
        // A host that the registry redirects to must not get the registry's credentials.
        let asked = response.status() == StatusCode::UNAUTHORIZED
            && response.url().origin() == request.url().origin();
        if !asked || self.authorization.is_some() {
            return Ok(response);
        }
        self.authorize(&response).await?;
        self.transport
            .send(&request, self.authorization.as_ref())
            .await
    }

    async fn authorize(&mut self, response: &Response) -> Result<(), Fault> {
        let header = authorize(
            &self.transport,
            self.allowed,
            self.reference,
            response.headers(),
            self.credential,
        );
        self.authorization = Some(header.await?);
        Ok(())
    }

    /// A URL of the registry's API.
    fn url(&self, path: &str) -> Result<Url, Fault> {
        let (scheme, host) = (self.transport.scheme(), self.reference.api_host());
        Url::parse(&format!("{scheme}://{host}/v2/{path}")).map_err(|error| {
            Fault::lasting(
                "BadReference",
                format!("names a registry that is no host: {error}"),
            )
        })
    }

    fn manifest_name(&self, version: &str) -> String {
        format!("manifest {version} of {}", self.reference.repository)
    }
}

/// None where there is nothing under the name.
fn present<T>(found: Result<T, Fault>) -> Result<Option<T>, Fault> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(fault) if fault.is_absence() => Ok(None),
        Err(fault) => Err(fault),
    }
}

fn checked(bytes: Vec<u8>, wanted: &str, what: &str, registry: &str) -> Result<Vec<u8>, Fault> {
    let found = digest(&bytes);
    if found == wanted {
        return Ok(bytes);
    }
    Err(mismatch(
        registry,
        &format!("a {what} with digest {found} instead of {wanted}"),
    ))
}

/// The error for changed content. A retry may help: a proxy may be the cause.
fn mismatch(registry: &str, what: &str) -> Fault {
    Fault::passing(
        "DigestMismatch",
        format!("can't be pulled: {registry} serves {what}; nothing of it was used"),
    )
}
