//! `operon crds`: the CustomResourceDefinitions, generated from the types.

use std::path::PathBuf;

use anyhow::Context;
use operon_api::all_crds;

/// Where they go.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Write one file per kind into this folder instead of printing all
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    for crd in all_crds() {
        let name = crd.metadata.name.clone().unwrap_or_default();
        let yaml = serde_yaml_ng::to_string(&crd).context("failed to write a CRD as YAML")?;
        match &arguments.directory {
            None => print!("---\n{yaml}"),
            Some(directory) => {
                let path = directory.join(format!("{name}.yaml"));
                std::fs::write(&path, yaml)
                    .with_context(|| format!("failed to write {}", path.display()))?;
            }
        }
    }
    Ok(())
}
