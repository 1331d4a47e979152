//! The Events of one reconcile about targets: at most one of each reason, however many targets it concerns. Pure.

use super::conclude::JobEvent;

/// How many targets an Event names.
const NAMED: usize = 10;

/// The Events about single targets, those of one reason together. One target keeps its Event; several share one, with
/// their number, the names of the first, and the message of the first.
pub(super) fn aggregated(events: Vec<JobEvent>) -> Vec<JobEvent> {
    let mut groups: Vec<Vec<JobEvent>> = Vec::new();
    for event in events {
        let is_same = |group: &&mut Vec<JobEvent>| {
            let first = group.first();
            first.is_some_and(|first| {
                (first.severity, first.reason) == (event.severity, event.reason)
            })
        };
        match groups.iter_mut().find(is_same) {
            Some(group) => group.push(event),
            None => groups.push(vec![event]),
        }
    }
    groups.into_iter().filter_map(together).collect()
}

fn together(group: Vec<JobEvent>) -> Option<JobEvent> {
    let count = group.len();
    let targets = group.iter().filter_map(|event| event.target.as_deref());
    let listed: Vec<_> = targets.take(NAMED).collect();
    let more = match count.saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let several = format!("{count} targets: {}{more}; ", listed.join(", "));
    let first = group.into_iter().next()?;
    if count == 1 {
        return Some(first);
    }
    Some(JobEvent {
        target: None,
        message: several + &first.message,
        ..first
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::Severity;

    fn event(reason: &'static str, target: &str) -> JobEvent {
        JobEvent {
            severity: Severity::Warning,
            reason,
            target: Some(target.to_owned()),
            message: format!("{target}: no"),
        }
    }

    #[test]
    fn the_events_of_one_reason_are_one_that_names_the_first_ten_targets() {
        let names = |count: usize| (0..count).map(|number| format!("p{number}"));
        for (count, wanted) in [
            (1, "p0: no"),
            (2, "2 targets: p0, p1; p0: no"),
            (
                10,
                "10 targets: p0, p1, p2, p3, p4, p5, p6, p7, p8, p9; p0: no",
            ),
            (
                12,
                "12 targets: p0, p1, p2, p3, p4, p5, p6, p7, p8, p9 and 2 more; p0: no",
            ),
        ] {
            let all = names(count).map(|name| event("Timeout", &name));
            let told = aggregated(all.collect());
            let messages: Vec<_> = told.iter().map(|event| event.message.as_str()).collect();
            assert_eq!(messages, [wanted]);
            assert_eq!(told[0].target.is_some(), count == 1, "{wanted}");
        }
    }

    #[test]
    fn other_reasons_and_severities_are_other_events_in_the_order_of_the_first() {
        let normal = JobEvent {
            severity: Severity::Normal,
            ..event("Timeout", "d")
        };
        let all = vec![
            event("Timeout", "a"),
            event("Failed", "b"),
            event("Timeout", "c"),
            normal,
        ];
        let told = aggregated(all);
        let messages: Vec<_> = told.iter().map(|event| event.message.as_str()).collect();
        assert_eq!(messages, ["2 targets: a, c; a: no", "b: no", "d: no"]);
    }
}
