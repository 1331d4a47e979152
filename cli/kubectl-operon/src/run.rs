//! `run`: creates an OperationJob.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context as _, bail};
use clap::ArgGroup;
use kube::api::DynamicObject;
use operon_cli_cluster::{Cluster, Failure, create, explained, name, parsed};
use operon_cli_model::{
    Kind, Object, Request, changes_nothing, check_action, operation_job, preview,
};

use crate::{
    flags::Flags,
    follow::{Follow, WAITS, Wait},
    listing::actions,
    output::Format,
    terminal::{complain, print, say},
};

/// How long a preview is waited for, unless the user says otherwise.
const PREVIEW: Duration = Duration::from_mins(1);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum DryRun {
    /// Create the job
    #[default]
    None,
    /// Describe the job without a request to the cluster
    Client,
    /// The API server checks the job and does not keep it
    Server,
}

#[derive(Debug, clap::Args)]
#[command(group(ArgGroup::new(WAITS).conflicts_with("format")))]
pub(crate) struct Arguments {
    /// The action: the spec.action of an ActionPlugin, for example Restart
    action: String,
    /// Pods by name; or the pods of a controller: deployment/NAME, replicaset/NAME, statefulset/NAME, daemonset/NAME, job/NAME, collaset/NAME
    #[arg(value_name = "POD|deployment/NAME")]
    targets: Vec<String>,
    /// Pods by their labels, as for kubectl; together with deployment/NAME, those of its pods
    #[arg(long, short = 'l', value_name = "SELECTOR")]
    selector: Option<String>,
    /// Pods of this node
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Operate this container of each pod; can be repeated [default: all]
    #[arg(long = "container", short = 'c', value_name = "NAME")]
    containers: Vec<String>,
    /// A parameter of the action; can be repeated. JSON is read as such, anything else as text
    #[arg(long = "param", value_name = "KEY=VALUE")]
    parameters: Vec<String>,
    /// How many targets may start, until promote lets more start; ignored by --preview [default: all]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// How many targets may be in progress at the same time, such as 3 or 25% [default: all]
    #[arg(long, value_name = "N|PERCENT")]
    max_concurrent: Option<String>,
    /// How many pods of a workload may be unavailable when a target starts, such as 1 or 25% [default: no limit]
    #[arg(long, value_name = "N|PERCENT")]
    max_unavailable: Option<String>,
    /// The name of the job [default: the API server completes one]
    #[arg(long)]
    name: Option<String>,
    /// Do not create the job: send no request (client), or let the API server check it (server); with -o yaml, print it
    #[arg(
        long,
        value_enum,
        value_name = "none|client|server",
        hide_possible_values = true,
        default_value_t,
        hide_default_value = true
    )]
    dry_run: DryRun,
    /// Change nothing: show what the action would do first with each target; waits for 1m, or as --timeout says. Not safe where a controller of KusionStack runs: it operates the pods
    #[arg(long, group = WAITS)]
    preview: bool,
    #[command(flatten)]
    wait: Wait,
    #[command(flatten)]
    format: Format,
}

impl Arguments {
    fn request(&self, namespace: Option<&str>) -> Request {
        Request {
            action: self.action.clone(),
            targets: self.targets.clone(),
            selector: self.selector.clone(),
            node: self.node.clone(),
            containers: self.containers.clone(),
            parameters: self.parameters.clone(),
            name: self.name.clone(),
            namespace: namespace.map(str::to_owned),
            partition: self.partition,
            max_concurrent: self.max_concurrent.clone(),
            max_unavailable: self.max_unavailable.clone(),
            is_preview: self.preview,
        }
    }
}

