//! The parameters that the host accepts.

use jsonschema::{Draft, PatternOptions};
use operon_action_resize::Resize;
use operon_sdk::testing::FakeJob;
use operon_sdk::{Value, json};

/// Whether the host accepts the parameters.
fn accepts(parameters: &Value) -> bool {
    let registration = FakeJob::<Resize>::set_up(&json!({})).expect("it takes no settings");
    let schema: Value = serde_json::from_str(&registration.parameters_schema).expect("a schema");
    let validator = jsonschema::options()
        .with_draft(Draft::Draft202012)
        .with_pattern_options(PatternOptions::regex())
        .build(&schema);
    validator.expect("a schema").is_valid(parameters)
}

#[test]
fn a_quantity_is_that_of_kubernetes_and_not_negative() {
    for quantity in [
        json!("100m"),
        json!(".5"),
        json!("1."),
        json!("+1"),
        json!("64Mi"),
        json!("1e3"),
        json!("1E-3"),
        json!("0"),
        json!(0.25),
        json!(2),
    ] {
        let resources = json!({"requests": {"cpu": quantity}, "limits": {"memory": quantity}});
        assert!(accepts(&json!({"resources": resources})), "{quantity}");
        let containers = json!({"app": resources});
        assert!(accepts(&json!({"containers": containers})), "{quantity}");
    }
    for quantity in [
        json!("-1"),
        json!("1x"),
        json!(""),
        json!("."),
        json!("m"),
        json!("1 Mi"),
        json!("1Mi\n"),
        json!("1e"),
        json!(-1),
        json!(-0.25),
        json!(null),
        json!(true),
    ] {
        let resources = json!({"limits": {"cpu": quantity}});
        assert!(!accepts(&json!({"resources": resources})), "{quantity}");
        let containers = json!({"app": resources});
        assert!(!accepts(&json!({"containers": containers})), "{quantity}");
    }
}

#[test]
fn the_schema_refuses_what_is_not_a_parameter() {
    for parameters in [
        json!({}),
        json!({"resources": {}}),
        json!({"resources": {"requests": {}}}),
        json!({"resources": {"requests": {"ephemeral-storage": "1Gi"}}}),
        json!({"resources": {"claims": []}}),
        json!({"containers": {}}),
        json!({"containers": {"app": {}}}),
        json!({"containers": [{"name": "app", "requests": {"cpu": 1}}]}),
        json!({"requests": {"cpu": 1}}),
    ] {
        assert!(!accepts(&parameters), "{parameters}");
    }
}
