//! For tests of actions: whether the host accepts the parameters of a job, by the schema that the action declares. The
//! dialect and the syntax of patterns are those of `host/plugin-runtime/src/values.rs`; its limits are not checked here.

use jsonschema::{Draft, PatternOptions};
use operon_sdk::{Action, Value, testing::FakeJob};

/// Whether the host accepts the parameters of a job for an action without settings.
///
/// # Panics
/// If the action refuses to be set up without settings, or declares no valid schema: the test must fail.
pub fn accepts<A: Action>(parameters: &Value) -> bool {
    let none = Value::Object(serde_json::Map::new());
    let registration = FakeJob::<A>::set_up(&none).expect("it takes no settings");
    let schema: Value = serde_json::from_str(&registration.parameters_schema).expect("a schema");
    let validator = jsonschema::options()
        .with_draft(Draft::Draft202012)
        .with_pattern_options(PatternOptions::regex())
        .build(&schema);
    validator.expect("a schema").is_valid(parameters)
}
