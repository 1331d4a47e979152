//! `run`: the OperationJob that a command line describes, or why there is none.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::{
    apis::meta::v1::{Condition, ObjectMeta},
    util::intstr::IntOrString,
};
use operon_api::{
    OperationJob,
    conditions::{READY, STANDING_DOWN, find},
    operation_job::{
        DRY_RUN_SAYS, MAX_TARGETS, MOST_PARAMETERS, OperationJobSpec, PodTarget, Progress,
        TargetSelector,
    },
    owner_kind::{self, OwnerKind},
};
use serde_json::{Map, Value};

use crate::{
    Refusal, label_selector,
    text::{count, nearest, printable, reasoned},
    verb::refuse,
};

/// How long a preview is kept after it has finished, in seconds.
const PREVIEW_IS_KEPT: i32 = 300;

/// What the status of a job shows of a dry run: that of so many targets.
const PREVIEWED: usize = 20;

/// The words that kubectl has for pods.
const PODS: [&str; 3] = ["pod", "pods", "po"];

/// What a user wants to run, as typed.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The action.
    pub action: String,
    /// Pods, or the controller of pods.
    pub targets: Vec<String>,
    /// A label selector.
    pub selector: Option<String>,
    /// The node of the pods.
    pub node: Option<String>,
    /// The containers to operate.
    pub containers: Vec<String>,
    /// The parameters, each as `KEY=VALUE`.
    pub parameters: Vec<String>,
    /// The name of the job; absent: the API server completes one.
    pub name: Option<String>,
    /// The namespace; absent: that of the client.
    pub namespace: Option<String>,
    /// How many targets may start.
    pub partition: Option<i32>,
    /// How many targets may be in progress at the same time: a number or a percentage.
    pub max_concurrent: Option<String>,
    /// How many pods of a workload may be unavailable: a number or a percentage.
    pub max_unavailable: Option<String>,
    /// Whether nothing is changed, and the job shows what it would do.
    pub is_preview: bool,
}

/// What a word before a `/` selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selectable {
    /// A pod.
    Pod,
    /// The pods of a controller.
    Owner(OwnerKind),
}

/// What a word before a `/` selects, if it is one that kubectl has for a kind with pods.
pub fn selectable(word: &str) -> Option<Selectable> {
    // `deployment.apps`, as `-o name` of kubectl prints it.
    let lower = word.to_lowercase();
    let word = lower.split('.').next().unwrap_or_default();
    if PODS.contains(&word) {
        return Some(Selectable::Pod);
    }
    let mut kinds = owner_kind::ALL.into_iter();
    let kind = kinds.find(|kind| kind.words().any(|known| known == word));
    kind.map(Selectable::Owner)
}

/// The job that a user wants.
pub fn operation_job(request: &Request) -> Result<OperationJob, Refusal> {
    let (targets, owner) = targets(&request.targets)?;
    let is_selected = owner.is_some() || request.selector.is_some() || request.node.is_some();
    if !targets.is_empty() && is_selected {
        return refuse(
            "name pods, or select them by deployment/NAME, -l and --node: a job has one or the other",
        );
    }
    if targets.is_empty() && !is_selected {
        return refuse(
            "nothing to operate: name pods, or select them by deployment/NAME, -l SELECTOR or --node NAME",
        );
    }
    let containers = (!request.containers.is_empty()).then(|| request.containers.clone());
    let metadata = metadata(request, owner.as_deref(), &targets)?;
    let selector = request.selector.as_deref().map(label_selector::parse);
    let target_selector = is_selected.then_some(TargetSelector {
        label_selector: selector.transpose()?,
        owner,
        node_name: request.node.clone(),
        containers: containers.clone(),
    });
    let pod = |name| PodTarget {
        name,
        containers: containers.clone(),
    };
    let spec = OperationJobSpec {
        action: request.action.clone(),
        targets: targets.into_iter().map(pod).collect(),
        target_selector,
        parameters: parameters(&request.parameters)?,
        dry_run: request.is_preview,
        // Nothing would promote the targets that it holds back.
        partition: request.partition.filter(|_| !request.is_preview),
        max_concurrent: amount(request.max_concurrent.as_deref(), "--max-concurrent")?,
        max_unavailable: amount(request.max_unavailable.as_deref(), "--max-unavailable")?,
        ttl_seconds_after_finished: request.is_preview.then_some(PREVIEW_IS_KEPT),
        ..OperationJobSpec::default()
    };
    Ok(OperationJob {
        metadata,
        spec,
        status: None,
    })
}

