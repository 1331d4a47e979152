//! Text of others in messages: without control characters, and short. A condition has room for some sentences.

/// The most characters of one quoted value.
const MAX_VALUE: usize = 200;
/// The most characters of the words of a library, or of an identity.
const MAX_PHRASE: usize = 500;
/// The most bytes of a whole message.
pub(crate) const MAX_MESSAGE: usize = 2 << 10;

/// A value of a bundle.
pub(crate) fn value(text: &str) -> String {
    shortened(text, MAX_VALUE)
}

/// A sentence that may quote such a value, or an identity.
pub(crate) fn phrase(text: &str) -> String {
    shortened(text, MAX_PHRASE)
}

/// A whole message.
pub(crate) fn message(text: &str) -> String {
    let text = escaped(text);
    if text.len() <= MAX_MESSAGE {
        return text;
    }
    let mut end = MAX_MESSAGE - '…'.len_utf8();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

/// The first characters, if there are more; escapes count as what they look like.
fn shortened(text: &str, most: usize) -> String {
    // An escape is never shorter than its character, so no more characters are needed.
    let first: String = text.chars().take(most + 1).collect();
    let escaped = escaped(&first);
    match escaped.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &escaped[..end]),
        None => escaped,
    }
}

/// Without line breaks, control characters and what changes the direction of text.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' | '\'' | '\\' => escaped.push(character),
            other => escaped.extend(other.escape_debug()),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_long_is_cut_and_what_can_not_be_seen_is_escaped() {
        assert_eq!(value("it's \"a\\b\" ü"), "it's \"a\\b\" ü");
        assert_eq!(value("a\n\u{1b}[2J\u{202e}"), "a\\n\\u{1b}[2J\\u{202e}");
        for text in ["x".repeat(1 << 20), "\u{1b}ü".repeat(1 << 20)] {
            for (shown, most) in [(value(&text), MAX_VALUE), (phrase(&text), MAX_PHRASE)] {
                assert_eq!(shown.chars().count(), most + 1);
                assert!(shown.ends_with('…'), "{shown}");
            }
            let shown = message(&text);
            assert!((MAX_MESSAGE - 3..=MAX_MESSAGE).contains(&shown.len()));
            assert!(!shown.contains('\u{1b}'));
        }
        assert_eq!(message(&value("\u{1b}")), "\\u{1b}", "escaped once");
    }
}
