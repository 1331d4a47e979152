//! Loads machine code that this host compiled itself: the only unsafe code of Operon.
//!
//! Wasmtime maps a compiled component into memory and jumps into it without being able to check it, so
//! loading one is `unsafe`: the author of the bytes decides what the host executes. The argument that
//! [`CompiledComponent::load`] is nevertheless safe to call:
//!
//! - A [`CompiledComponent`] has no public constructor. There are two ways to one, both in this
//!   crate, and neither takes bytes from a caller, a cluster or a registry.
//! - [`compile`] starts the compiler, which is this same program, as a child process, hands it the
//!   component and reads the output from a pipe that no other process holds. The child answers only if its
//!   own compatibility hash is the requested one, and only an exit status of zero counts.
//! - [`Cache::read`] takes a file that [`Cache::write`] wrote: from a directory that belongs to our own
//!   user and that neither group nor others may enter, not through a symbolic link, and only if its header
//!   has the engine's compatibility hash, the component's SHA-256, and the SHA-256 of the bytes that
//!   follow. The verified bytes are the loaded bytes: the file is read once, not mapped. An attacker who
//!   can forge such a file already acts as our user, and needs no forged file.
//! - Wasmtime itself refuses code of another version, machine or configuration.
//!
//! So the trusted parties are Cranelift, the program that [`ChildProgram`] names (configuration of the
//! process, never of the cluster; by default our own executable), and our own user.

mod cache;
mod child;

use sha2::{Digest as _, Sha256};
use wasmtime::{Engine, component::Component};

pub use cache::{Cache, CacheError};
pub use child::{ChildError, ChildLimits, ChildProgram, REFUSED, compile, run_child};

/// Machine code of one component, written by our own compiler.
pub struct CompiledComponent {
    code: Vec<u8>,
}

impl CompiledComponent {
    /// Prepares the code to run.
    ///
    /// Errors: wasmtime refuses code of another version, machine or configuration.
    pub fn load(&self, engine: &Engine) -> wasmtime::Result<Component> {
        #[expect(
            unsafe_code,
            reason = "the code is our own compiler's: see the argument at the top of this file"
        )]
        // SAFETY: `self` exists only if `code` came from our compile child or from a verified file.
        unsafe {
            Component::deserialize(engine, &self.code)
        }
    }

    /// How many bytes of machine code and metadata these are.
    pub fn size(&self) -> usize {
        self.code.len()
    }
}

/// What machine code belongs to: the component it was compiled from and the engine it was compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// SHA-256 of the component.
    pub component: [u8; 32],
    /// The engine's [`compatibility`] hash.
    pub compatibility: [u8; 32],
}

impl Key {
    /// The key of this component on this engine.
    pub fn new(engine: &Engine, component: &[u8]) -> Self {
        Self {
            component: Sha256::digest(component).into(),
            compatibility: compatibility(engine),
        }
    }
}

/// A hash over everything that decides whether code of one engine runs on another: wasmtime's
/// version, the machine's features and the configuration.
pub fn compatibility(engine: &Engine) -> [u8; 32] {
    let mut hasher = Sha256Hasher(Sha256::new());
    std::hash::Hash::hash(&engine.precompile_compatibility_hash(), &mut hasher);
    hasher.0.finalize().into()
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// Feeds the hashed values to SHA-256, so that the result means the same in every process.
struct Sha256Hasher(Sha256);

impl std::hash::Hasher for Sha256Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest = self.0.clone().finalize();
        digest
            .iter()
            .take(8)
            .fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}
