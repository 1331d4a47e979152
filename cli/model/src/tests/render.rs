use super::now;
use crate::{Mark, Row, Screen, Tree, changes, draw, printable};

fn tree(rows: Vec<Row>) -> Tree {
    Tree {
        title: "OperationJob default/web  Restart".to_owned(),
        mark: Mark::Running,
        state: "Processing",
        progress: (1, 2),
        since: Some("2026-01-01T00:00:00Z".parse().expect("a time")),
        until: None,
        text: String::new(),
        rows,
    }
}

#[test]
fn what_could_control_the_terminal_is_shown_and_not_sent() {
    assert_eq!(printable("a\u{1b}[2Jb\nc\u{7}"), "a\\u{1b}[2Jb c\\u{7}");
    assert_eq!(printable("a\u{202e}b"), "a\\u{202e}b");
    let mut row = Row::new(Mark::Blocked, "a\u{1b}]0;x", "Pending");
    row.text = "<script>\u{9b}2J".to_owned();
    let drawn = draw(&tree(vec![row]), now(), Screen::default());
    assert!(
        !drawn.contains('\u{1b}') && !drawn.contains('\u{9b}'),
        "{drawn:?}"
    );
    assert!(drawn.contains("<script>\\u{9b}2J"), "{drawn:?}");
}

#[test]
fn lines_fit_twenty_columns_and_a_picture_fits_its_lines() {
    let rows = (0..9).map(|index| {
        Row::new(
            Mark::Running,
            format!("a-very-long-name-{index}"),
            "Running",
        )
    });
    let screen = Screen {
        columns: Some(20),
        lines: Some(4),
        color: false,
    };
    let drawn = draw(&tree(rows.collect()), now(), screen);
    let lines: Vec<_> = drawn.lines().collect();
    assert_eq!(lines.len(), 4, "{drawn}");
    assert!(
        lines.iter().all(|line| line.chars().count() <= 20),
        "{drawn}"
    );
    assert_eq!(lines[3], "… 7 more lines");
    for columns in [0, 1, 2] {
        let screen = Screen {
            columns: Some(columns),
            ..Screen::default()
        };
        let drawn = draw(&tree(Vec::new()), now(), screen);
        assert!(drawn.trim_end().chars().count() <= columns, "{drawn}");
    }
}

#[test]
fn a_mark_has_a_sign_and_a_colour_only_where_colours_are_wanted() {
    let rows = || vec![Row::new(Mark::Failed, "a", "Failed")];
    let plain = draw(&tree(rows()), now(), Screen::default());
    assert!(plain.ends_with("└─ ✗ a  Failed\n"), "{plain}");
    let screen = Screen {
        color: true,
        ..Screen::default()
    };
    let colored = draw(&tree(rows()), now(), screen);
    assert!(
        colored.ends_with("└─ \u{1b}[31m✗\u{1b}[0m a  Failed\n"),
        "{colored:?}"
    );
}

#[test]
fn a_change_is_a_line_and_time_alone_is_none() {
    let before = tree(vec![Row::new(Mark::Running, "a", "Processing")]);
    assert_eq!(
        changes(None, &before),
        [
            "OperationJob default/web  Restart  1/2  Processing",
            "a  Processing"
        ]
    );
    let mut later = before.clone();
    later.rows[0].since = Some(now());
    assert_eq!(changes(Some(&before), &later), Vec::<String>::new());
    later.rows[0].state = "Failed".to_owned();
    later.rows[0]
        .children
        .push(Row::new(Mark::Running, "Pod p", "Pending"));
    assert_eq!(
        changes(Some(&before), &later),
        ["a  Failed", "a / Pod p  Pending"]
    );
}
