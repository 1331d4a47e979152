//! Answers within and beyond the limits.

use super::*;

#[test]
fn reasons_are_one_camel_case_word() {
    let long = "A".repeat(65);
    for (given, expected) in [
        ("ImagePullFailed", "ImagePullFailed"),
        ("HTTP404", "HTTP404"),
        ("", UNNAMED),
        ("lower", UNNAMED),
        ("Two words", UNNAMED),
        ("Größe", UNNAMED),
        (long.as_str(), UNNAMED),
    ] {
        assert_eq!(reason(given.into()), expected, "{given:?}");
    }
}

#[test]
fn messages_and_waits_are_clamped() {
    let clamped = failure(types::Failure {
        reason: "Bad".into(),
        message: "ä\n".repeat(2000),
    });
    assert!(clamped.message.len() <= MESSAGE_BYTES + '…'.len_utf8());
    assert!(!clamped.message.contains('\n'));
    assert_eq!(wait(u32::MAX), LONGEST_WAIT);
    assert_eq!(wait(1500), Duration::from_millis(1500));
    assert_eq!(wait(0), SHORTEST_WAIT, "not without pause");
}

#[test]
fn extra_info_is_refused_rather_than_cut() {
    for bad in [
        vec![(String::new(), "value".to_owned())],
        vec![("k".repeat(64), "value".to_owned())],
        vec![("key".to_owned(), "v".repeat(1025))],
        (0..33)
            .map(|number| (number.to_string(), String::new()))
            .collect(),
    ] {
        let Err(core::ActionError::Plugin(failure)) = extra(bad) else {
            unreachable!("it was taken");
        };
        assert_eq!(failure.reason, "PluginResultTooLarge");
    }
    let good = vec![("k".repeat(63), "v".repeat(1024))];
    assert_eq!(extra(good).map(|map| map.len()), Ok(1));
}

#[test]
fn a_body_that_is_not_json_names_its_effect() {
    let effects = vec![
        types::Effect::Create("{}".into()),
        types::Effect::Apply("{".into()),
    ];
    let answer = operation(types::Operation {
        requirements: Vec::new(),
        limit: None,
        effects,
        extra_info: Vec::new(),
        unfinished: None,
        extra: Vec::new(),
    });
    let Err(core::ActionError::Terminal(failure)) = answer else {
        unreachable!("it was taken");
    };
    assert_eq!(failure.reason, "BadEffect");
    assert!(
        failure
            .message
            .starts_with("the body of effect 2 (apply) is not JSON")
    );
}

fn watch_of(api_version: &str, kind: &str) -> types::Watch {
    types::Watch {
        fields: Vec::new(),
        api_version: api_version.into(),
        kind: kind.into(),
        label_selector: String::new(),
        mappings: Vec::new(),
        optional: false,
        cluster_scoped: false,
        extra: Vec::new(),
    }
}

fn plain() -> types::Registration {
    types::Registration {
        watches: Vec::new(),
        settings_schema: "{}".into(),
        parameters_schema: "{}".into(),
        job_label: None,
        traits: types::Traits::empty(),
        extra: Vec::new(),
    }
}

fn registered(watches: Vec<types::Watch>, schema: &str) -> Result<(), String> {
    registration(types::Registration {
        watches,
        settings_schema: schema.into(),
        ..plain()
    })
    .map(drop)
}

#[test]
fn a_trait_of_a_registration_is_kept_and_a_name_of_a_later_version_is_refused() {
    let known = registration(types::Registration {
        traits: types::Traits::REMOVES_PODS | types::Traits::SUPPORTS_DRY_RUN,
        parameters_schema: r#"{"type":"object"}"#.into(),
        ..plain()
    });
    let known = known.expect("it is valid");
    assert!(known.removes_pods && known.supports_dry_run);
    assert_eq!(known.parameters_schema["type"], "object");
    let later = registration(types::Registration {
        extra: vec![("max-pods".into(), "3".into())],
        ..plain()
    });
    let refused = "it declares \"max-pods\", which this host does not know";
    assert_eq!(later.map(drop), Err(refused.to_owned()));
    let schema = registration(types::Registration {
        parameters_schema: "{".into(),
        ..plain()
    });
    let why = schema.map(drop).expect_err("it is no JSON");
    assert!(
        why.starts_with("its parameters schema is not JSON"),
        "{why}"
    );
}

#[test]
fn an_answer_with_a_name_of_a_later_version_is_refused() {
    let later = || vec![("after".to_owned(), "3".to_owned())];
    let operated = operation(types::Operation {
        requirements: Vec::new(),
        limit: None,
        effects: Vec::new(),
        extra_info: Vec::new(),
        unfinished: None,
        extra: later(),
    });
    let reported = progress(types::ProgressReport {
        progress: types::Progress::Processing,
        failure: None,
        extra_info: Vec::new(),
        recheck_after: None,
        extra: later(),
    });
    for refused in [operated.map(drop), reported.map(drop)] {
        let expected = core::Failure::new(
            "PluginResultUnknown",
            "the action answered with \"after\", which this host does not know",
        );
        assert_eq!(refused, Err(core::ActionError::Plugin(expected)));
    }
}