/// Refuses an action that the cluster does not have. `known` are the actions of its ActionPlugins.
pub fn check_action(action: &str, known: &BTreeSet<String>) -> Result<(), Refusal> {
    if known.contains(action) {
        return Ok(());
    }
    let names = || known.iter().map(String::as_str);
    let advice = match nearest(action, names()) {
        Some(nearest) => format!("did you mean {nearest}?"),
        None if known.is_empty() => "it has no ActionPlugin at all".to_owned(),
        None => format!("it has {}", names().collect::<Vec<_>>().join(", ")),
    };
    refuse(format!(
        "no ActionPlugin of the cluster has the action {action:?}; {advice}"
    ))
}

/// What a job with `dryRun` would do, for people.
pub fn preview(job: &OperationJob) -> String {
    let status = job.status.as_ref();
    let details = status.map_or(&[][..], |status| &status.target_details);
    let mut lines = Vec::new();
    for detail in details.iter().take(PREVIEWED) {
        let state = match detail.progress {
            Progress::Succeeded if detail.dry_run.is_empty() => "succeeded",
            Progress::Succeeded => "would do",
            Progress::Failed => "is refused",
            Progress::Pending | Progress::Processing => "is not checked",
        };
        lines.push(format!("{} {state}", detail.name));
        let effects = detail.dry_run.iter();
        lines.extend(effects.map(|effect| format!("  {}", printable(effect))));
        if let Some(error) = &detail.error {
            let text = reasoned(&error.reason, &error.message);
            lines.push(format!("  {}", printable(&text)));
        }
    }
    let total = job.targets().len().max(details.len());
    if let Some(more) = total.checked_sub(PREVIEWED).filter(|more| *more > 0) {
        lines.push(format!("… and {}", count(more, "more target")));
    }
    // The last line has an end too, if there is one.
    lines.push(String::new());
    lines.join("\n")
}

/// Whether the status shows that Operon changes nothing for this job. Another controller, or an older version of Operon,
/// does not know `spec.dryRun` and operates the targets.
pub fn changes_nothing(job: &OperationJob) -> bool {
    let Some(status) = &job.status else {
        return false;
    };
    let is_left_to_others =
        find(&status.conditions, STANDING_DOWN).is_some_and(|found| found.status == "True");
    // A job without targets says only why it has none.
    let says_so = |ready: &Condition| {
        ready.message.contains(DRY_RUN_SAYS) || status.target_details.is_empty()
    };
    job.spec.dry_run && !is_left_to_others && find(&status.conditions, READY).is_some_and(says_so)
}

/// Refuses a word for a kind without pods.
fn not_selectable<T>(word: &str, kind: &str, name: &str) -> Result<T, Refusal> {
    let of_owners = owner_kind::ALL.iter().flat_map(|kind| kind.words());
    let words: Vec<_> = of_owners.chain(PODS.map(str::to_owned)).collect();
    let advice = match nearest(kind, words.iter().map(String::as_str)) {
        Some(nearest) => format!("did you mean {nearest}/{name}?"),
        None => format!(
            "write a pod, or one of {}",
            owner_kind::ALL.map(|kind| kind.word).join(", ")
        ),
    };
    refuse(format!("{word:?} has no pods to select by; {advice}"))
}

