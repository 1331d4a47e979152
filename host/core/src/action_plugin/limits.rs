//! `spec.limits` of an ActionPlugin, read once into [`Limits`].

use std::time::Duration;

use operon_api::action_plugin::PluginLimits;

use crate::action::Limits;

const MEMORY: std::ops::RangeInclusive<u64> = (1 << 20)..=(256 << 20);
const CALL_TIMEOUT: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(10)..=Duration::from_secs(30);

/// Reads the limits; an absent limit has its default.
///
/// # Errors
/// A sentence that names the field, the value and the allowed range.
pub fn limits(spec: Option<&PluginLimits>) -> Result<Limits, String> {
    let mut limits = Limits::default();
    let Some(spec) = spec else { return Ok(limits) };
    if let Some(text) = &spec.memory {
        limits.memory = quantity(text, &[("Ki", 1 << 10), ("Mi", 1 << 20)])
            .filter(|bytes| MEMORY.contains(bytes))
            .ok_or_else(|| format!("spec.limits.memory {text:?} is not from 1Mi to 256Mi"))?;
    }
    if let Some(text) = &spec.call_timeout {
        limits.call_timeout = quantity(text, &[("ms", 1), ("s", 1000)])
            .map(Duration::from_millis)
            .filter(|time| CALL_TIMEOUT.contains(time))
            .ok_or_else(|| format!("spec.limits.callTimeout {text:?} is not from 10ms to 30s"))?;
    }
    Ok(limits)
}

/// A whole number with one of these units.
fn quantity(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    units.iter().find_map(|(unit, factor)| {
        text.strip_suffix(unit)?
            .parse::<u64>()
            .ok()?
            .checked_mul(*factor)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_with_their_units_and_refused_out_of_range() {
        let read = |memory: Option<&str>, timeout: Option<&str>| {
            limits(Some(&PluginLimits {
                memory: memory.map(str::to_owned),
                call_timeout: timeout.map(str::to_owned),
            }))
        };
        assert_eq!(read(None, None), Ok(Limits::default()));
        assert_eq!(read(Some("64Mi"), None).map(|l| l.memory), Ok(64 << 20));
        assert_eq!(read(Some("2048Ki"), None).map(|l| l.memory), Ok(2 << 20));
        assert_eq!(
            read(None, Some("250ms")).map(|l| l.call_timeout),
            Ok(Duration::from_millis(250))
        );
        for (memory, timeout) in [
            (Some("1Gi"), None),
            (Some("257Mi"), None),
            (Some("x"), None),
            (None, Some("31s")),
            (None, Some("5ms")),
        ] {
            let refused = read(memory, timeout).expect_err("out of range");
            assert!(refused.contains("spec.limits."), "{refused}");
        }
    }
}
