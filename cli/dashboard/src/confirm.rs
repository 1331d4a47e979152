//! The page that asks for confirmation of a verb, and what is done with the answer.
//!
//! The question is made from the object as the API server has it. The answer reads it once more, and writes only if the
//! effect is still the one that was confirmed. Whatever the result is, a confirmation cannot be used again.

use askama::Template;
use axum::http::StatusCode;
use k8s_openapi::jiff::Timestamp;
use operon_cli_cluster::{Cluster, Unwritten, parsed, perform};
use operon_cli_model::{Decision, Effect, Kind, Object, Promotion, Verb, effect};

use crate::{
    fragment::Sign,
    gate::random,
    intent::{Ask, Intent},
    ledger::Outcome,
    part::{Part, Source, code, failed, shown},
    place::address,
    shown::What,
};

/// How often a write is tried while the status of the object changes between its reading and its writing.
const ATTEMPTS: usize = 5;

/// How many lines of what is written are shown.
const LINES: usize = 200;

/// The question.
#[derive(Template)]
#[template(path = "confirm.html")]
struct Question {
    /// Why the answer to an earlier question was not carried out; empty if there was none.
    alert: String,
    sign: Sign,
    state: &'static str,
    progress: (usize, usize),
    explanation: String,
    /// What would be done, in a sentence.
    says: String,
    /// Where it would be written.
    writes: String,
    lines: Vec<String>,
    /// How many lines are not shown.
    more: usize,
    /// Why it cannot be done; empty if it can.
    disabled: String,
    form: Option<Form>,
    number: Option<Number>,
    /// The page of the object.
    back: String,
}

/// The form of the answer.
struct Form {
    address: String,
    token: String,
    button: String,
}

/// The form by which a user chooses how many targets or pods are promoted.
struct Number {
    path: String,
    label: &'static str,
    value: String,
}

#[derive(Template)]
#[template(
    source = r#"<p><a href="{{ object }}">{{ called }}</a></p><h1>{{ title }}</h1>"#,
    ext = "html"
)]
struct Head<'a> {
    object: &'a str,
    called: &'a str,
    title: &'a str,
}

/// Why an answer was not carried out.
struct Alert {
    code: StatusCode,
    text: String,
}

impl Source {
    /// The page that asks.
    pub(crate) async fn question(&self, intent: &Intent) -> Part {
        self.asked(intent, None).await
    }

    /// Carries out an answer: the address that shows the result, or the page that says why not, and asks again.
    pub(crate) async fn answered(&self, intent: &Intent, token: &str) -> Result<String, Part> {
        let cluster = self.cluster.within(&intent.namespace);
        let carry_out = |decision| carried_out(cluster, intent.clone(), decision);
        let alert = match self.ledger.answer(token, intent, carry_out) {
            Some(answer) => match &*answer.await {
                Outcome::Done { says: _, to } => return Ok(format!("{to}?done={token}")),
                Outcome::Failed { code, text } => Alert {
                    code: *code,
                    text: text.clone(),
                },
            },
            None => Alert {
                code: StatusCode::CONFLICT,
                text: "this question is too old; see whether the effect is still what you want"
                    .to_owned(),
            },
        };
        if alert.code == StatusCode::FORBIDDEN {
            self.rights.forget();
        }
        Err(self.asked(intent, Some(alert)).await)
    }

    async fn asked(&self, intent: &Intent, alert: Option<Alert>) -> Part {
        let (back, title) = (intent.object(), intent.title());
        let head = Head {
            object: &back,
            called: &format!(
                "{} {}/{}",
                intent.kind.name(),
                intent.namespace,
                intent.name
            ),
            title: &title,
        };
        let head = head.render();
        let title = match &alert {
            Some(_) => format!("Not done: {title}"),
            None => title,
        };
        let cluster = self.cluster.within(&intent.namespace);
        let object = match cluster.get(intent.kind, &intent.name).await {
            Ok(object) => object,
            Err(error) => {
                let head = head.unwrap_or_else(|error| error.to_string());
                let text = format!("{error:#}");
                let alert = alert.map(|alert| alert.text).filter(|alert| *alert != text);
                let notes = alert.into_iter().collect();
                return failed(title, head, code(&error), notes, &text);
            }
        };
        let now = Timestamp::now();
        let decision = Decision::of(&object, intent.ask.verb(now));
        let refusal = match &decision {
            Ok(decision) => self.refusal(&object, decision.effect().right()).await,
            Err(refusal) => Some(refusal.to_string()),
        };
        let token = match random() {
            Ok(token) => token,
            Err(error) => {
                let code = StatusCode::INTERNAL_SERVER_ERROR;
                return failed(title, String::new(), code, Vec::new(), &error.to_string());
            }
        };
        let mut code = match (&decision, &refusal) {
            (Ok(_), None) => StatusCode::OK,
            (Ok(_), Some(_)) => StatusCode::FORBIDDEN,
            (Err(_), _) => StatusCode::CONFLICT,
        };
        let mut question = Question::of(&object, intent);
        if let Ok(decision) = &decision {
            question.shows(decision.effect(), &object);
        }
        match (decision, refusal) {
            (Ok(decision), None) => {
                question.form = Some(Form::of(intent, &object, token.clone()));
                self.ledger.ask(token, intent.clone(), decision);
            }
            (_, refusal) => question.disabled = refusal.unwrap_or_default(),
        }
        if let Some(alert) = alert {
            code = alert.code;
            question.alert = alert.text;
        }
        let mut part = shown(title, head, question.render());
        if part.code == StatusCode::OK {
            part.code = code;
        }
        part
    }
}

