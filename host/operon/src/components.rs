//! How the host finds, limits and compiles components: its arguments, and what they make.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use clap::value_parser;
use operon_plugin_registry::{
    Registry, RegistryConfig, Trust,
    oci::{AllowedRegistries, Puller, PullerConfig},
};
use operon_plugin_runtime::{CallObserver, ChildLimits, Loader, LoaderConfig};

use crate::memory;

/// How components are found, limited and compiled.
#[derive(Debug, clap::Args)]
pub(crate) struct ComponentArguments {
    /// The directory for compiled and pulled components, which only this user may access; without it, components are pulled and compiled at each start
    #[arg(long, env = "OPERON_CACHE_DIR", value_name = "DIR")]
    cache_dir: Option<PathBuf>,

    /// The folder of the built-in actions' components
    #[arg(
        long,
        env = "OPERON_PLUGINS_DIR",
        value_name = "DIR",
        default_value = "/usr/share/operon/plugins"
    )]
    plugins_dir: PathBuf,

    /// The registries that components may be pulled from, and the hosts that their credentials may be sent to, separated by commas: HOST[:PORT][/PREFIX] or *.DOMAIN [default: all]
    #[arg(
        long,
        env = "OPERON_OCI_ALLOWED_REGISTRIES",
        value_name = "REGISTRY",
        value_delimiter = ','
    )]
    oci_allowed_registries: Vec<String>,

    /// The largest component, unzipped, in MiB, 32 at most
    #[arg(
        long,
        env = "OPERON_MAX_COMPONENT_SIZE",
        value_name = "MIB",
        default_value_t = 16,
        value_parser = value_parser!(u64).range(1..=32)
    )]
    max_component_size: u64,

    /// The processor time for compiling a component, in seconds, 120 at most
    #[arg(
        long,
        env = "OPERON_COMPILE_TIMEOUT",
        value_name = "SECONDS",
        default_value_t = 30,
        value_parser = value_parser!(u64).range(1..=120)
    )]
    compile_timeout: u64,

    /// The memory that the host takes with its caches, in MiB: running calls share what the memory limit leaves beside it and a compilation
    #[arg(
        long,
        env = "OPERON_HOST_MEMORY",
        value_name = "MIB",
        default_value_t = 128,
        value_parser = value_parser!(u64).range(32..=1 << 20)
    )]
    host_memory: u64,
}

/// What finds components, and what loads them.
pub(crate) struct Components {
    pub(crate) registry: Registry,
    pub(crate) loader: Loader,
}

impl ComponentArguments {
    /// What these arguments ask for, for plugins of the operator's namespace.
    ///
    /// # Errors
    /// A list of registries that can't be read, a cache directory of somebody else, an engine that does not start.
    pub(crate) fn start(
        self,
        namespace: String,
        trust: Trust,
        observer: Arc<dyn CallObserver>,
    ) -> anyhow::Result<Components> {
        let component_bytes = usize::try_from(self.max_component_size << 20)
            .context("--max-component-size is larger than this machine's memory")?;
        let cpu = Duration::from_secs(self.compile_timeout);
        let memory = memory::for_calls(self.host_memory << 20);
        if let Some(bytes) = memory {
            tracing::info!(mib = bytes >> 20, "memory for the running calls of actions");
        }
        let loader = Loader::new(LoaderConfig {
            memory,
            cache_dir: self.cache_dir.clone(),
            compile_limits: ChildLimits {
                cpu,
                wall: ChildLimits::COMPILE.wall.max(cpu * 4),
                ..ChildLimits::COMPILE
            },
            component_bytes,
            observer,
            ..LoaderConfig::default()
        })
        .context("failed to start the plugin runtime")?;
        let allowed = AllowedRegistries::parse(&self.oci_allowed_registries)
            .context("failed to read --oci-allowed-registries")?;
        let puller = Puller::new(PullerConfig {
            cache: self.cache_dir.map(|cache| cache.join("oci")),
            max_component: component_bytes,
            allowed,
            ..PullerConfig::default()
        });
        let registry = Registry::new(RegistryConfig {
            namespace,
            builtin: self.plugins_dir,
            component_bytes,
            puller,
            trust,
        });
        Ok(Components { registry, loader })
    }
}