/// The pods that the words name, or the controller.
fn targets(words: &[String]) -> Result<(Vec<String>, Option<String>), Refusal> {
    let (mut pods, mut owner) = (Vec::new(), None);
    for word in words {
        let (kind, name) = word.split_once('/').unwrap_or((PODS[0], word));
        if !is_name(name) {
            return refuse(format!("{name:?} is no name of an object"));
        }
        match selectable(kind) {
            None => return not_selectable(word, kind, name),
            Some(Selectable::Pod) => pods.push(name.to_owned()),
            Some(Selectable::Owner(kind)) => {
                let found = format!("{}/{name}", kind.word);
                if let Some(other) = owner.replace(found.clone()) {
                    return refuse(format!(
                        "a job selects the pods of one controller: run it once for {other} and once for {found}"
                    ));
                }
            }
        }
    }
    let mut seen = BTreeSet::new();
    if let Some(twice) = pods.iter().find(|pod| !seen.insert(*pod)) {
        return refuse(format!("pod {twice:?} is named twice"));
    }
    if pods.len() > MAX_TARGETS {
        return refuse(format!(
            "{} are too many for one job, which may have {MAX_TARGETS}",
            count(pods.len(), "pod")
        ));
    }
    Ok((pods, owner))
}

fn metadata(
    request: &Request,
    owner: Option<&str>,
    pods: &[String],
) -> Result<ObjectMeta, Refusal> {
    if let Some(name) = &request.name
        && !is_name(name)
    {
        return refuse(format!("{name:?} is no name of an object"));
    }
    let begin = if request.is_preview { "preview-" } else { "" };
    let action = request.action.to_lowercase().replace(['_', '.'], "-");
    let about = match (owner.and_then(|owner| owner.split_once('/')), pods) {
        (Some((_, name)), _) => format!("-{name}"),
        (None, [pod]) => format!("-{pod}"),
        (None, _) => String::new(),
    };
    let generated = format!("{begin}{action}{about}-");
    Ok(ObjectMeta {
        generate_name: request.name.is_none().then_some(generated),
        name: request.name.clone(),
        namespace: request.namespace.clone(),
        ..ObjectMeta::default()
    })
}

/// A value is JSON if it can be read as that, and text otherwise.
fn parameters(words: &[String]) -> Result<Map<String, Value>, Refusal> {
    let mut parameters = Map::new();
    for word in words {
        let Some((key, value)) = word.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            return refuse(format!("{word:?} is no parameter: write --param KEY=VALUE"));
        };
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
        if parameters.insert(key.to_owned(), value).is_some() {
            return refuse(format!("the parameter {key:?} is set twice"));
        }
    }
    let size = Value::from(parameters.clone()).to_string().len();
    if size > MOST_PARAMETERS {
        return refuse(format!(
            "the parameters have {size} bytes as JSON; a job may have {MOST_PARAMETERS}"
        ));
    }
    Ok(parameters)
}

/// `3` or `25%`, above 0.
fn amount(text: Option<&str>, flag: &str) -> Result<Option<IntOrString>, Refusal> {
    let Some(text) = text else {
        return Ok(None);
    };
    let number = text.strip_suffix('%').unwrap_or(text);
    match number.parse::<i32>() {
        Ok(1..) if number.len() < text.len() => Ok(Some(IntOrString::String(text.to_owned()))),
        Ok(number @ 1..) => Ok(Some(IntOrString::Int(number))),
        Ok(_) | Err(_) => refuse(format!(
            "{flag} is a number of at least 1, or a percentage such as 25%, and not {text:?}"
        )),
    }
}

/// Whether an object of Kubernetes may have this name.
fn is_name(name: &str) -> bool {
    let fits = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    name.len() <= 253
        && name.starts_with(fits)
        && name.ends_with(fits)
        && name
            .chars()
            .all(|letter| fits(letter) || "-.".contains(letter))
}