#[test]
fn a_registration_beyond_a_limit_is_refused_by_name() {
    let watch = || watch_of("v1", "Pod");
    let with = |change: &dyn Fn(&mut types::Watch)| {
        let mut watch = watch();
        change(&mut watch);
        registered(vec![watch], "{}")
    };
    let deep = "[".repeat(200) + &"]".repeat(200);
    let many = format!("[{}0]", "0,".repeat(10_000));
    let long = |bytes: usize| "k".repeat(bytes);
    for (refused, expected) in [
        (
            registered(vec![watch(); 33], "{}"),
            "33 watches; at most 32",
        ),
        (
            registered(Vec::new(), &format!("{{\"title\":\"{}\"}}", long(65_536))),
            "its settings schema has 65548 bytes; at most 65536",
        ),
        (
            registered(Vec::new(), &deep),
            "its settings schema is nested more than 100 levels deep",
        ),
        (
            registered(Vec::new(), &many),
            "its settings schema has more than 10000 values",
        ),
        (
            registered(Vec::new(), "{"),
            "its settings schema is not JSON",
        ),
        (
            with(&|watch| watch.label_selector = long(1025)),
            "a label selector of 1025 bytes; at most 1024",
        ),
        (
            with(&|watch| watch.mappings = vec![types::Mapping::Namespace; 17]),
            "17 mappings; at most 16",
        ),
        (
            with(&|watch| watch.mappings = vec![types::Mapping::Label(long(318))]),
            "a longer key than a label (317 bytes)",
        ),
        (
            with(&|watch| watch.mappings = vec![types::Mapping::UidInLabel(long(318))]),
            "a longer key than a label (317 bytes)",
        ),
        (
            with(&|watch| watch.mappings = vec![types::Mapping::ExtraInfo(long(64))]),
            "extra-info (63)",
        ),
        (
            with(&|watch| watch.mappings = vec![types::Mapping::UidInExtraInfo(long(64))]),
            "extra-info (63)",
        ),
        (
            with(&|watch| watch.extra = vec![("every".into(), "5s".into())]),
            "its watch of Pod declares \"every\", which this host does not know",
        ),
        (
            with(&|watch| watch.kind = long(64)),
            "at most 317 and 63 bytes",
        ),
        (with(&|watch| watch.kind = String::new()), "not valid names"),
        (
            with(&|watch| watch.api_version = long(318)),
            "at most 317 and 63 bytes",
        ),
    ] {
        assert!(
            refused.as_ref().is_err_and(|why| why.contains(expected)),
            "{expected}: {refused:?}"
        );
    }
    assert_eq!(
        registered(vec![watch(); 32], r#"{"type":"object"}"#),
        Ok(())
    );
}

#[test]
fn a_kind_is_no_path() {
    for api_version in [
        "v1",
        "apps/v1",
        "example.com/v1alpha1",
        "3-d.example.com/v1",
    ] {
        assert_eq!(check_kind(api_version, "Pod"), Ok(()), "{api_version}");
    }
    for api_version in [
        "",
        "/v1",
        "apps/",
        "../v1",
        "apps/..",
        "a/b/c",
        "v1?watch",
        "v1#",
        "apps/%2e%2e",
    ] {
        assert!(check_kind(api_version, "Pod").is_err(), "{api_version}");
    }
    for kind in ["", "..", "Pod/status", "Pöd"] {
        assert!(check_kind("v1", kind).is_err(), "{kind}");
    }
}

#[test]
fn requirements_and_limits_have_limits_themselves() {
    let requirement = |name: &str| types::Requirement {
        object: types::ObjectReference {
            api_version: "v1".into(),
            kind: "Pod".into(),
            name: name.into(),
        },
        uid: "u".into(),
        resource_version: None,
    };
    let answer = |requirements, limit| {
        operation(types::Operation {
            requirements,
            limit,
            effects: Vec::new(),
            extra_info: Vec::new(),
            unfinished: None,
            extra: Vec::new(),
        })
    };
    let limit = |label_selector: String| types::PodLimit {
        label_selector,
        pods: 1,
    };
    let long = "n".repeat(NAME_BYTES + 1);
    let selector = "s".repeat(WATCH_SELECTOR_BYTES + 1);
    for (refused, expected) in [
        (
            answer(vec![requirement(&long)], None),
            "a requirement has a name of 254 bytes",
        ),
        (
            answer(vec![requirement("a"); REQUIREMENTS + 1], None),
            "9 requirements; at most 8",
        ),
        (
            answer(Vec::new(), Some(limit(selector))),
            "a limit has a label selector of 1025 bytes",
        ),
    ] {
        let error = refused.expect_err(expected);
        let message = &error.failure().message;
        assert!(message.contains(expected), "{message}");
    }
    assert!(answer(vec![requirement("a")], Some(limit("a=b".into()))).is_ok());
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table of all limits of effects")]
fn an_effect_beyond_a_limit_names_the_limit() {
    let object = |name: &str, kind: &str| types::ObjectReference {
        api_version: "v1".into(),
        kind: kind.into(),
        name: name.into(),
    };
    let patch = |object: types::ObjectReference, detail: &str, body: &str| {
        types::Effect::Patch(types::Patch {
            object,
            subresource: Some(detail.into()),
            kind: types::PatchKind::Merge,
            body: body.into(),
            uid: None,
            resource_version: None,
        })
    };
    let long = "n".repeat(254);
    let deep = "[".repeat(200) + &"]".repeat(200);
    let half = format!("[{}0]", "0,".repeat(6_000));
    for (effects, expected) in [
        (
            vec![patch(object("a", "Pod"), "status", &deep)],
            "the body of effect 1 (patch) is nested more than 100 levels deep",
        ),
        (
            vec![
                types::Effect::Create(half.clone()),
                types::Effect::Apply(half),
            ],
            "the body of effect 2 (apply) has more than",
        ),
        (
            vec![patch(object(&long, "Pod"), "status", "{}")],
            "effect 1 (patch) has a name of 254 bytes; at most 253",
        ),
        (
            vec![patch(object("a", "Pod"), &long, "{}")],
            "effect 1 (patch) has a name of 254 bytes; at most 253",
        ),
        (
            vec![types::Effect::Delete(types::Delete {
                object: object("a", "../nodes"),
                uid: None,
                resource_version: None,
                grace_period_seconds: None,
            })],
            "effect 1 (delete) names apiVersion \"v1\" and kind \"../nodes\"",
        ),
        (
            vec![types::Effect::Evict(types::Evict {
                resource_version: None,
                pod: "a".into(),
                uid: Some(long.clone()),
                grace_period_seconds: None,
            })],
            "effect 1 (evict) has a name of 254 bytes",
        ),
        (
            vec![types::Effect::Create(format!(
                r#"{{"metadata":{{"namespace":"{long}"}}}}"#
            ))],
            "effect 1 (create) has a name of 254 bytes",
        ),
        (
            vec![types::Effect::Apply(format!(
                r#"{{"apiVersion":"v1","kind":"{long}"}}"#
            ))],
            "effect 1 (apply) names apiVersion \"v1\"",
        ),
    ] {
        let answer = operation(types::Operation {
            requirements: Vec::new(),
            limit: None,
            effects,
            extra_info: Vec::new(),
            unfinished: None,
            extra: Vec::new(),
        });
        let Err(core::ActionError::Terminal(failure)) = answer else {
            unreachable!("{expected}: it was taken");
        };
        assert_eq!(failure.reason, "BadEffect");
        assert!(failure.message.contains(expected), "{}", failure.message);
        assert!(failure.message.len() < MESSAGE_BYTES);
    }
    let events = vec![
        types::Effect::Evict(types::Evict {
            resource_version: None,
            pod: "a".into(),
            uid: None,
            grace_period_seconds: None,
        });
        65
    ];
    let answer = operation(types::Operation {
        requirements: Vec::new(),
        limit: None,
        effects: events,
        extra_info: Vec::new(),
        unfinished: None,
        extra: Vec::new(),
    });
    let Err(core::ActionError::Plugin(failure)) = answer else {
        unreachable!("it was taken");
    };
    assert_eq!(failure.reason, "PluginResultTooLarge");
    assert!(failure.message.contains("65 effects; at most 64"));
}

#[test]
fn an_answer_has_at_most_two_events_whatever_else_it_has() {
    let event = || {
        types::Effect::Event(types::Event {
            severity: types::Severity::Normal,
            reason: "Done".into(),
            message: "m".repeat(5000),
        })
    };
    for (events, taken) in [(2, true), (3, false)] {
        let mut effects: Vec<_> = (0..events).map(|_| event()).collect();
        effects.insert(1, types::Effect::Create("{}".into()));
        let answer = operation(types::Operation {
            requirements: Vec::new(),
            limit: None,
            effects,
            extra_info: Vec::new(),
            unfinished: None,
            extra: Vec::new(),
        });
        match answer {
            Ok(answer) => assert_eq!((answer.effects.len(), taken), (3, true)),
            Err(core::ActionError::Plugin(failure)) => {
                assert_eq!(failure.reason, "PluginResultTooLarge");
                assert!(failure.message.contains("3 Events; at most 2"));
                assert!(!taken);
            }
            Err(error) => unreachable!("{error:?}"),
        }
    }
}
