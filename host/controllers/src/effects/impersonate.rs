//! The requests of an action name one user, its ServiceAccount, and nothing else: never a group. The API server
//! derives the groups of a ServiceAccount from its name.

use http::{HeaderName, HeaderValue};
use kube::{Config, config::AuthInfo};

/// The configuration of a client that acts as this user, and as no other that the host may act as.
///
/// # Errors
/// The name can't be sent.
pub(super) fn impersonating(mut config: Config, user: &str) -> Result<Config, String> {
    let user = HeaderValue::from_str(user).map_err(|error| error.to_string())?;
    let is_other = |name: &HeaderName| name.as_str().starts_with("impersonate-");
    config.headers.retain(|(name, _)| !is_other(name));
    config
        .headers
        .push((HeaderName::from_static("impersonate-user"), user));
    config.auth_info = AuthInfo {
        impersonate: None,
        impersonate_uid: None,
        impersonate_groups: None,
        impersonate_user_extra: None,
        ..config.auth_info
    };
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_the_account_alone_whatever_the_host_was_configured_to() {
        let mut config = Config::new(http::Uri::from_static("http://localhost"));
        for (name, value) in [
            ("impersonate-group", "system:masters"),
            ("impersonate-user", "admin"),
            ("impersonate-extra-scopes", "all"),
            ("user-agent", "operon"),
        ] {
            let header = (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
            config.headers.push(header);
        }
        config.auth_info.impersonate = Some("admin".to_owned());
        config.auth_info.impersonate_groups = Some(vec!["system:masters".to_owned()]);
        let config = impersonating(config, "system:serviceaccount:a:b").expect("a name");
        let headers: Vec<_> = config
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap_or_default()))
            .collect();
        let expected = [
            ("user-agent", "operon"),
            ("impersonate-user", "system:serviceaccount:a:b"),
        ];
        assert_eq!(headers, expected);
        assert_eq!(config.auth_info.impersonate, None);
        assert_eq!(config.auth_info.impersonate_groups, None);
        let split = impersonating(config, "a\nImpersonate-Group: system:masters");
        assert!(split.is_err());
    }
}
