//! Parts of the page that several places have: marks, trees, pages of a list, notes, Events.

use askama::Template;
use k8s_openapi::jiff::Timestamp;
use operon_cli_model::{Happening, Mark, Row};

use crate::place::log_address;

/// A mark: a sign, a word for those who do not see it, and a colour that repeats both.
#[derive(Clone, Copy, Debug, Template)]
#[template(path = "mark.html")]
pub(crate) struct Sign {
    pub(crate) class: &'static str,
    pub(crate) letter: &'static str,
    word: &'static str,
}

impl Sign {
    pub(crate) fn of(mark: Mark) -> Self {
        Self {
            class: match mark {
                Mark::Failed => "m-failed",
                Mark::Blocked => "m-blocked",
                Mark::Running => "m-running",
                Mark::Waiting => "m-waiting",
                Mark::Skipped => "m-skipped",
                Mark::Done => "m-done",
            },
            letter: mark.sign(),
            word: mark.word(),
        }
    }

    /// The mark in an address.
    pub(crate) fn word_of_address(self) -> &'static str {
        self.class.trim_start_matches("m-")
    }
}

/// A row of a tree.
pub(crate) struct Twig {
    pub(crate) sign: Sign,
    /// The page with its log, if it is a pod.
    log: Option<String>,
    pub(crate) name: String,
    pub(crate) state: String,
    pub(crate) age: String,
    pub(crate) text: String,
    below: Branch,
}

impl Twig {
    pub(crate) fn of(row: &Row, namespace: &str, now: Timestamp) -> Self {
        Self {
            sign: Sign::of(row.mark),
            log: row.pod().map(|pod| log_address(namespace, pod)),
            name: row.name.clone(),
            state: row.state.clone(),
            age: row.age(now),
            text: row.sentence(),
            below: Branch::of(&row.children, namespace, now),
        }
    }
}

/// Rows beside each other, with those below them.
#[derive(Template)]
#[template(path = "branch.html")]
pub(crate) struct Branch {
    rows: Vec<Twig>,
}

impl Branch {
    pub(crate) fn of(rows: &[Row], namespace: &str, now: Timestamp) -> Self {
        let rows = rows.iter();
        Self {
            rows: rows.map(|row| Twig::of(row, namespace, now)).collect(),
        }
    }
}

/// Events as the page lists them.
#[derive(Template)]
#[template(path = "events.html")]
pub(crate) struct Events {
    events: Vec<Line>,
    /// Why they could not be read.
    trouble: String,
}

struct Line {
    age: String,
    kind: &'static str,
    reason: String,
    message: String,
    count: i32,
}

impl Events {
    pub(crate) fn of(happenings: Result<Vec<Happening>, String>, now: Timestamp) -> Self {
        let (happenings, trouble) = match happenings {
            Ok(happenings) => (happenings, String::new()),
            Err(trouble) => (Vec::new(), trouble),
        };
        let line = |one: Happening| Line {
            age: one.age(now),
            kind: if one.is_warning {
                "! Warning"
            } else {
                "Normal"
            },
            reason: one.reason,
            message: one.message,
            count: one.count,
        };
        Self {
            events: happenings.into_iter().map(line).collect(),
            trouble,
        }
    }
}

/// Links to the pages of a list.
#[derive(Debug, Template)]
#[template(path = "pages.html")]
pub(crate) struct Pages {
    label: &'static str,
    page: usize,
    last: usize,
    previous: Option<String>,
    next: Option<String>,
}

impl Pages {
    /// The entries of a page, and the links to the others. A page after the last one is the last one.
    pub(crate) fn of<T>(
        mut entries: Vec<T>,
        size: usize,
        page: usize,
        label: &'static str,
        query: impl Fn(usize) -> String,
    ) -> (Vec<T>, Self) {
        let last = entries.len().div_ceil(size).max(1);
        let page = page.clamp(1, last);
        entries.drain(..(page - 1) * size);
        entries.truncate(size);
        let pages = Self {
            label,
            page,
            last,
            previous: (page > 1).then(|| query(page - 1)),
            next: (page < last).then(|| query(page + 1)),
        };
        (entries, pages)
    }

    pub(crate) fn is_needed(&self) -> bool {
        self.last > 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_pages_and_one_that_is_too_far_is_the_last() {
        let entries = || (0..25).collect::<Vec<_>>();
        let query = |page: usize| format!("?page={page}");
        let (shown, pages) = Pages::of(entries(), 10, 2, "x", query);
        assert_eq!((shown[0], shown.len()), (10, 10));
        assert_eq!(
            (pages.previous.as_deref(), pages.next.as_deref()),
            (Some("?page=1"), Some("?page=3"))
        );
        let (shown, pages) = Pages::of(entries(), 10, 99, "x", query);
        assert_eq!((shown.len(), pages.page, pages.next), (5, 3, None));
        let (shown, pages) = Pages::of(Vec::<i32>::new(), 10, 1, "x", query);
        assert_eq!((shown.len(), pages.is_needed()), (0, false));
    }

    #[test]
    fn markup_and_control_characters_of_others_are_text() {
        let event = Happening {
            last: None,
            is_warning: true,
            reason: "<script>".to_owned(),
            message: "\" onload='x' \u{1b}[2J \u{202e}".to_owned(),
            count: 1,
        };
        let events = Events::of(Ok(vec![event]), Timestamp::UNIX_EPOCH);
        let html = events.render().expect("a page");
        assert!(html.contains("&#60;script&#62;"), "{html}");
        let message = "&#34; onload=&#39;x&#39; \\u{1b}[2J \\u{202e}";
        assert!(html.contains(message), "{html}");
        assert!(!html.contains("<script"), "{html}");
        assert!(
            !html.contains(|letter: char| letter.is_control() && letter != '\n'),
            "{html}"
        );
    }
}
