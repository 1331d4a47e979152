use crate::Kind;

#[test]
fn a_kind_is_called_by_its_names_in_any_case_with_its_group_or_without() {
    let table = [
        ("opj", Kind::OperationJob),
        ("OperationJob", Kind::OperationJob),
        ("operationjobs.apps.kusionstack.io", Kind::OperationJob),
        ("jf", Kind::JobFlow),
        ("daemonjobs", Kind::DaemonJob),
        ("reactivejob", Kind::ReactiveJob),
        ("cls", Kind::CollaSet),
    ];
    for (word, kind) in table {
        assert_eq!(Kind::parse(word), Ok(kind), "{word}");
    }
}

#[test]
fn an_unknown_kind_names_the_nearest_or_all() {
    let table = [
        ("operationjbo", "did you mean operationjob?"),
        ("jobflws", "did you mean jobflows?"),
        ("colaset", "did you mean collaset?"),
        ("deployment", "the kinds are: opj, jf, dj, reactivejob, cls"),
        ("opj.example.com", "did you mean opj?"),
    ];
    for (word, expected) in table {
        let text = Kind::parse(word).expect_err("no kind").to_string();
        assert!(text.contains(expected), "{word}: {text}");
    }
}
