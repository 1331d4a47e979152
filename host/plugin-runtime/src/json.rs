//! JSON that a component hands over: measured before it is parsed, because a parsed value takes up to a
//! hundred times the memory of its text and everything that touches it recurses.

use serde_json::Value;

use crate::limits::{JSON_DEPTH, JSON_VALUES};

/// Parses a text of at most `values` values, and takes them off that number.
///
/// # Errors
/// The error of the text, as a predicate.
pub(crate) fn parse(text: &str, values: &mut usize) -> Result<Value, String> {
    let Measured { most, deepest } = measure(text);
    if deepest > JSON_DEPTH {
        return Err(format!("is nested more than {JSON_DEPTH} levels deep"));
    }
    let Some(left) = values.checked_sub(most) else {
        return Err(format!(
            "has more than {values} values; one answer may have {JSON_VALUES}"
        ));
    };
    *values = left;
    serde_json::from_str(text).map_err(|error| format!("is not JSON: {error}"))
}

/// The largest measure of a text.
#[derive(Debug, PartialEq, Eq)]
struct Measured {
    /// Values: one, and one more for each character that can begin another.
    most: usize,
    /// Levels of lists and objects.
    deepest: usize,
}

/// Measures without recursion and in linear time. A text that is no JSON gets some measure, and is refused
/// when it is parsed.
fn measure(text: &str) -> Measured {
    let (mut most, mut depth, mut deepest) = (1, 0_usize, 0);
    let (mut quoted, mut escaped) = (false, false);
    for byte in text.bytes() {
        if quoted {
            quoted = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            continue;
        }
        match byte {
            b'"' => quoted = true,
            b',' => most += 1,
            b'[' | b'{' => {
                most += 1;
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Measured { most, deepest }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_text_is_measured_as_it_will_be_parsed() {
        for (text, most, deepest) in [
            ("1", 1, 0),
            (r#""a,b[{""#, 1, 0),
            (r#""a\\",2"#, 2, 0),
            (r#"["\",[",1]"#, 3, 1),
            (r#"{"a":[1,2],"b":{"c":[]}}"#, 7, 3),
            ("]]]][", 2, 1),
        ] {
            assert_eq!(measure(text), Measured { most, deepest }, "{text}");
        }
    }

    #[test]
    fn limits_hold_before_anything_is_parsed() {
        let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        for (text, expected) in [
            (deep(JSON_DEPTH), Ok(())),
            (deep(JSON_DEPTH + 1), Err("more than 100 levels")),
            (deep(1_000_000), Err("more than 100 levels")),
            (format!("[{}0]", "0,".repeat(997)), Ok(())),
            (
                format!("[{}0]", "0,".repeat(1_000)),
                Err("more than 1000 values"),
            ),
            ("{".to_owned(), Err("is not JSON")),
            (String::new(), Err("is not JSON")),
        ] {
            let parsed = parse(&text, &mut 1_000).map(drop);
            match (&parsed, expected) {
                (Ok(()), Ok(())) => {}
                (Err(why), Err(expected)) if why.contains(expected) => {}
                _ => unreachable!("{parsed:?} instead of {expected:?}"),
            }
        }
    }

    #[test]
    fn texts_of_one_answer_share_its_values() {
        let mut left = 5;
        assert_eq!(parse("[1,2]", &mut left), Ok(json!([1, 2])));
        assert_eq!(left, 2);
        assert!(parse("[1,2]", &mut left).is_err());
    }
}
