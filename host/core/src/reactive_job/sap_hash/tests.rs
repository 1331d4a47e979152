//! The template hash of SAP's operator against what Go computes: each expected hash, JSON text and
//! quantity comes from a Go program on k8s.io/api (0.36 for current builds, 0.32 for older ones).

use serde_json::{Value, json};

use super::{Build, SapHashes, go_json, quantity::canonical, sap_hashes};

/// The notation of a quantity, and Go's canonical form.
const QUANTITIES: &[(&str, &str)] = &[
    ("1000m", "1"),
    ("0.5", "500m"),
    ("0.0005", "500u"),
    ("1024Mi", "1Gi"),
    ("1500Mi", "1500Mi"),
    ("1.5Gi", "1536Mi"),
    ("3.3Mi", "3460300800m"),
    ("2048", "2048"),
    ("100k", "100k"),
    ("1E", "1E"),
    ("1e3", "1e3"),
    ("1e1", "10"),
    ("1000e3", "1e6"),
    ("0Mi", "0"),
    ("-1000m", "-1"),
    ("-0.5Ki", "-512"),
    // Below a billionth Go rounds away from zero.
    ("0.1n", "1n"),
    ("1.5e-10", "1e-9"),
    // Longer than an int64, and capped because it is binary.
    ("12345678901234567890", "12345678901234567890"),
    ("9223372036854775808Ki", "9223372036854775807"),
    // Spellings that Go takes for canonical, and a suffix that it does not have.
    ("1.500", "1.500"),
    ("00250m", "00250m"),
    ("+5Ki", "+5Ki"),
    ("1000E", "1"),
];

const NO_QUANTITIES: &[&str] = &[
    "",
    "-",
    ".",
    "Ki",
    "e3",
    "1KB",
    "1ki",
    "1e",
    "1e1.5",
    "1 Gi",
    "0x10",
    "NaN",
    "1e99999999999",
];

fn readme_example() -> Value {
    json!({
        "metadata": {"annotations": {"digest": "abc123"}},
        "spec": {
            "ttlSecondsAfterFinished": 120,
            "template": {"spec": {
                "containers": [{"name": "main", "image": "alpine", "command": ["sleep", "10"]}],
                "restartPolicy": "Never",
            }},
        },
    })
}

fn large_template() -> Value {
    serde_json::from_str(include_str!("large_job_template.json")).expect("the file is JSON")
}

/// A template with one container, which has `key` set to `value`.
fn with_container(key: &str, value: Value) -> Value {
    let mut container = json!({"name": "main"});
    container[key] = value;
    json!({"spec": {"template": {"spec": {"containers": [container]}}}})
}

fn hashes(current: &str, before_0_1_37: &str) -> SapHashes {
    SapHashes {
        current: current.to_owned(),
        before_0_1_37: before_0_1_37.to_owned(),
    }
}

fn current_json(template: &Value) -> Option<String> {
    go_json(template, Build::Current)
}

#[test]
fn templates_have_the_hashes_that_go_computes() {
    let cases = [
        (
            readme_example(),
            "b90fc1291c7a948b5eb74ea6ffc0e531e9de6f5b32c853f16a9a2d43cc98d794",
            "7a4e8d3e61655baaadccfb8261f96e35882da6bbda13ee98e5cb50c51446a6f0",
        ),
        (
            json!({}),
            "9c30c2283e6244bcdf5b3e11a3f82509dc9e8ade49d28e317c0a1a210fa57f45",
            "d51250825a75d036064852bab012096e6dc1c6299d0d964e2fe9a8e4a2ec4aeb",
        ),
        (
            json!({"spec": {"suspend": false, "backoffLimit": 0,
                "template": {"spec": {"containers": []}}}}),
            "26bce2ecb0c4c427297c2b8746e5ac035322ac789e679148caa3b6611ca09af5",
            "d29781d238ec6255b7bc76da92f2ae7835f9918176eae7c261169969bf432cba",
        ),
        (
            json!({"spec": {"template": {"spec": {"containers": [{"name": "main",
                "resources": {"limits": {"memory": "1.5Gi", "cpu": "0.1"}, "requests": {"cpu": 1}},
                "livenessProbe": {"httpGet": {"port": "http"}}}]}}}}),
            "5a7806c6bdd4f0c26957623f045fc91f574d68c2e646066cbbb15140948136dc",
            "569dd59be08cf9913ac6fc4a65ea896e09ce6368f11f984b1bfa69d34ed909d9",
        ),
        (
            large_template(),
            "0821cef5d7642ad0772416b0aaa56644780522296838e8ee55c711d534d4c174",
            "9e126deaabdee92a880ec5545b7d652481ba1c1fcbe39e220fe82af6e20982cc",
        ),
    ];
    for (template, current, before_0_1_37) in cases {
        assert_eq!(
            sap_hashes(&template),
            Some(hashes(current, before_0_1_37)),
            "{template}"
        );
    }
}

#[test]
fn the_text_is_in_the_order_of_go_with_the_structs_that_go_always_writes() {
    assert_eq!(
        current_json(&readme_example()).as_deref(),
        Some(concat!(
            r#"{"metadata":{"annotations":{"digest":"abc123"}},"spec":{"template":{"metadata":{},"#,
            r#""spec":{"containers":[{"name":"main","image":"alpine","command":["sleep","10"],"#,
            r#""resources":{}}],"restartPolicy":"Never"}},"ttlSecondsAfterFinished":120}}"#,
        ))
    );
}

