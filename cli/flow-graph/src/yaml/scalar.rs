//! Which value a scalar of YAML is, as the YAML library of kubectl decides (YAML 1.1, with Go's numbers).

use anyhow::{Context as _, bail};
use granit_parser::Tag;
use serde_json::{Number, Value, json};

const NULL: [&str; 5] = ["", "~", "null", "Null", "NULL"];
const TRUE: [&str; 11] = [
    "y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON",
];
const FALSE: [&str; 11] = [
    "n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF",
];

/// The value of a scalar.
///
/// # Errors
/// Its tag is unknown or does not match, or JSON has no such number.
pub(super) fn value(text: &str, is_plain: bool, tag: Option<&Tag>) -> anyhow::Result<Value> {
    let Some(tag) = tag else {
        return if is_plain {
            resolved(text)
        } else {
            Ok(json!(text))
        };
    };
    if tag.is_yaml_core_schema_tag("str") || (tag.handle().is_empty() && tag.suffix() == "!") {
        return Ok(json!(text));
    }
    let value = resolved(text)?;
    let fits = match tag.core_suffix() {
        Some("null") => value.is_null(),
        Some("bool") => value.is_boolean(),
        Some("int") => value.is_i64() || value.is_u64(),
        Some("float") => value.is_number(),
        Some(_) | None => bail!("the tag {tag} is not supported"),
    };
    if !fits {
        bail!("{text:?} is not of the type {tag}");
    }
    Ok(value)
}

/// The value of a scalar without quotes.
fn resolved(text: &str) -> anyhow::Result<Value> {
    if NULL.contains(&text) {
        return Ok(Value::Null);
    }
    if TRUE.contains(&text) || FALSE.contains(&text) {
        return Ok(json!(TRUE.contains(&text)));
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if [".inf", ".Inf", ".INF", ".nan", ".NaN", ".NAN"].contains(&unsigned) {
        bail!("{text} is not a JSON number: put it in quotes");
    }
    if !unsigned.starts_with(|first: char| first.is_ascii_digit() || first == '.') {
        return Ok(json!(text));
    }
    let plain = text.replace('_', "");
    if let Some(integer) = integer(&plain) {
        return Ok(integer);
    }
    if !is_decimal(&plain) {
        return Ok(json!(text));
    }
    let float: f64 = plain
        .parse()
        .with_context(|| format!("{text:?} is not a number"))?;
    let number = Number::from_f64(float).with_context(|| format!("{text} is too large"))?;
    Ok(Value::Number(number))
}

/// An integer as Go reads it: `0x` and `0b`, and octal after `0` or `0o`.
fn integer(text: &str) -> Option<Value> {
    let (is_negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (base, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    if digits.starts_with(['-', '+']) {
        return None;
    }
    let number = i128::from_str_radix(digits, base).ok()?;
    let number = if is_negative { -number } else { number };
    i64::try_from(number)
        .map(|number| json!(number))
        .or_else(|_| u64::try_from(number).map(|number| json!(number)))
        .ok()
}

/// Whether a text has the form `1`, `1.5`, `.5` or `1e9`.
fn is_decimal(text: &str) -> bool {
    let text = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let exponent = exponent.map(|e| e.strip_prefix(['-', '+']).unwrap_or(e));
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    is_digits(whole)
        && is_digits(part)
        && !(whole.is_empty() && part.is_empty())
        && exponent.is_none_or(|exponent| !exponent.is_empty() && is_digits(exponent))
}
