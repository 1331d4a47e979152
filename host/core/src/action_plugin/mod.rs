//! ActionPlugin: which of them serves an action, what its spec means, and what its status reports.
//!
//! [`elect`] and [`status`](status::status) take all ActionPlugins, because which ActionPlugin serves an
//! action depends on the others.

pub mod account;
pub mod artifact;
pub mod breaker;
pub mod limits;
pub mod registration;
pub mod source;
pub mod status;
pub mod version;

use operon_api::ActionPlugin;

/// The ActionPlugin that serves an action: the oldest that claims it and is not being deleted; of two
/// that are equally old, the first by name.
pub fn elect<'a>(
    plugins: impl IntoIterator<Item = &'a ActionPlugin>,
    action: &str,
) -> Option<&'a ActionPlugin> {
    plugins
        .into_iter()
        .filter(|plugin| plugin.spec.action == action)
        .filter(|plugin| plugin.metadata.deletion_timestamp.is_none())
        .min_by_key(|plugin| {
            let created = plugin
                .metadata
                .creation_timestamp
                .as_ref()
                .map(|time| time.0);
            (created, plugin.metadata.name.clone())
        })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
    use operon_api::action_plugin::ActionPluginSpec;

    use super::*;

    fn plugin(name: &str, action: &str, created: i64) -> ActionPlugin {
        let spec = ActionPluginSpec {
            action: action.to_owned(),
            ..ActionPluginSpec::default()
        };
        let mut plugin = ActionPlugin::new(name, spec);
        plugin.metadata.creation_timestamp = Timestamp::from_second(created).ok().map(Time);
        plugin
    }

    fn elected(plugins: &[ActionPlugin]) -> Option<String> {
        elect(plugins, "Replace").and_then(|plugin| plugin.metadata.name.clone())
    }

    #[test]
    fn the_oldest_plugin_serves_the_action() {
        let plugins = [
            plugin("b", "Replace", 20),
            plugin("c", "Replace", 10),
            plugin("a", "Other", 1),
        ];
        assert_eq!(elected(&plugins).as_deref(), Some("c"));
    }

    #[test]
    fn of_two_equally_old_plugins_the_first_by_name_serves() {
        let plugins = [plugin("b", "Replace", 10), plugin("a", "Replace", 10)];
        assert_eq!(elected(&plugins).as_deref(), Some("a"));
    }

    #[test]
    fn a_plugin_being_deleted_serves_nothing() {
        let mut old = plugin("a", "Replace", 1);
        old.metadata.deletion_timestamp = Timestamp::from_second(30).ok().map(Time);
        assert_eq!(elected(&[old.clone()]), None);
        assert_eq!(
            elected(&[old, plugin("b", "Replace", 2)]).as_deref(),
            Some("b")
        );
    }
}