pub(crate) async fn run(flags: &Flags, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    // As kubectl does, a job that is only printed has the namespace that was typed, and no other.
    let job = operation_job(&arguments.request(flags.namespace()))?;
    let job = serde_json::to_value(job).context("failed to write the job")?;
    let mut job: DynamicObject = serde_json::from_value(job).context("failed to write the job")?;
    let is_real = arguments.dry_run == DryRun::None;
    if !is_real && (arguments.preview || arguments.wait.end().is_awaited()) {
        bail!(
            "a job that is not created cannot be waited for: --dry-run cannot be used with --wait and --preview"
        );
    }
    if arguments.dry_run == DryRun::Client {
        return said(&job, arguments.format, "created (dry run)");
    }
    let end = if arguments.preview {
        arguments.wait.end_within(PREVIEW)
    } else {
        arguments.wait.end()
    };
    let cluster = flags.connect().await?;
    check(&cluster, &arguments.action).await?;
    job.metadata.namespace = Some(cluster.namespace.clone());
    let advice = "choose another --name, or leave it out";
    let created = async |is_dry| create(&cluster, Kind::OperationJob, &job, is_dry, advice).await;
    if arguments.preview {
        keeps_dry_run(&created(true).await?)?;
    }
    let is_dry = arguments.dry_run == DryRun::Server;
    let created = created(is_dry).await?;
    if is_dry {
        return said(&created, arguments.format, "created (server dry run)");
    }
    said(&created, arguments.format, "created")?;
    if !end.is_awaited() {
        return next(&created, arguments.format);
    }
    let object = parsed(Kind::OperationJob, &created)?;
    let name = object.name().to_owned();
    let follow = Follow::new(&cluster, Kind::OperationJob, end);
    let code = follow.run(object).await?;
    if !arguments.preview {
        return Ok(code);
    }
    Ok(match show_preview(&cluster, &name).await {
        Ok(false) if code == ExitCode::SUCCESS => ExitCode::FAILURE,
        Ok(_) => code,
        // How the wait ended says more.
        Err(error) => {
            complain(&format!("error: {error:#}"));
            code
        }
    })
}

/// Says what was created, or prints it for a program.
fn said(job: &DynamicObject, format: Format, done: &str) -> anyhow::Result<ExitCode> {
    match format.object(Kind::OperationJob, job)? {
        Some(text) => print(&text)?,
        None => say(&format!("{} {done}", name(Kind::OperationJob, job)))?,
    };
    Ok(ExitCode::SUCCESS)
}

/// Says the next command, unless a program reads.
fn next(job: &DynamicObject, format: Format) -> anyhow::Result<ExitCode> {
    let metadata = &job.metadata;
    if let (true, Some(name)) = (format.is_for_people(), &metadata.name) {
        let namespace = metadata.namespace.as_deref().unwrap_or_default();
        say(&format!(
            "Next: kubectl operon get opj/{name} -n {namespace} -w"
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Refuses an action that the cluster does not have. Who may not list ActionPlugins learns it from the job.
async fn check(cluster: &Cluster, action: &str) -> anyhow::Result<()> {
    match actions(cluster).await {
        Ok(known) => Ok(check_action(action, &known)?),
        Err(Failure::Refused { code: 403, .. }) => Ok(()),
        Err(failure) => Err(explained(
            failure,
            "list",
            "ActionPlugins",
            Kind::OperationJob,
        )),
    }
}

/// Refuses a preview if the API server drops `spec.dryRun`, so that the job would operate its targets.
fn keeps_dry_run(job: &DynamicObject) -> anyhow::Result<()> {
    if job.data["spec"]["dryRun"] == true {
        return Ok(());
    }
    bail!(
        "no job was created: the CRD of OperationJobs in the cluster is KusionStack's or an older one without spec.dryRun, so a preview would operate the pods; `kubectl apply --server-side --force-conflicts -f crds/` installs Operon's"
    )
}

/// Shows what a preview found out. Whether the status shows that nothing was changed.
async fn show_preview(cluster: &Cluster, name: &str) -> anyhow::Result<bool> {
    let job = match cluster.get(Kind::OperationJob, name).await? {
        Object::OperationJob(job) => job,
        other => bail!("{} is no OperationJob", other.called()),
    };
    print(&preview(&job))?;
    let is_harmless = changes_nothing(&job);
    if is_harmless {
        say("Nothing was changed.")?;
    } else {
        complain(&format!(
            "error: the pods may have been operated: the job does not have the status of a dry run by Operon; `kubectl delete opj {name} -n {}` ends it",
            cluster.namespace
        ));
    }
    Ok(is_harmless)
}
