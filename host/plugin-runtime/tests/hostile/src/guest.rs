//! The guest: one function per misbehaviour, chosen by `target.name` in `operate-target`. Every target
//! whose name begins with `endless-loop` loops, with `panic` panics, and with `restless` is asked about again and again.
//!
//! `release-target` sleeps by way of WASI and `get-ops-progress` answers in full, so that each
//! function of the contract is called by some test.

#![expect(clippy::panic, reason = "panicking is one of the misbehaviours")]

pub(crate) mod bindings {
    #![expect(unsafe_code, reason = "generated code calls across the boundary")]
    wit_bindgen::generate!({ path: "../../../../wit/released/0.2.0", world: "action" });
    use super::Hostile;
    export!(Hostile);
}

use std::{hint::black_box, time::Duration};

use bindings::{
    exports::operon::action::handler::{
        ActionError, Guest, Job, Operation, ProgressReport, Registration, Target,
    },
    operon::action::{
        cluster, log,
        types::{
            Effect, Evict, Failure, Mapping, ObjectReference, Patch, PatchKind, Progress, Traits,
            Watch,
        },
    },
};

use crate::{attempts, careless, forbidden};

/// How the name of a target begins that the action wants to be asked about without pause.
const RESTLESS: &str = "restless";

struct Hostile;

impl Guest for Hostile {
    fn setup(settings: String) -> Result<Registration, String> {
        if settings.contains("refuse") {
            return Err("these settings are refused".into());
        }
        if settings.contains("loop") {
            endless_loop();
        }
        let watches = if settings.contains("many-watches") {
            33
        } else if settings.contains("twice") {
            2
        } else {
            1
        };
        let mut watches = vec![watch(); watches];
        if settings.contains("gadgets") {
            watches.push(Watch {
                api_version: "operon.example/v1".into(),
                kind: "Gadget".into(),
                optional: true,
                ..watch()
            });
        }
        Ok(Registration {
            watches,
            settings_schema: schema(&settings),
            parameters_schema: "{}".into(),
            job_label: None,
            traits: Traits::empty(),
            extra: Vec::new(),
        })
    }

