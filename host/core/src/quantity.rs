//! How `resource.Quantity` of Kubernetes reads a quantity, and writes it.
//!
//! The text is part of the template hash of a ReactiveJob, so it follows Go exactly, oddities included: a
//! spelling that Go takes for canonical is kept as it is (`1.500`, `+5Ki`), and above the largest suffix there
//! is none (`1000E` becomes `1`). Unlike Go it refuses texts without a digit, as the schema of a
//! ReactiveJob does, and exponents beyond 32 bits.

use std::cmp::Ordering;

use serde_json::Value;

/// Go reads up to 18 digits into an `int64`, and only then may it keep a spelling.
const FAST_DIGITS: usize = 18;
/// Nothing is finer than a billionth: the rest is rounded away from zero.
const NANO: i64 = -9;
/// The cap of binary quantities.
const LARGEST: u64 = i64::MAX as u64;

/// The unit that a quantity is written in, and its power of 10 or of 2.
#[derive(Clone, Copy)]
enum Unit {
    /// `m`, `k`, `M`, …: a power of 10.
    Decimal(i64),
    /// `e3`: a power of 10.
    Exponent(i64),
    /// `Ki`, `Mi`, …: a power of 2.
    Binary(u32),
}

/// A quantity as it is written: `[sign] whole [. fraction] unit`.
struct Spelling<'a> {
    negative: bool,
    /// Without leading zeros, but `0` if nothing else is left.
    whole: &'a str,
    fraction: &'a str,
    unit: Unit,
}

/// An exact positive number: decimal digits, the most significant first, times a power of 10.
struct Decimal {
    digits: Vec<u8>,
    exponent: i64,
}

/// The text that Go writes for a quantity given as `text`; None if Go cannot read it.
pub(crate) fn canonical(text: &str) -> Option<String> {
    let text = text.trim();
    let spelling = read(text)?;
    if keeps_spelling(&spelling) {
        return Some(text.to_owned());
    }
    let number = exact(&spelling);
    if number.digits.is_empty() {
        return Some("0".to_owned());
    }
    let sign = if spelling.negative { "-" } else { "" };
    let amount = match spelling.unit {
        Unit::Decimal(_) => with_suffix(&number),
        Unit::Exponent(_) => with_exponent(&number),
        Unit::Binary(_) => with_binary_suffix(&number),
    };
    Some(format!("{sign}{amount}"))
}

/// The text that Go writes for a quantity in JSON, which may be a number; None if Go cannot read it.
pub(crate) fn canonical_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => canonical(text),
        Value::Number(number) => canonical(&number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// How two quantities compare; None if Go cannot read one of them.
pub(crate) fn compare(one: &str, other: &str) -> Option<Ordering> {
    let (one, other) = (read(one.trim())?, read(other.trim())?);
    let size = |spelling: &Spelling<'_>| {
        let number = exact(spelling);
        // Digits without zeros at either end compare as the fractions that they are of the same power of 10.
        let power = length(number.digits.len()).saturating_add(number.exponent);
        (!number.digits.is_empty()).then_some((power, number.digits))
    };
    let (size_one, size_other) = (size(&one), size(&other));
    let is_negative =
        |spelling: &Spelling<'_>, size: &Option<_>| spelling.negative && size.is_some();
    Some(
        match (
            is_negative(&one, &size_one),
            is_negative(&other, &size_other),
        ) {
            (false, false) => size_one.cmp(&size_other),
            (true, true) => size_other.cmp(&size_one),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
        },
    )
}

fn read(text: &str) -> Option<Spelling<'_>> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (all_whole, rest) = split_digits(unsigned);
    let (fraction, unit) = rest.strip_prefix('.').map_or(("", rest), split_digits);
    if all_whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole = match all_whole.trim_start_matches('0') {
        "" => "0",
        digits => digits,
    };
    Some(Spelling {
        negative: text.starts_with('-'),
        whole,
        fraction,
        unit: read_unit(unit)?,
    })
}

