//! What a source found. Its bytes leave this file only as a verified `Component`, so that no source can forget
//! a check.

use std::sync::Arc;

use operon_api::ActionPlugin;
use operon_core::{action::LoadError, action_plugin::source::Component};

use crate::{digest, refused};

/// The bytes of a component, not verified yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    bytes: Vec<u8>,
}

impl Found {
    /// The uncompressed component.
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }

    /// The component, if it has the digest that the plugin pins.
    pub(crate) fn verified(self, plugin: &ActionPlugin) -> Result<Component, LoadError> {
        let Self { bytes } = self;
        let digest = digest(&bytes);
        match &plugin.spec.digest {
            Some(pinned) if *pinned != digest => Err(refused(
                "DigestMismatch",
                format!(
                    "the component's digest is {digest}, but spec.digest pins {pinned}, so the component was not run"
                ),
            )),
            _ => Ok(Component {
                bytes: Arc::from(bytes),
                digest,
            }),
        }
    }
}
