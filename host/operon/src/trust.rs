//! Whose signatures of components the host requires, and by what it verifies identities: its arguments.

use std::path::PathBuf;

use anyhow::Context;
use operon_plugin_registry::{Accepted, Keys, Trust, TrustedRoot, identities_of_path};

/// By whom components must be signed.
#[derive(Debug, clap::Args)]
pub(crate) struct TrustArguments {
    /// A public key in PEM, or a folder of such keys (*.pub, *.pem): every component that is not built in must have a signature by one of them, or by one of --signature-identities
    #[arg(long, env = "OPERON_SIGNATURE_KEYS", value_name = "FILE_OR_DIR")]
    signature_keys: Option<PathBuf>,

    /// A JSON list of identities, each with issuer and subject: every component that is not built in must have a signature by one of them, or by one of --signature-keys
    #[arg(
        long,
        env = "OPERON_SIGNATURE_IDENTITIES",
        value_name = "FILE",
        requires = "trusted_root"
    )]
    signature_identities: Option<PathBuf>,

    /// A Sigstore trusted_root.json, by which signatures of identities are verified, offline
    #[arg(long, env = "OPERON_TRUSTED_ROOT", value_name = "FILE")]
    trusted_root: Option<PathBuf>,
}

impl TrustArguments {
    /// What these files say. Without valid ones the host does not start: it would load nothing, or what it must not.
    ///
    /// # Errors
    /// A file that can't be used.
    pub(crate) fn read(&self) -> anyhow::Result<Trust> {
        let Self {
            signature_keys,
            signature_identities,
            trusted_root,
        } = self;
        let keys = signature_keys.as_deref().map(Keys::of_path).transpose();
        let keys = keys.context("failed to read --signature-keys")?;
        let identities = signature_identities.as_deref().map(identities_of_path);
        let identities = identities
            .transpose()
            .context("failed to read --signature-identities")?;
        let root = trusted_root.as_deref().map(TrustedRoot::of_path);
        let root = root.transpose().context("failed to read --trusted-root")?;
        Ok(Trust {
            required: Accepted::of_host(keys, identities.unwrap_or_default()),
            root,
        })
    }
}