fn split_digits(text: &str) -> (&str, &str) {
    let end = text
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

fn read_unit(text: &str) -> Option<Unit> {
    Some(match text {
        "n" => Unit::Decimal(-9),
        "u" => Unit::Decimal(-6),
        "m" => Unit::Decimal(-3),
        "" => Unit::Decimal(0),
        "k" => Unit::Decimal(3),
        "M" => Unit::Decimal(6),
        "G" => Unit::Decimal(9),
        "T" => Unit::Decimal(12),
        "P" => Unit::Decimal(15),
        "E" => Unit::Decimal(18),
        "Ki" => Unit::Binary(10),
        "Mi" => Unit::Binary(20),
        "Gi" => Unit::Binary(30),
        "Ti" => Unit::Binary(40),
        "Pi" => Unit::Binary(50),
        "Ei" => Unit::Binary(60),
        other => {
            let exponent: i32 = other.strip_prefix(['e', 'E'])?.parse().ok()?;
            Unit::Exponent(i64::from(exponent))
        }
    })
}

/// Whether Go takes the spelling for canonical. Go only checks this while a short number fits its `int64`.
fn keeps_spelling(spelling: &Spelling<'_>) -> bool {
    let digits = format!("{}{}", spelling.whole, spelling.fraction);
    match spelling.unit {
        Unit::Decimal(exponent) | Unit::Exponent(exponent) => {
            let scale = exponent - length(spelling.fraction.len());
            digits.len() <= FAST_DIGITS
                && scale >= NANO
                && scale % 3 == 0
                && !digits.ends_with("000")
                && !digits.starts_with('0')
        }
        Unit::Binary(exponent) => {
            let decimal_digits = length(digits.len()) + i64::from(exponent) * 3 / 10;
            let is_multiple_of_8 = digits
                .parse::<u64>()
                .is_ok_and(|value| value.is_multiple_of(8));
            spelling.fraction.is_empty() && decimal_digits <= 14 && !is_multiple_of_8
        }
    }
}

/// The number itself, to the billionth, without zeros at either end; no digits at all for zero.
fn exact(spelling: &Spelling<'_>) -> Decimal {
    let bytes = spelling.whole.bytes().chain(spelling.fraction.bytes());
    let mut digits: Vec<u8> = bytes.map(|byte| byte.saturating_sub(b'0')).collect();
    let mut exponent = -length(spelling.fraction.len());
    match spelling.unit {
        Unit::Decimal(power) | Unit::Exponent(power) => exponent += power,
        Unit::Binary(power) => digits = times(&digits, 1 << power),
    }
    trimmed(rounded(trimmed(Decimal { digits, exponent })))
}

fn trimmed(mut number: Decimal) -> Decimal {
    let leading = number.digits.iter().take_while(|digit| **digit == 0);
    number.digits.drain(..leading.count());
    while number.digits.pop_if(|digit| *digit == 0).is_some() {
        number.exponent += 1;
    }
    number
}

/// Rounds a number without zeros at its ends up to the next billionth.
fn rounded(mut number: Decimal) -> Decimal {
    if number.digits.is_empty() || number.exponent >= NANO {
        return number;
    }
    let surplus = usize::try_from(NANO - number.exponent).unwrap_or(usize::MAX);
    let kept = number.digits.len().saturating_sub(surplus);
    number.digits.truncate(kept);
    Decimal {
        digits: plus_one(number.digits),
        exponent: NANO,
    }
}

fn plus_one(mut digits: Vec<u8>) -> Vec<u8> {
    let nines = digits.iter().rev().take_while(|digit| **digit == 9).count();
    digits.truncate(digits.len() - nines);
    match digits.last_mut() {
        Some(digit) => *digit += 1,
        None => digits.push(1),
    }
    digits.resize(digits.len() + nines, 0);
    digits
}

fn times(digits: &[u8], factor: u64) -> Vec<u8> {
    let mut product = Vec::with_capacity(digits.len() + 20);
    let mut carry = 0_u64;
    let leading = std::iter::repeat_n(&0, 20);
    for digit in digits.iter().rev().chain(leading) {
        // At most 9 * 2^60 + 2^60, which is below 2^64.
        carry += u64::from(*digit) * factor;
        product.push(u8::try_from(carry % 10).unwrap_or(0));
        carry /= 10;
    }
    product.reverse();
    product
}

fn with_suffix(number: &Decimal) -> String {
    let (mut text, exponent) = in_thousands(number);
    text.push_str(match exponent {
        -9 => "n",
        -6 => "u",
        -3 => "m",
        3 => "k",
        6 => "M",
        9 => "G",
        12 => "T",
        15 => "P",
        18 => "E",
        // Zero needs none, and for more Go has none.
        _ => "",
    });
    text
}

fn with_exponent(number: &Decimal) -> String {
    match in_thousands(number) {
        (text, 0) => text,
        (text, exponent) => format!("{text}e{exponent}"),
    }
}

/// Binary suffixes are for whole numbers from 1024; what they cannot say is written in decimal.
fn with_binary_suffix(number: &Decimal) -> String {
    let whole = whole_part(number).map_or(LARGEST, |whole| whole.min(LARGEST));
    let is_exact = number.exponent >= 0 || whole == LARGEST;
    if whole < 1024 || !is_exact {
        return with_suffix(number);
    }
    let mut value = whole;
    let mut suffix = "";
    for larger in ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"] {
        if !value.is_multiple_of(1024) {
            break;
        }
        value /= 1024;
        suffix = larger;
    }
    format!("{value}{suffix}")
}

/// The number without its fraction; None if it is too large.
fn whole_part(number: &Decimal) -> Option<u64> {
    let mut digits = number.digits.clone();
    let end = length(digits.len()) + number.exponent;
    match usize::try_from(end) {
        // The largest u64 has 20 digits.
        Ok(end) if end > 20 => return None,
        Ok(end) => digits.resize(end, 0),
        Err(_) => digits.clear(),
    }
    if digits.is_empty() {
        Some(0)
    } else {
        digits_text(&digits).parse().ok()
    }
}

/// The digits and the power of 10, which becomes a multiple of 3.
fn in_thousands(number: &Decimal) -> (String, i64) {
    let surplus = number.exponent.rem_euclid(3);
    let mut text = digits_text(&number.digits);
    for _ in 0..surplus {
        text.push('0');
    }
    (text, number.exponent - surplus)
}

fn digits_text(digits: &[u8]) -> String {
    digits
        .iter()
        .map(|digit| char::from(b'0' + digit))
        .collect()
}

fn length(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_compare_by_what_they_amount_to() {
        for (one, other) in [
            ("0.5", "500m"),
            ("1Gi", "1073741824"),
            ("1000", "1k"),
            ("1e3", "1k"),
            ("0", "-0"),
            ("100u", "0.1m"),
        ] {
            assert_eq!(compare(one, other), Some(Ordering::Equal), "{one} {other}");
        }
        for (less, more) in [
            ("100m", "1"),
            ("0", "1n"),
            ("-1", "0"),
            ("-2", "-1"),
            ("999Mi", "1Gi"),
            ("1G", "1Gi"),
            ("99", "100"),
            ("9.5", "10"),
        ] {
            assert_eq!(compare(less, more), Some(Ordering::Less), "{less} {more}");
            assert_eq!(
                compare(more, less),
                Some(Ordering::Greater),
                "{less} {more}"
            );
        }
        assert_eq!(compare("much", "1"), None);
    }
}
