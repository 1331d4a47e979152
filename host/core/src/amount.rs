//! A number, or a percentage of a total, as specs have it. Pure.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// A number, or a percentage of a total.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Amount {
    /// The number.
    Number(usize),
    /// The percentage.
    Percent(usize),
}

impl Amount {
    /// Reads it. None if it is neither a number that is not negative, nor a percentage.
    pub(crate) fn read(value: &IntOrString) -> Option<Self> {
        match value {
            IntOrString::Int(number) => usize::try_from(*number).ok().map(Self::Number),
            IntOrString::String(text) => percent(text).map(Self::Percent),
        }
    }

    /// The number that it is of a total, rounded up.
    pub(crate) fn rounded_up(self, of: usize) -> usize {
        match self {
            Self::Number(number) => number,
            Self::Percent(percent) => of.saturating_mul(percent).div_ceil(100),
        }
    }

    /// The number that it is of a total, rounded down.
    pub(crate) fn rounded_down(self, of: usize) -> usize {
        match self {
            Self::Number(number) => number,
            Self::Percent(percent) => of.saturating_mul(percent) / 100,
        }
    }
}

fn percent(text: &str) -> Option<usize> {
    let digits = text.strip_suffix('%')?;
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten()
}

/// What a user wrote, for the message about it.
pub(crate) fn written(value: &IntOrString) -> String {
    match value {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(text) => format!("{text:?}"),
    }
}
