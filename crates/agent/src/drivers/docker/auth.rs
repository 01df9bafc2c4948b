//! Registry credentials, as `docker login` stores them in `config.json`. The file is read for each
//! pull, so that a login takes effect at once. Credential helpers are not executed: credentials
//! that they store are reported as unusable.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard::auth::DockerCredentials;
use serde::Deserialize;

/// The host under which the credentials of Docker Hub are stored; the other parts of that URL do
/// not matter.
const HUB: &str = "index.docker.io";

/// The result of a search for credentials.
#[derive(Debug, PartialEq)]
pub(super) enum Login {
    /// There are no credentials, and no sign that there should be.
    None,
    Known(DockerCredentials),
    /// There are credentials that cannot be used, with the reason.
    Unusable(String),
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    #[serde(default)]
    auths: HashMap<String, Auth>,
    creds_store: Option<String>,
    #[serde(default)]
    cred_helpers: HashMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
struct Auth {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

/// The credentials for the registry of `image`, from `config.json` in `dir`.
pub(super) async fn login(dir: Option<PathBuf>, image: &str) -> Login {
    let Some(file) = dir.map(|dir| dir.join("config.json")) else { return Login::None };
    let text = match tokio::fs::read_to_string(&file).await {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Login::None,
        Err(error) => return unreadable(&file, &error),
    };
    match serde_json::from_str(&text) {
        Ok(config) => find(&config, registry(image)),
        Err(error) => unreadable(&file, &error),
    }
}

fn unreadable(file: &Path, error: &dyn std::error::Error) -> Login {
    Login::Unusable(format!("the logins in {} cannot be read: {error}", file.display()))
}

/// The registry of an image: the part before its first slash, if that looks like a host.
fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => match host {
            "docker.io" | "index.docker.io" => HUB,
            host => host,
        },
        _ => HUB,
    }
}

/// The host of a key of `auths`, which may be a URL.
fn host(key: &str) -> &str {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    key.split('/').next().unwrap_or(key)
}

fn find(config: &Config, registry: &str) -> Login {
    let exact = config.auths.get(registry);
    let auth = exact.or_else(|| {
        config.auths.iter().find(|(key, _)| host(key) == host(registry)).map(|(_, auth)| auth)
    });
    if let Some(credentials) = auth.and_then(|auth| credentials(auth, registry)) {
        return credentials;
    }
    let named = config.cred_helpers.iter().find(|(key, _)| host(key) == host(registry));
    let helper = named.map(|(_, helper)| helper).or_else(|| {
        // If a helper stores all credentials, an empty entry remains and marks that there are some.
        auth.and(config.creds_store.as_ref())
    });
    match helper {
        Some(helper) => Login::Unusable(format!(
            "the login for {registry} is kept by docker-credential-{helper}, which is not called: \
             put it into `auths` of config.json, as `docker login` does without a helper"
        )),
        None => Login::None,
    }
}

fn credentials(auth: &Auth, registry: &str) -> Option<Login> {
    let pair = match auth.auth.as_deref().filter(|auth| !auth.is_empty()) {
        Some(encoded) => match decode(encoded) {
            Some(pair) => Some(pair),
            None => {
                let reason = format!(
                    "the login for {registry} in config.json is not base64 of user:password"
                );
                return Some(Login::Unusable(reason));
            }
        },
        None => auth.username.clone().zip(auth.password.clone()),
    };
    if pair.is_none() && auth.identitytoken.is_none() && auth.registrytoken.is_none() {
        return None;
    }
    let (username, password) = pair.unzip();
    Some(Login::Known(DockerCredentials {
        username,
        password,
        serveraddress: Some(registry.to_string()),
        identitytoken: auth.identitytoken.clone(),
        registrytoken: auth.registrytoken.clone(),
        ..DockerCredentials::default()
    }))
}

fn decode(encoded: &str) -> Option<(String, String)> {
    let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_string(), password.trim_end_matches('\0').to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"{
        "auths": {
            "https://index.docker.io/v1/": {"auth": "YW5uOnM6M2NyZXQ="},
            "https://r.example:5000/v2/": {"username": "bob", "password": "pw"},
            "broken.example": {"auth": "???"},
            "kept.example": {},
            "token.example": {"identitytoken": "t"}
        },
        "credsStore": "pass",
        "credHelpers": {"aws.example": "ecr-login"},
        "unknown": true
    }"#;

    #[test]
    fn logins_are_selected_by_the_registry_of_the_image() {
        let config: Config = serde_json::from_str(CONFIG).unwrap();
        let check = |image: &str, expected: &str| {
            let words = match find(&config, registry(image)) {
                Login::None => "none".to_string(),
                Login::Known(login) => format!(
                    "{}:{} {}",
                    login.username.unwrap_or_default(),
                    login.password.unwrap_or_default(),
                    login.identitytoken.unwrap_or_default(),
                ),
                Login::Unusable(reason) => reason,
            };
            assert!(words.contains(expected), "{image}: {words}");
        };
        check("nginx:1.29", "ann:s:3cret ");
        check("docker.io/team/web", "ann:s:3cret ");
        check("r.example:5000/web:2", "bob:pw ");
        check("token.example/web", ": t");
        check("other.example/web", "none");
        check("kept.example/web", "docker-credential-pass");
        check("aws.example/web", "docker-credential-ecr-login");
        check("broken.example/web", "not base64");
    }

    #[tokio::test]
    async fn a_missing_file_provides_no_login() {
        assert_eq!(login(None, "web").await, Login::None);
        assert_eq!(login(Some("/nonexistent".into()), "web").await, Login::None);
    }
}
