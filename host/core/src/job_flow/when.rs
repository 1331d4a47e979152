//! `when`: whether a step runs, as an expression over the results of others.
//!
//! A user's expression is parsed and evaluated in this process, so its cost is bounded in advance: its
//! length, its nesting and the size of its tree are limited, it iterates over a list at most once, it calls
//! only functions with a cost that their arguments bound, and it can't build large values. So it ends soon
//! and uses little memory. An expression that could need much stack is parsed on a thread with a large
//! stack; the evaluated tree is not deep.

mod shape;

use std::{
    collections::{BTreeSet, HashMap},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, LazyLock},
};

use cel::{
    Context, Env, ExecutionError, Value,
    objects::{Key, Map},
    parser::{Expression, PrattParser},
};
use operon_api::job_flow::{Phase, StepStatus};

use self::shape::{MAX_DEPTH, MAX_NODES, Shape};
use crate::jobs::text;

/// The most bytes of an expression: enough to name some 700 steps.
pub(super) const MAX_LENGTH: usize = 32 << 10;

/// How many signs that may nest something need little stack. A tree can be as deep as there are signs, and
/// is dropped by recursion.
const FEW_SIGNS: usize = 400;

/// The stack of a thread for all others: 2 KiB for each byte of the longest text.
const STACK: usize = MAX_LENGTH << 11;

/// How deep brackets may nest.
const MAX_BRACKETS: u16 = 24;

/// The most bytes of an error that are reported.
const MAX_MESSAGE: usize = 300;

/// An expression that can be evaluated.
#[derive(Debug)]
pub(super) struct When {
    expression: Expression,
    shape: Shape,
}

/// The result of an expression.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer<'a> {
    /// It is true.
    True,
    /// It is false.
    False,
    /// It counts as false: it needs an output that does not exist, because its step did not succeed.
    Lacks {
        step: &'a StepStatus,
        output: String,
    },
}

/// Why an expression has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WhenError {
    #[error("it has {0} bytes; at most {MAX_LENGTH} are allowed")]
    TooLong(usize),
    #[error(
        "it is too large: at most {MAX_NODES} names, strings and operators are allowed, and at most {MAX_DEPTH} levels of nesting; to check all steps, use steps.all(s, …) or steps.exists(s, …)"
    )]
    TooLarge,
    #[error("{0}")]
    Syntax(String),
    #[error("{0}")]
    NotAvailable(String),
    #[error("{0}")]
    Evaluation(String),
    #[error("its type is {0}, not bool")]
    NotBool(String),
    #[error("the evaluator failed on it")]
    Crash,
}

/// What expressions can use; built once, because that takes longer than an evaluation.
static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