#[test]
fn only_older_builds_write_the_creation_timestamp_into_each_metadata() {
    let template = json!({"spec": {"template": {"spec": {"volumes": [
        {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}},
    ]}}}});
    let count = |build| {
        let text = go_json(&template, build).unwrap_or_default();
        text.matches(r#""metadata":{"creationTimestamp":null}"#)
            .count()
    };
    assert_eq!(count(Build::Current), 0);
    assert_eq!(count(Build::Before0_1_37), 3);
}

#[test]
fn quantities_are_written_as_go_writes_them() {
    for (text, expected) in QUANTITIES {
        assert_eq!(canonical(text).as_deref(), Some(*expected), "{text}");
    }
    for text in NO_QUANTITIES {
        assert_eq!(canonical(text), None, "{text}");
    }
}

#[test]
fn templates_that_differ_only_in_what_go_drops_have_the_same_hash() {
    let plain = sap_hashes(&with_container("image", json!("alpine")));
    let mut padded = with_container("image", json!("alpine"));
    padded["unknown"] = json!({"any": ["thing"]});
    padded["metadata"] = json!({"labels": {}, "finalizers": [], "name": "", "annotations": null});
    padded["spec"]["suspend"] = Value::Null;
    padded["spec"]["template"]["metadata"] = json!({});
    padded["spec"]["template"]["spec"]["hostNetwork"] = json!(false);
    padded["spec"]["template"]["spec"]["volumes"] = json!([]);
    padded["spec"]["template"]["spec"]["containers"][0]["resources"] = json!({"limits": {}});
    padded["spec"]["template"]["spec"]["containers"][0]["Image"] = json!("keys have a case");
    assert!(plain.is_some());
    assert_eq!(sap_hashes(&padded), plain);
}

#[test]
fn quantities_in_another_spelling_have_the_same_hash() {
    let limits = |memory: Value| with_container("resources", json!({"limits": {"memory": memory}}));
    for (one, other) in [(json!("1024Mi"), json!("1Gi")), (json!("1000m"), json!(1))] {
        assert_eq!(sap_hashes(&limits(one)), sap_hashes(&limits(other)));
    }
    assert_ne!(
        sap_hashes(&limits(json!("1Gi"))),
        sap_hashes(&limits(json!("1G")))
    );
}

#[test]
fn pointers_to_zero_and_to_empty_structs_differ_from_absent_ones() {
    let set = [
        with_container("securityContext", json!({})),
        with_container("securityContext", json!({"runAsUser": 0})),
        with_container("securityContext", json!({"privileged": false})),
        with_container("restartPolicy", json!("")),
        with_container("livenessProbe", json!({})),
        with_container("livenessProbe", json!({"terminationGracePeriodSeconds": 0})),
    ];
    let absent = sap_hashes(&with_container("image", Value::Null));
    for template in set {
        assert_ne!(sap_hashes(&template), absent, "{template}");
    }
    // These are no pointers in Go.
    for key in ["stdin", "workingDir", "ports", "resources"] {
        assert_eq!(
            sap_hashes(&with_container(key, Value::Null)),
            absent,
            "{key}"
        );
    }
}

#[test]
fn texts_are_escaped_for_html_and_javascript() {
    let text = "<b> & \"q\" \\ / \u{8}\u{c}\n\r\t\u{1}\u{1f}\u{7f} \u{2028}\u{2029} é☕";
    let expected = concat!(
        r#"\u003cb\u003e \u0026 \"q\" \\ / \b\f\n\r\t\u0001\u001f"#,
        "\u{7f}",
        r" \u2028\u2029 é☕"
    );
    let template = json!({"metadata": {"labels": {text: text}}});
    let json = current_json(&template).unwrap_or_default();
    assert!(
        json.contains(&format!(r#"{{"{expected}":"{expected}"}}"#)),
        "{json}"
    );
}

#[test]
fn map_keys_are_sorted_by_their_bytes() {
    let labels = json!({"b": "", "a-b": "", "a": "", "é": "", "B": "", "a.b": ""});
    let json = current_json(&json!({"metadata": {"labels": labels}})).unwrap_or_default();
    let expected = r#"{"labels":{"B":"","a":"","a-b":"","a.b":"","b":"","é":""}}"#;
    assert!(json.contains(expected), "{json}");
}

#[test]
fn values_that_go_cannot_read_have_no_hash() {
    let templates = [
        json!([]),
        json!("text"),
        json!({"metadata": 1}),
        json!({"metadata": {"labels": {"a": 1}}}),
        json!({"metadata": {"labels": ["a"]}}),
        json!({"metadata": {"creationTimestamp": "yesterday"}}),
        json!({"spec": {"backoffLimit": "3"}}),
        json!({"spec": {"backoffLimit": 1.5}}),
        json!({"spec": {"backoffLimit": 2_147_483_648_i64}}),
        json!({"spec": {"activeDeadlineSeconds": u64::MAX}}),
        json!({"spec": {"suspend": "false"}}),
        with_container("command", json!("sleep")),
        with_container("resources", json!({"limits": {"cpu": "much"}})),
        with_container("livenessProbe", json!({"httpGet": {"port": {}}})),
    ];
    for template in templates {
        assert_eq!(sap_hashes(&template), None, "{template}");
    }
}