    fn operate_target(target: Target, job: Job) -> Result<Operation, ActionError> {
        match target.name.as_str() {
            name if name.starts_with("endless-loop") => endless_loop(),
            name if name.starts_with(RESTLESS) => return Ok(nothing()),
            "memory-bomb" => memory_bomb(),
            "deep-recursion" => {
                black_box(recurse(0));
            }
            name if name.starts_with("panic") => panic!("boom on purpose"),
            "host-call-flood" => host_call_flood(),
            "log-flood" => log_flood(100_000_000),
            "log-much" => log_flood(1_000),
            "log-giant" => log::log(log::Level::Info, &"l".repeat(8 << 20)),
            "giant-result" => return Ok(operation("x".repeat(8 << 20))),
            "empty-strings" => {
                let extra_info = vec![(String::new(), String::new()); 500_000];
                return Ok(Operation {
                    requirements: Vec::new(),
                    limit: None,
                    effects: Vec::new(),
                    extra_info,
                    unfinished: None,
                    extra: Vec::new(),
                });
            }
            "much-extra-info" => {
                let extra_info = (0..40)
                    .map(|n| (format!("key-{n}"), String::new()))
                    .collect();
                return Ok(Operation {
                    requirements: Vec::new(),
                    limit: None,
                    effects: Vec::new(),
                    extra_info,
                    unfinished: None,
                    extra: Vec::new(),
                });
            }
            "bad-json" => return Ok(operation("{not json".into())),
            "deep-json" => return Ok(operation(nested(100_000))),
            "json-bomb" => {
                let values = r#"{"":0},"#.repeat(200_000);
                return Ok(operation(format!("[{values}0]")));
            }
            "crooked-kind" => {
                return Ok(operation(r#"{"apiVersion":"../v1","kind":"Pod"}"#.into()));
            }
            "long-name" => {
                let mut operation = crooked_name();
                if let Some(Effect::Patch(patch)) = operation.effects.first_mut() {
                    patch.object.name = "n".repeat(1 << 20);
                }
                return Ok(operation);
            }
            "many-effects" => {
                return Ok(Operation {
                    requirements: Vec::new(),
                    limit: None,
                    effects: vec![evict(&target); 65],
                    extra_info: Vec::new(),
                    unfinished: None,
                    extra: Vec::new(),
                });
            }
            "long-name-of-a-read" => return Ok(long_name()),
            "long-selector" => return Ok(long_selector()),
            "endless-find" => return Ok(endless_find()),
            "retry" => return Err(ActionError::Retry((failure(), Some(u32::MAX)))),
            "terminal" => return Err(ActionError::Terminal(failure())),
            "read-until-refused" => return Ok(read_until_refused()),
            "exit" => std::process::exit(3),
            "exit-as-if-all-were-well" => std::process::exit(0),
            "wasi-attempts" => return Ok(attempts::operate(&job)),
            "foreign-object" => return Ok(foreign_object()),
            "crooked-name" => return Ok(crooked_name()),
            _ => {}
        }
        let wrong = careless::operate(&target).or_else(|| forbidden::operate(&target));
        Ok(wrong.unwrap_or_else(|| fine(&target, &job)))
    }

    fn get_ops_progress(target: Target, job: Job) -> Result<ProgressReport, ActionError> {
        if let Some(report) = careless::progress(&target, &job) {
            return report;
        }
        let is_restless = target.name.starts_with(RESTLESS);
        Ok(ProgressReport {
            progress: Progress::Processing,
            failure: Some(Failure {
                reason: "not a word".into(),
                message: "line\nline".into(),
            }),
            extra_info: target.extra_info,
            recheck_after: Some(if is_restless { 0 } else { u32::MAX }),
            extra: Vec::new(),
        })
    }

    fn release_target(target: Target, _job: Job) -> Result<Operation, ActionError> {
        if target.name == "sleep" {
            std::thread::sleep(Duration::from_secs(60));
        }
        Ok(Operation {
            requirements: Vec::new(),
            limit: None,
            effects: careless::release(&target),
            extra_info: Vec::new(),
            unfinished: None,
            extra: Vec::new(),
        })
    }
}

fn watch() -> Watch {
    Watch {
        api_version: "v1".into(),
        kind: "ConfigMap".into(),
        label_selector: "app=hostile".into(),
        fields: Vec::new(),
        mappings: vec![Mapping::ExtraInfo("name".into()), Mapping::Namespace],
        optional: false,
        cluster_scoped: false,
        extra: Vec::new(),
    }
}

/// The schema that the settings select: the one in them, or one that is too large for them.
fn schema(settings: &str) -> String {
    if settings.contains("reference-chain") {
        return reference_chain(55_000);
    }
    let given = settings.split_once(r#""schema":"#);
    match given.and_then(|(_, rest)| rest.strip_suffix('}')) {
        Some(schema) => schema.into(),
        None => r#"{"type": "object", "properties": {"seconds": {"type": "integer"}}}"#.into(),
    }
}

/// A schema of so many references, each to the next.
fn reference_chain(length: usize) -> String {
    let mut text = String::from(r##"{"$ref":"#/$defs/00000","$defs":{"##);
    for number in 0..length {
        let next = number + 1;
        text.push_str(&format!(
            r##""{number:05}":{{"$ref":"#/$defs/{next:05}"}},"##
        ));
    }
    text.push_str(&format!(r#""{length:05}":{{}}}}}}"#));
    text
}

/// JSON of so many lists inside each other.
fn nested(levels: usize) -> String {
    "[".repeat(levels) + &"]".repeat(levels)
}

/// An object in a namespace that is not the job's.
fn foreign_object() -> Operation {
    let body = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x","namespace":"kube-system"}}"#;
    Operation {
        requirements: Vec::new(),
        limit: None,
        effects: vec![Effect::Create(body.into())],
        extra_info: Vec::new(),
        unfinished: None,
        extra: Vec::new(),
    }
}

/// A name that is more than one part of a path.
fn crooked_name() -> Operation {
    let object = ObjectReference {
        api_version: "v1".into(),
        kind: "Pod".into(),
        name: "a/../../../kube-system/pods/b?force=true".into(),
    };
    Operation {
        requirements: Vec::new(),
        limit: None,
        effects: vec![Effect::Patch(Patch {
            object,
            subresource: None,
            kind: PatchKind::Merge,
            body: "{}".into(),
            uid: None,
            resource_version: None,
        })],
        extra_info: Vec::new(),
        unfinished: None,
        extra: Vec::new(),
    }
}

/// What a decent action answers: a patch of the pod, and what it saw.
fn fine(target: &Target, job: &Job) -> Operation {
    let labels = target.pod.as_ref().map_or(0, |pod| pod.labels.len());
    Operation {
        requirements: Vec::new(),
        limit: None,
        effects: vec![
            Effect::Patch(Patch {
                object: ObjectReference {
                    api_version: "v1".into(),
                    kind: "Pod".into(),
                    name: target.name.clone(),
                },
                subresource: None,
                kind: PatchKind::Merge,
                body: format!(
                    r#"{{"metadata":{{"annotations":{{"job":"{}"}}}}}}"#,
                    job.name
                ),
                uid: target.uid.clone(),
                resource_version: None,
            }),
            evict(target),
        ],
        extra_info: vec![("labels".into(), labels.to_string())],
        unfinished: None,
        extra: Vec::new(),
    }
}

fn evict(target: &Target) -> Effect {
    Effect::Evict(Evict {
        pod: target.name.clone(),
        uid: None,
        resource_version: None,
        grace_period_seconds: Some(1),
    })
}

fn nothing() -> Operation {
    Operation {
        requirements: Vec::new(),
        limit: None,
        effects: Vec::new(),
        extra_info: Vec::new(),
        unfinished: None,
        extra: Vec::new(),
    }
}

fn operation(body: String) -> Operation {
    Operation {
        requirements: Vec::new(),
        limit: None,
        effects: vec![Effect::Apply(body)],
        extra_info: Vec::new(),
        unfinished: None,
        extra: Vec::new(),
    }
}

fn failure() -> Failure {
    Failure {
        reason: "OnPurpose".into(),
        message: "as the test asked".into(),
    }
}

fn endless_loop() {
    loop {
        black_box(0);
    }
}

fn memory_bomb() {
    let mut hoard: Vec<Vec<u8>> = Vec::new();
    loop {
        hoard.push(black_box(vec![1; 1 << 20]));
    }
}

/// Each frame keeps an array alive, so that nothing turns the recursion into a loop.
#[expect(unconditional_recursion, reason = "it ends where the stack does")]
fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 16]);
    recurse(depth + 1) + black_box(frame)[3]
}

fn host_call_flood() {
    let object = ObjectReference {
        api_version: "v1".into(),
        kind: "Pod".into(),
        name: "any".into(),
    };
    loop {
        let _ = black_box(cluster::get(&object));
    }
}

fn log_flood(lines: u32) {
    for number in 0..lines {
        log::log(
            log::Level::Info,
            &format!("line {number}\nwith a forged line"),
        );
    }
}

/// Reads with a selector above the limit, and reports the answer.
fn long_selector() -> Operation {
    let selector = format!("name in ({})", vec!["x"; 500_000].join(","));
    answered(cluster::find("v1", "ConfigMap", &selector).map(|found| found.len()))
}

/// Reads an object with a name above the limit, and reports the answer.
fn long_name() -> Operation {
    let object = ObjectReference {
        api_version: "v1".into(),
        kind: "ConfigMap".into(),
        name: "x".repeat(1 << 20),
    };
    answered(cluster::get(&object).map(|found| found.map_or(0, |object| object.len())))
}

/// Reads more objects than the memory has room for.
fn endless_find() -> Operation {
    answered(cluster::find("v1", "ConfigMap", "endless").map(|found| found.len()))
}

fn answered(answer: Result<usize, cluster::ReadError>) -> Operation {
    Operation {
        requirements: Vec::new(),
        limit: None,
        effects: Vec::new(),
        extra_info: vec![("answer".into(), format!("{answer:?}"))],
        unfinished: None,
        extra: Vec::new(),
    }
}

/// Reads until the host refuses, and reports how far it came.
fn read_until_refused() -> Operation {
    let mut read = 0;
    let refused = loop {
        match cluster::find("v1", "ConfigMap", "") {
            Ok(objects) => read += objects.len(),
            Err(error) => break error,
        }
    };
    let pods = cluster::find_pods("").map_or(0, |pods| pods.len());
    let extra_info = vec![
        ("read".into(), read.to_string()),
        ("refused".into(), format!("{refused:?}")),
        ("pods".into(), pods.to_string()),
    ];
    Operation {
        requirements: Vec::new(),
        limit: None,
        effects: Vec::new(),
        extra_info,
        unfinished: None,
        extra: Vec::new(),
    }
}
