//! The settings of Replace: how the old pod is removed, and how many pods of one owner are replaced at the
//! same time. `setup` refuses invalid settings, so that later code never gets them.

use operon_sdk::{ActionSettings, Job, Value, json};
use serde::Deserialize;

/// `spec.settings` of the `ActionPlugin`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Settings {
    /// How the old pod is removed.
    pub removal: Removal,
    /// How many pods of one `ReplicaSet` are released at the same time.
    pub max_released: MaxReleased,
}

/// How the old pod is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Removal {
    /// By the eviction API, which respects `PodDisruptionBudgets`.
    #[default]
    Evict,
    /// By a deletion, regardless of disruption budgets.
    Delete,
}

/// A number of pods, or a percentage of a `ReplicaSet`'s replicas.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum MaxReleased {
    /// So many.
    Pods(u32),
    /// A percentage such as `25%`; one pod at least.
    Percentage(String),
}

impl Default for MaxReleased {
    fn default() -> Self {
        Self::Percentage("25%".to_owned())
    }
}

impl MaxReleased {
    /// How many of this many replicas: one at least.
    pub fn of(&self, replicas: usize) -> u32 {
        match self {
            Self::Pods(pods) => (*pods).max(1),
            Self::Percentage(text) => {
                let percent = text.trim_end_matches('%').parse().unwrap_or(25);
                let pods = replicas.saturating_mul(percent) / 100;
                u32::try_from(pods).unwrap_or(u32::MAX).max(1)
            }
        }
    }
}

impl Settings {
    /// The settings that a job is called with; `setup` has read them before.
    pub fn of(job: &Job) -> Self {
        operon_sdk::settings(&job.settings).unwrap_or_default()
    }
}

impl ActionSettings for Settings {
    fn schema() -> Value {
        json!({
            "type": "object",
            "additionalProperties": false,
            "properties": {
                "removal": {"enum": ["evict", "delete"]},
                "maxReleased": {"anyOf": [
                    {"type": "integer", "minimum": 1, "maximum": 10_000},
                    {"type": "string", "pattern": "^([1-9]|[1-9][0-9]|100)%$"}
                ]}
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_of_the_replicas_and_one_at_least_is_the_default() {
        let read = |text: &str| operon_sdk::settings::<Settings>(text);
        let table = [
            ("{}", 1, 1),
            ("{}", 7, 1),
            ("{}", 100, 25),
            (r#"{"maxReleased": 3}"#, 100, 3),
            (r#"{"maxReleased": "100%"}"#, 9, 9),
        ];
        for (text, replicas, expected) in table {
            let settings = read(text).expect(text);
            assert_eq!(settings.max_released.of(replicas), expected, "{text}");
        }
        assert_eq!(read("{}").map(|read| read.removal), Ok(Removal::Evict));
        assert!(read(r#"{"removal": "force"}"#).is_err());
        assert!(read(r#"{"other": 1}"#).is_err());
    }
}
