//! Texts in a status: an object has room for 1.5 MiB as the API server stores it, which is JSON.

/// How many bytes a text takes in JSON as the API server writes it, without the quotes.
pub(crate) fn stored(text: &str) -> usize {
    text.chars().map(stored_character).sum()
}

/// The API server's JSON is escaped for HTML, so some characters become `\u….`
fn stored_character(character: char) -> usize {
    match character {
        '"' | '\\' | '\n' | '\r' | '\t' => 2,
        '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => 6,
        _ if character < ' ' => 6,
        _ => character.len_utf8(),
    }
}

/// The beginning of a text, such that it takes at most `most` bytes; `…` marks that it was truncated.
pub(crate) fn short(text: &str, most: usize) -> String {
    if stored(text) <= most {
        return text.to_owned();
    }
    let mut room = most.saturating_sub('…'.len_utf8());
    let fits = text.chars().take_while(|character| {
        let left = room.checked_sub(stored_character(*character));
        room = left.unwrap_or(0);
        left.is_some()
    });
    fits.chain(['…']).collect()
}

/// Sentences of different origin as one text.
pub(crate) fn joined<T: AsRef<str>>(sentences: impl IntoIterator<Item = T>) -> String {
    let mut text = String::new();
    for sentence in sentences {
        let sentence = sentence.as_ref().trim();
        if !text.is_empty() && !sentence.is_empty() {
            text.truncate(text.trim_end_matches('.').len());
            text.push_str("; ");
        }
        text.push_str(sentence);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_of_different_origin_do_not_run_together() {
        for (sentences, expected) in [
            (&["a", "b"][..], "a; b"),
            (
                &["0/3 nodes are available.", "b."],
                "0/3 nodes are available; b.",
            ),
            (&["", "b", ""], "b"),
            (&["wait ... ", "b"], "wait ; b"),
        ] {
            assert_eq!(joined(sentences), expected);
        }
    }

    #[test]
    fn a_text_is_cut_at_what_the_api_server_stores() {
        for (text, most, wanted) in [
            ("short", 5, "short"),
            ("too long", 7, "too …"),
            ("\"\"\"\"", 7, "\"\"…"),
            ("<<<", 17, "<<…"),
            ("\u{1}\u{1}", 11, "\u{1}…"),
            ("🦀🦀🦀", 11, "🦀🦀…"),
        ] {
            let short = short(text, most);
            assert_eq!(short, wanted);
            assert!(stored(&short) <= most);
        }
    }
}