impl When {
    /// Parses an expression and looks at all that it may do.
    pub(super) fn compile(text: &str) -> Result<Self, WhenError> {
        if text.len() > MAX_LENGTH {
            return Err(WhenError::TooLong(text.len()));
        }
        if brackets(text) > usize::from(MAX_BRACKETS) {
            return Err(WhenError::TooLarge);
        }
        if signs(text) <= FEW_SIGNS {
            return Self::parse(text);
        }
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(STACK);
            let parsed = thread.spawn_scoped(scope, || Self::parse(text));
            let parsed = parsed.map_err(|_| WhenError::Crash)?;
            parsed.join().map_err(|_| WhenError::Crash)?
        })
    }

    fn parse(text: &str) -> Result<Self, WhenError> {
        let parser = PrattParser::new()
            .max_recursion_depth(2 * MAX_BRACKETS)
            .error_recovery_limit(1);
        let parsed = catch_unwind(AssertUnwindSafe(|| parser.parse(text)));
        let expression = parsed.map_err(|_| WhenError::Crash)?.map_err(|errors| {
            let first = errors.errors.first();
            let (message, place) = first.map_or(("", 0), |e| (e.msg.as_str(), e.pos.1));
            WhenError::Syntax(text::short(
                &format!("{message} (at character {place})"),
                MAX_MESSAGE,
            ))
        })?;
        let shape = Shape::of(&expression)?;
        Ok(Self { expression, shape })
    }

    /// The steps that it names.
    pub(super) fn steps(&self) -> &BTreeSet<String> {
        &self.shape.steps
    }

    /// The outputs that it names, each with its step.
    pub(super) fn outputs(&self) -> &BTreeSet<(String, String)> {
        &self.shape.outputs
    }

    /// The outputs that it names of steps that only the evaluation knows.
    pub(super) fn outputs_of_any(&self) -> &BTreeSet<String> {
        &self.shape.outputs_of_any
    }

    /// The largest cost of an evaluation with this number of visible steps.
    pub(super) fn cost(&self, steps: usize) -> usize {
        let built = if self.shape.is_about_all {
            steps
        } else {
            self.shape.steps.len()
        };
        let rounds = if self.shape.goes_through {
            steps.max(self.shape.size)
        } else {
            1
        };
        built + self.shape.size * rounds
    }

    /// Its result, given the results of the steps that it may refer to.
    pub(super) fn answer<'a>(
        &self,
        steps: impl Iterator<Item = &'a StepStatus>,
    ) -> Result<Answer<'a>, WhenError> {
        let is_asked =
            |step: &&StepStatus| self.shape.is_about_all || self.shape.steps.contains(&step.name);
        let asked: Vec<&StepStatus> = steps.filter(is_asked).collect();
        let facts: HashMap<String, Value> = asked
            .iter()
            .map(|step| (step.name.clone(), facts(step)))
            .collect();
        let evaluated = catch_unwind(AssertUnwindSafe(|| {
            let mut context = Context::with_env(Arc::clone(&ENVIRONMENT));
            context.add_variable_from_value("steps", Value::from(facts));
            Value::resolve(&self.expression, &context)
        }));
        match evaluated.map_err(|_| WhenError::Crash)? {
            Ok(Value::Bool(true)) => Ok(Answer::True),
            Ok(Value::Bool(false)) => Ok(Answer::False),
            Ok(other) => Err(WhenError::NotBool(other.type_of().to_string())),
            Err(error) => self
                .lacks(&error, &asked)
                .ok_or_else(|| WhenError::Evaluation(text::short(&error.to_string(), MAX_MESSAGE))),
        }
    }

    /// The output that an evaluation ended at, if its step did not succeed.
    fn lacks<'a>(&self, error: &ExecutionError, asked: &[&'a StepStatus]) -> Option<Answer<'a>> {
        let ExecutionError::NoSuchKey(key) = error else {
            return None;
        };
        let output = key.as_str();
        let lacks_it = |step: &&&StepStatus| {
            let named = (step.name.clone(), output.to_owned());
            let is_named =
                self.shape.outputs.contains(&named) || self.shape.outputs_of_any.contains(output);
            is_named && step.phase != Phase::Succeeded && !step.outputs.contains_key(output)
        };
        asked.iter().find(lacks_it).map(|step| Answer::Lacks {
            step,
            output: output.to_owned(),
        })
    }
}

/// What an expression sees of a step.
fn facts(step: &StepStatus) -> Value {
    let text = |text: &str| Value::from(text);
    let outputs = step.outputs.iter();
    let outputs: HashMap<Key, Value> = outputs
        .map(|(key, value)| (Key::from(key.as_str()), text(value)))
        .collect();
    let map = HashMap::from([
        (Key::from("phase"), text(step.phase.as_str())),
        (
            Key::from("reason"),
            text(step.reason.as_deref().unwrap_or_default()),
        ),
        (
            Key::from("outputs"),
            Value::Map(Map {
                map: Arc::new(outputs),
            }),
        ),
    ]);
    Value::Map(Map { map: Arc::new(map) })
}

/// How many characters of a text may nest something. Characters inside quotes count too: only the parser
/// can tell quotes and comments apart.
fn signs(text: &str) -> usize {
    let harmless = b"\"'_,&|";
    let is_sign = |byte: &u8| byte.is_ascii_punctuation() && !harmless.contains(byte);
    text.bytes().filter(is_sign).count() + text.matches("in").count()
}

/// How deep the brackets of a text nest at most, if every one of them is one.
fn brackets(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

#[cfg(test)]
mod tests;