impl Question {
    /// The question about the object, without what would be done.
    fn of(object: &Object, intent: &Intent) -> Self {
        Self {
            alert: String::new(),
            sign: Sign::of(object.mark()),
            state: object.state(),
            progress: object.progress(),
            explanation: object.explanation(),
            says: String::new(),
            writes: String::new(),
            lines: Vec::new(),
            more: 0,
            disabled: String::new(),
            form: None,
            number: Number::of(object, intent),
            back: intent.object(),
        }
    }

    /// Says what would be done.
    fn shows(&mut self, effect: &Effect, object: &Object) {
        let (kind, namespace) = (object.kind().name(), object.namespace());
        let called = format!("{kind} {} in namespace {namespace}", object.name());
        self.writes = match effect {
            Effect::Patch { .. } => format!("It would write these fields of {called}:"),
            Effect::Create { .. } => {
                format!("It would create this {kind} in namespace {namespace}:")
            }
            Effect::Delete { .. } => format!("It would delete {called}."),
        };
        effect.says().clone_into(&mut self.says);
        let written = effect.written();
        let text = written.map(|written| format!("{written:#}"));
        let text = text.unwrap_or_default();
        self.lines = text.lines().take(LINES).map(str::to_owned).collect();
        self.more = text.lines().count().saturating_sub(LINES);
    }
}

impl Form {
    fn of(intent: &Intent, object: &Object, token: String) -> Self {
        let (label, called) = (intent.ask.label(), object.called());
        Self {
            address: intent.address(),
            token,
            button: match intent.ask {
                Ask::Cancel => format!("{label} {called}: delete it"),
                Ask::Promote(Promotion::All) => format!("Promote all of {called}"),
                Ask::Promote(_) | Ask::Pause | Ask::Resume | Ask::Retry | Ask::Rerun => {
                    format!("{label} {called}")
                }
            },
        }
    }
}

impl Number {
    /// The form, if more targets or pods can be promoted.
    fn of(object: &Object, intent: &Intent) -> Option<Self> {
        let Ask::Promote(promotion) = intent.ask else {
            return None;
        };
        effect(object, Verb::Promote(Promotion::All)).ok()?;
        Some(Self {
            path: intent.path(),
            label: match object.kind() {
                Kind::CollaSet => "Pods that may be updated, in total",
                Kind::OperationJob | Kind::JobFlow | Kind::DaemonJob | Kind::ReactiveJob => {
                    "Targets that may start, in total"
                }
            },
            value: match promotion {
                Promotion::To(number) => number.to_string(),
                Promotion::Next | Promotion::All => String::new(),
            },
        })
    }
}

/// Writes what was confirmed, if it is still the effect. Guarantees that it is written at most once: it is tried again only
/// after the API server refused it because the object had changed.
async fn carried_out(cluster: Cluster, intent: Intent, decision: Decision) -> Outcome {
    for _ in 0..ATTEMPTS {
        let object = match cluster.get(intent.kind, &intent.name).await {
            Ok(object) => object,
            Err(error) => {
                return Outcome::Failed {
                    code: code(&error),
                    text: format!("{error:#}"),
                };
            }
        };
        let effect = match decision.confirmed(&object) {
            Ok(effect) => effect,
            Err(changed) => {
                return Outcome::Failed {
                    code: StatusCode::CONFLICT,
                    text: changed.to_string(),
                };
            }
        };
        let is_new = matches!(effect, Effect::Create { .. });
        let is_deleted = matches!(effect, Effect::Delete { .. });
        match perform(&cluster, &object, effect).await {
            Ok((says, written)) => {
                let written = written.and_then(|written| parsed(intent.kind, &written).ok());
                let name = written.as_ref().map_or(object.name(), Object::name);
                let what = What::Ours(intent.kind);
                let to = if is_deleted {
                    "/".to_owned()
                } else {
                    address(what, &intent.namespace, name)
                };
                return Outcome::Done { says, to };
            }
            Err(unwritten) if unwritten.code == Some(409) && !is_new => {}
            Err(unwritten) => return failure(&unwritten),
        }
    }
    Outcome::Failed {
        code: StatusCode::CONFLICT,
        text: format!(
            "the object changed between each reading and writing, {ATTEMPTS} times; nothing was written, so try again"
        ),
    }
}

fn failure(unwritten: &Unwritten) -> Outcome {
    let code = match unwritten.code {
        Some(403) => StatusCode::FORBIDDEN,
        Some(404) => StatusCode::NOT_FOUND,
        Some(409) => StatusCode::CONFLICT,
        Some(_) | None => StatusCode::BAD_GATEWAY,
    };
    let doubt = if unwritten.may_be_done {
        "; it may have been written all the same, and what you see here was read afterwards"
    } else {
        ""
    };
    Outcome::Failed {
        code,
        text: format!("{unwritten}{doubt}"),
    }
}
