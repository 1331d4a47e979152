//! Credentials of a registry, as `docker login` keeps them in a file. Only those that are in it: a credential
//! helper is another program, and none is run.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use k8s_openapi::ByteString;
use serde_json::Value;

/// Who pushes, and who says so.
#[derive(PartialEq, Eq)]
pub(super) struct Login {
    /// User and password; none if the push is anonymous.
    user: Option<(String, String)>,
    /// The file, or the option.
    pub(super) source: String,
}

impl Login {
    pub(super) fn new(user: &str, password: &str, source: &str) -> Self {
        Self {
            user: Some((user.to_owned(), password.to_owned())),
            source: source.to_owned(),
        }
    }

    /// User and password.
    pub(super) fn basic(&self) -> Option<(&str, &str)> {
        let (user, password) = self.user.as_ref()?;
        Some((user, password))
    }
}

/// Without the password.
impl std::fmt::Debug for Login {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let user = self.user.as_ref().map(|(user, _)| user);
        let mut shown = formatter.debug_struct("Login");
        shown.field("user", &user).field("source", &self.source);
        shown.finish_non_exhaustive()
    }
}

/// The credentials of a registry in the file of the user; anonymous if it has none.
///
/// # Errors
/// The file can't be read, or a credential helper has them.
pub(super) fn of(registry: &str) -> anyhow::Result<Login> {
    let Some(file) = file().filter(|file| file.exists()) else {
        return Ok(anonymous());
    };
    let shown = file.display();
    let text = std::fs::read_to_string(&file).with_context(|| format!("failed to read {shown}"))?;
    let config =
        serde_json::from_str(&text).with_context(|| format!("{shown} is not valid JSON"))?;
    found(&config, registry, &file)
}

fn anonymous() -> Login {
    Login {
        user: None,
        source: "no file".to_owned(),
    }
}

fn file() -> Option<PathBuf> {
    let folder = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".docker"));
    folder
        .or_else(home)
        .map(|folder| folder.join("config.json"))
}

fn found(config: &Value, registry: &str, file: &Path) -> anyhow::Result<Login> {
    let shown = file.display();
    let entry = keys(registry)
        .into_iter()
        .find_map(|key| config["auths"].get(key));
    let helper = config["credHelpers"][registry].as_str();
    let store = config["credsStore"].as_str();
    if let Some((user, password)) = entry.and_then(credentials) {
        return Ok(Login::new(&user, &password, &shown.to_string()));
    }
    // An empty entry says that the store has the credentials.
    match helper.or(store.filter(|_| entry.is_some())) {
        Some(helper) => bail!(
            "{shown} leaves the credentials of {registry} to the helper docker-credential-{helper}, which is not used: give --username and --password-stdin"
        ),
        None if entry.is_some() => bail!(
            "the credentials of {registry} in {shown} can't be read: run `docker login {registry}`, or give --username and --password-stdin"
        ),
        None => Ok(anonymous()),
    }
}

/// How a registry is named in the file: by its host, or by a URL of older programs.
fn keys(registry: &str) -> Vec<String> {
    let mut keys = vec![
        registry.to_owned(),
        format!("https://{registry}"),
        format!("https://{registry}/"),
        format!("https://{registry}/v1/"),
        format!("https://{registry}/v2/"),
    ];
    if registry == "docker.io" {
        keys.push("https://index.docker.io/v1/".to_owned());
    }
    keys
}

fn credentials(entry: &Value) -> Option<(String, String)> {
    let text = |key: &str| entry[key].as_str().filter(|text| !text.is_empty());
    if let (Some(user), Some(password)) = (text("username"), text("password")) {
        return Some((user.to_owned(), password.to_owned()));
    }
    let ByteString(bytes) = serde_json::from_value(entry["auth"].clone()).ok()?;
    let both = String::from_utf8(bytes).ok()?;
    let (user, password) = both.split_once(':')?;
    let password = password.trim_end_matches('\0');
    let is_login = !user.is_empty() && !password.is_empty();
    is_login.then(|| (user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn credentials_are_found_by_host_or_url() {
        let file = Path::new("/c.json");
        // me:secret
        let auth = json!({"auth": "bWU6c2VjcmV0"});
        let login = Login::new("me", "secret", "/c.json");
        assert!(!format!("{login:?}").contains("secret"));
        for key in ["r.example", "https://r.example", "https://r.example/v1/"] {
            for entry in [&auth, &json!({"username": "me", "password": "secret"})] {
                let config = json!({"auths": {key: entry}});
                let found = found(&config, "r.example", file);
                assert_eq!(found.expect(key), login, "{key}");
            }
        }
        let config = json!({"auths": {"other.example": auth}, "credsStore": "desktop"});
        assert_eq!(
            found(&config, "r.example", file).expect("none"),
            anonymous()
        );
    }

    #[test]
    fn a_credential_helper_is_named_and_not_run() {
        for config in [
            json!({"auths": {"r.example": {}}, "credsStore": "desktop"}),
            json!({"credHelpers": {"r.example": "desktop"}}),
        ] {
            let error = found(&config, "r.example", Path::new("/c.json"));
            let error = error.expect_err("a helper").to_string();
            assert!(error.contains("docker-credential-desktop"), "{error}");
            assert!(error.contains("--password-stdin"), "{error}");
        }
        for auth in ["!", "bWU=", ""] {
            let config = json!({"auths": {"r.example": {"auth": auth}}});
            let error = found(&config, "r.example", Path::new("/c.json"));
            assert!(error.expect_err(auth).to_string().contains("can't be read"));
        }
    }
}
