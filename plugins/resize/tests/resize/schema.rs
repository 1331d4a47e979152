//! The parameters that the host accepts.

use operon_action_resize::Resize;
use operon_action_schemas::accepts;
use operon_sdk::json;

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
        assert!(
            accepts::<Resize>(&json!({"resources": resources})),
            "{quantity}"
        );
        let containers = json!({"app": resources});
        assert!(
            accepts::<Resize>(&json!({"containers": containers})),
            "{quantity}"
        );
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
        assert!(
            !accepts::<Resize>(&json!({"resources": resources})),
            "{quantity}"
        );
        let containers = json!({"app": resources});
        assert!(
            !accepts::<Resize>(&json!({"containers": containers})),
            "{quantity}"
        );
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
        assert!(!accepts::<Resize>(&parameters), "{parameters}");
    }
}
