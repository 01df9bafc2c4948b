//! Messages for errors of the daemon: the meaning, the daemon's own message, and a remedy. Pure.
//!
//! The daemon has no error codes, so its messages are matched. An unrecognized message is passed on
//! unchanged.

use model::Container;

use super::daemon::Error;

/// Whether a container could not be created because its image is not on the node.
pub(super) fn is_image_missing(error: &Error) -> bool {
    matches!(error, Error::Refused { status: 404, message }
        if message.to_ascii_lowercase().contains("no such image"))
}

/// Why an image could not be pulled.
pub(super) fn pull(error: &Error, image: &str) -> String {
    let Error::Refused { message, .. } = error else { return words(error) };
    let message_lower = message.to_ascii_lowercase();
    let is = |parts: &[&str]| parts.iter().any(|part| message_lower.contains(part));
    if is_image_missing(error) {
        return format!(
            "the image {image} is not on this node, and `pull: never` forbids fetching it: \
             load it there with `docker pull` or `docker load`, or leave `container.pull` out"
        );
    }
    let hint = if is(&["pull access denied", "requested access", "unauthorized", "no basic auth"]) {
        "check the name of the image; if it is private, run `docker login` on this node"
    } else if is(&["manifest unknown", "manifest for", "not found"]) {
        "check the name and the tag of the image"
    } else if is(&["no such host", "connection refused", "timeout", "dial tcp", "unreachable"]) {
        "the registry cannot be reached from this node: check its name, the network and the proxy"
    } else if is(&["no matching manifest"]) {
        "the image is not made for the processor of this node"
    } else if is(&["toomanyrequests", "rate limit"]) {
        "the registry wants fewer requests: log in there, or wait"
    } else if is(&["no space left"]) {
        "the node's disk is full: `docker system prune` removes what is not used"
    } else if is(&["x509", "http: server gave http response"]) {
        "the node's Docker daemon does not trust the registry: see its `insecure-registries` and certificates"
    } else {
        "see whether `docker pull` works on this node"
    };
    format!("cannot pull the image {image}: {message}; {hint}")
}

/// Why a container could not be created or started.
pub(super) fn start(error: &Error, container: &Container) -> String {
    let Error::Refused { message, .. } = error else { return words(error) };
    let message_lower = message.to_ascii_lowercase();
    let is = |parts: &[&str]| parts.iter().any(|part| message_lower.contains(part));
    let hint = if is(&["port is already allocated", "address already in use"]) {
        "something else on this node listens on that port: stop it, or leave `port` out to be given a free one"
    } else if is(&["unable to find user", "no matching entries in passwd"]) {
        "the image does not know `container.user`: give a number, or a user of the image"
    } else if is(&["invalid mount", "invalid volume", "bind source path", "not shared", "mkdir"]) {
        "check `container.volumes`: absolute paths without `:`, and a source that the node has or may create"
    } else if is(&[
        "executable file not found",
        "no such file or directory",
        "no command specified",
    ]) {
        "the image has no such program: check `container.command` and `container.entrypoint`; a string needs /bin/sh in the image, a list of words does not"
    } else if is(&["exec format error"]) {
        "the image is not made for the processor of this node"
    } else if is(&["permission denied"]) {
        "the program cannot be executed: check that it is a program and `container.user` may run it"
    } else if is(&["minimum memory limit", "memory limit"]) {
        "raise `resources.memory`"
    } else if is(&["network"]) && is(&["not found", "no such network"]) {
        "the node's Docker daemon has no such network: was it started with `--bridge=none`? use `network: host`"
    } else if is(&["iptables", "failed programming external connectivity"]) {
        "the node's Docker daemon cannot map ports: check its iptables, or use `network: host`"
    } else if is(&["no space left"]) {
        "the node's disk is full: `docker system prune` removes what is not used"
    } else if is(&["invalid reference format", "invalid repository name"]) {
        return format!("`{}` is not the name of an image: {message}", container.image);
    } else {
        return format!("Docker cannot start the container: {message}");
    };
    format!("Docker cannot start the container: {message}; {hint}")
}

/// Why files could not be copied into a container.
pub(super) fn files(error: &Error) -> String {
    let Error::Refused { message, .. } = error else { return words(error) };
    let message_lower = message.to_ascii_lowercase();
    let is = |parts: &[&str]| parts.iter().any(|part| message_lower.contains(part));
    let hint = if is(&["cannot overwrite", "not a directory", "is a directory"]) {
        "the image has a directory where a file should be, or the reverse: check the paths in `files`"
    } else if is(&["read-only"]) {
        "check whether a path in `files` is on a read-only file system of the container"
    } else if is(&["no space left"]) {
        "the node's disk is full: `docker system prune` removes what is not used"
    } else {
        return format!("cannot copy its files into the container: {message}");
    };
    format!("cannot copy its files into the container: {message}; {hint}")
}

fn words(error: &Error) -> String {
    match error {
        Error::Unclear(cause) => format!("{error}: {cause}"),
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, message: &str) -> Error {
        Error::Refused { status, message: message.into() }
    }

    #[test]
    fn a_failed_pull_has_advice() {
        let check = |status, message: &str, expected: &str| {
            let words = pull(&refused(status, message), "team/web:1");
            assert!(words.contains(expected) && words.contains("team/web:1"), "{words}");
        };
        check(404, "No such image: team/web:1", "`pull: never`");
        check(
            404,
            "pull access denied for team/web, repository does not exist or may require 'docker login'",
            "check the name",
        );
        check(404, "manifest for team/web:1 not found: manifest unknown", "the tag");
        check(500, "Get \"https://r/v2/\": dial tcp: lookup r: no such host", "cannot be reached");
        check(500, "something new", "something new");
    }

    #[test]
    fn a_failed_copy_says_what_to_do() {
        let files = |status, message| super::files(&refused(status, message));
        let words = files(400, "cannot overwrite directory \"/etc\" with non-directory");
        assert!(words.contains("the image has a directory"), "{words}");
        assert!(files(500, "something new").contains("something new"));
    }

    #[test]
    fn a_failed_start_has_advice() {
        let container = serde_json::from_str(r#"{"image": "web"}"#).unwrap();
        let check = |status, message: &str, expected: &str| {
            let words = start(&refused(status, message), &container);
            assert!(words.contains(expected) && words.contains(message), "{words}");
        };
        check(
            500,
            "driver failed programming external connectivity on endpoint x: Bind for 0.0.0.0:80 failed: port is already allocated",
            "something else",
        );
        check(
            400,
            "OCI runtime create failed: exec: \"nope\": executable file not found in $PATH: unknown",
            "`container.command`",
        );
        check(400, "Minimum memory limit allowed is 6MB", "resources.memory");
        check(404, "network muster not found", "no such network");
        check(400, "invalid reference format: repository name must be lowercase", "`web` is not");
    }
}
