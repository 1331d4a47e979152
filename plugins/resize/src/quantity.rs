//! Quantities of CPU and memory, as far as two of them must be compared. The API server writes `1000m` as `1`, and the
//! kubelet reports what it has given in its own spelling.

/// Powers of ten by their suffix, as numerator and denominator.
const DECIMAL: [(&str, u128, u128); 10] = [
    ("", 1, 1),
    ("n", 1, 1_000_000_000),
    ("u", 1, 1_000_000),
    ("m", 1, 1_000),
    ("k", 1_000, 1),
    ("M", 1_000_000, 1),
    ("G", 1_000_000_000, 1),
    ("T", 1_000_000_000_000, 1),
    ("P", 1_000_000_000_000_000, 1),
    ("E", 1_000_000_000_000_000_000, 1),
];

/// Suffixes of powers of 1024.
const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

/// How many digits a fraction or an exponent may have: an amount with more does not fit into any node.
const MOST_DIGITS: u32 = 18;

/// Whether two quantities of a resource are the same for a node: it counts CPU in thousandths and memory in bytes.
pub fn is_same(resource: &str, one: &str, other: &str) -> bool {
    one == other
        || amount(resource, one)
            .zip(amount(resource, other))
            .is_some_and(|(one, other)| one == other)
}

/// Whether one quantity of a resource is larger than another; false if one cannot be read.
pub fn is_larger(resource: &str, one: &str, than: &str) -> bool {
    let amounts = amount(resource, one).zip(amount(resource, than));
    amounts.is_some_and(|(one, than)| one > than)
}

/// A quantity in the units in which a node counts, rounded up; none if it cannot be read or is too large.
fn amount(resource: &str, text: &str) -> Option<u128> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let (whole, rest) = split_digits(text);
    let (fraction, suffix) = rest.strip_prefix('.').map_or(("", rest), split_digits);
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let (times, by) = unit(suffix)?;
    let places = u32::try_from(fraction.len()).ok()?;
    let by = by.checked_mul(power(10, places)?)?;
    let parts = if resource == "cpu" { 1_000 } else { 1 };
    let product = digits.checked_mul(times)?.checked_mul(parts)?;
    Some(product.div_ceil(by))
}

fn split_digits(text: &str) -> (&str, &str) {
    let end = text.find(|character: char| !character.is_ascii_digit());
    text.split_at(end.unwrap_or(text.len()))
}

/// What a suffix multiplies by, as numerator and denominator.
fn unit(suffix: &str) -> Option<(u128, u128)> {
    if let Some(&(_, times, by)) = DECIMAL.iter().find(|(name, ..)| *name == suffix) {
        return Some((times, by));
    }
    if let Some(index) = BINARY.iter().position(|name| *name == suffix) {
        let exponent = u32::try_from(index).ok()? + 1;
        return Some((power(1024, exponent)?, 1));
    }
    let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    let size = power(10, exponent.unsigned_abs())?;
    Some(if exponent < 0 { (1, size) } else { (size, 1) })
}

fn power(base: u128, exponent: u32) -> Option<u128> {
    (exponent <= MOST_DIGITS).then(|| base.pow(exponent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_amount_are_the_same() {
        for (resource, one, other) in [
            ("cpu", "1000m", "1"),
            ("cpu", "0.5", "500m"),
            ("cpu", ".5", "+0.50"),
            ("cpu", "1e-1", "100m"),
            ("cpu", "100500u", "101m"),
            ("memory", "1Gi", "1024Mi"),
            ("memory", "1.5Ki", "1536"),
            ("memory", "1E3", "1k"),
            ("memory", "128974848", "123Mi"),
        ] {
            assert!(is_same(resource, one, other), "{one} {other}");
            assert!(!is_larger(resource, one, other), "{one} {other}");
        }
    }

    #[test]
    fn other_amounts_differ() {
        for (resource, one, other) in [
            ("cpu", "1", "999m"),
            ("memory", "1E", "1Pi"),
            ("memory", "1000Ki", "1M"),
        ] {
            assert!(!is_same(resource, one, other), "{one} {other}");
            assert!(is_larger(resource, one, other), "{one} {other}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_only_the_same_as_itself() {
        for text in ["", "m", "-1", "1x", "1e", "1e99", "9".repeat(60).as_str()] {
            assert!(is_same("cpu", text, text));
            assert!(!is_same("cpu", text, "1"), "{text}");
            assert!(!is_larger("cpu", text, "1"), "{text}");
        }
    }
}
