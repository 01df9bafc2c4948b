//! Validation of the files of a resource.

use std::collections::BTreeSet;

use crate::spec::{FileSpec, Mode};

/// The maximum size of the content of one file that a document contains. Documents are state: every
/// server keeps each of their revisions in memory.
const INLINE_BYTES_MAX: usize = 64 << 10;
/// The maximum size of the content of all files that the document of a service contains.
const ALL_INLINE_BYTES_MAX: usize = 256 << 10;
/// The maximum number of files of a resource.
const FILES_MAX: usize = 100;
/// The maximum length of a path, and of a name in it, in bytes (Linux's `PATH_MAX` and `NAME_MAX`).
/// The directory of the instance is a part of the path too.
const PATH_BYTES_MAX: usize = 2_048;
const NAME_BYTES_MAX: usize = 240;
/// The maximum length of a URL in bytes.
const URL_BYTES_MAX: usize = 2_048;

/// The program whose files are validated.
#[derive(Debug, Clone, Copy)]
pub(super) enum Owner<'a> {
    /// A process.
    Process,
    /// A container with volumes at these paths.
    Container {
        /// The absolute paths of the volumes inside it.
        volumes: &'a [&'a str],
    },
}

/// A violation in a list of files: the key below the list, and the cause with a remedy.
pub(super) type Violation = (String, String);

/// The violations in the files of a resource. `taken` has the paths in the directory of the
/// instance that other resources use, and receives those of this one.
pub(super) fn violations(
    files: &[FileSpec],
    owner: Owner<'_>,
    taken: &mut BTreeSet<String>,
) -> Vec<Violation> {
    let mut all = Vec::new();
    if files.len() > FILES_MAX {
        all.push((String::new(), format!("at most {FILES_MAX} files")));
    }
    let mut own = BTreeSet::new();
    let seen = match owner {
        Owner::Process => taken,
        Owner::Container { .. } => &mut own,
    };
    for (i, file) in files.iter().enumerate() {
        let mut refuse = |key: &str, message: String| all.push((format!("{i}.{key}"), message));
        let path = file.path.as_str();
        let is_root = file.extract && path == "." && matches!(owner, Owner::Process);
        if let Some(Err(message)) = (!is_root).then(|| check_path(path, owner)) {
            refuse("path", message);
        } else if file.extract {
            // Other files may replace some of the archive.
        } else if let Some(other) = overlapping(path, seen) {
            refuse(
                "path",
                match other == path {
                    true => format!("two files are written to `{path}`"),
                    false => format!("`{path}` and `{other}` cannot both be files"),
                },
            );
        } else {
            seen.insert(path.into());
        }
        if file.source().is_none() {
            let message = "give exactly one of `text`, `base64` and `url`: the content";
            refuse("path", message.into());
        }
        let size = file.inline_bytes();
        if size > INLINE_BYTES_MAX {
            let key = if file.text.is_some() { "text" } else { "base64" };
            refuse(key, format!("{size} bytes; a file in a document has at most 64 KiB"));
        }
        if let Some(Err(message)) = file.url.as_deref().map(check_url) {
            refuse("url", message);
        }
        for (key, is_given) in
            [("sha256", file.sha256.is_some()), ("extract", file.extract), ("cache", !file.cache)]
        {
            if is_given && file.url.is_none() {
                refuse(key, format!("only a file with `url` has `{key}`"));
            }
        }
        if file.extract && (file.executable || file.mode != Mode::default()) {
            let key = if file.executable { "executable" } else { "mode" };
            refuse(key, "what an archive contains has the permissions of the archive".into());
        }
        if let Some(Err(message)) = file.owner.as_deref().map(|name| check_owner(name, owner)) {
            refuse("owner", message);
        }
    }
    all
}

/// Returns a message if files of a service together are too large for its document.
pub(super) fn check_total<'a>(files: impl Iterator<Item = &'a FileSpec>) -> Result<(), String> {
    match files.map(FileSpec::inline_bytes).sum() {
        0..=ALL_INLINE_BYTES_MAX => Ok(()),
        size => Err(format!(
            "{size} bytes of content in all; the files in the document of a service have at most \
             256 KiB"
        )),
    }
}

fn check_path(path: &str, owner: Owner<'_>) -> Result<(), String> {
    let relative = match (owner, path.strip_prefix('/')) {
        (Owner::Process, None) => path,
        (Owner::Container { .. }, Some(relative)) => relative,
        (Owner::Process, Some(_)) => {
            return Err(format!(
                "`{path}` must be relative: the files of a process are in the directory of its \
                 instance"
            ));
        }
        (Owner::Container { .. }, None) => {
            return Err(format!("`{path}` must be an absolute path in the container"));
        }
    };
    if relative.split('/').any(|name| matches!(name, "" | "." | "..")) || path.contains('\0') {
        return Err(format!("`{path}` must be the path of a file, without `.` and `..`"));
    }
    if path.len() > PATH_BYTES_MAX || relative.split('/').any(|name| name.len() > NAME_BYTES_MAX) {
        return Err(format!(
            "at most {PATH_BYTES_MAX} bytes, and {NAME_BYTES_MAX} in each name between two `/`"
        ));
    }
    if let Owner::Container { volumes } = owner
        && let Some(volume) = volumes.iter().find(|volume| is_within(path, volume))
    {
        return Err(format!("`{path}` is in the volume `{volume}`, which the node owns"));
    }
    Ok(())
}

fn check_url(url: &str) -> Result<(), String> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let host = rest.map_or("", |rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
    if host.is_empty() || url.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(format!("`{url}` must be a URL that begins with https:// or http://"));
    }
    if host.contains('@') {
        return Err("a URL in a document has no user and no password: everybody can read it".into());
    }
    match url.len() <= URL_BYTES_MAX {
        true => Ok(()),
        false => Err(format!("a URL has at most {URL_BYTES_MAX} bytes")),
    }
}

/// The violations of the rule that content from elsewhere has a checksum. It holds for native
/// documents; other systems have none.
pub(super) fn missing_checksums(files: &[FileSpec]) -> impl Iterator<Item = Violation> {
    let is_missing = |file: &FileSpec| file.url.is_some() && file.sha256.is_none();
    let files = files.iter().enumerate().filter(move |(_, file)| is_missing(file));
    files.map(|(i, _)| {
        let message = "give the checksum of the content at `url`; `sha256sum` prints it";
        (format!("{i}.sha256"), message.into())
    })
}

fn check_owner(name: &str, owner: Owner<'_>) -> Result<(), String> {
    let (user, group) = match name.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (name, None),
    };
    let mut parts = [Some(user), group].into_iter().flatten();
    let is_good = |part: &str| match owner {
        Owner::Process => !part.is_empty() && !part.contains([':', '\0']),
        Owner::Container { .. } => part.parse::<u32>().is_ok(),
    };
    match parts.all(is_good) {
        true => Ok(()),
        false => Err(match owner {
            Owner::Process => format!("`{name}` must be a `user` or a `user:group`"),
            Owner::Container { .. } => format!(
                "`{name}` must be numbers such as `1000:1000`: only the image knows its users"
            ),
        }),
    }
}

/// A path among `seen` that is equal to `path`, above it or below it.
fn overlapping<'a>(path: &str, seen: &'a BTreeSet<String>) -> Option<&'a str> {
    seen.iter().map(String::as_str).find(|other| is_within(path, other) || is_within(other, path))
}

/// Whether `path` is `dir`, or below it.
fn is_within(path: &str, dir: &str) -> bool {
    let rest = path.strip_prefix(dir.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn file(fields: serde_json::Value) -> FileSpec {
        let mut document = json!({"path": "a", "text": ""});
        document.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        serde_json::from_value(document).unwrap()
    }

    fn keys(files: &[serde_json::Value], owner: Owner<'_>) -> Vec<String> {
        let files: Vec<_> = files.iter().map(|fields| file(fields.clone())).collect();
        violations(&files, owner, &mut BTreeSet::new()).into_iter().map(|(key, _)| key).collect()
    }

    #[test]
    fn a_path_stays_in_the_directory_of_the_instance() {
        for path in ["a", "a/b.conf", "..a/...", "a b"] {
            assert_eq!(keys(&[json!({"path": path})], Owner::Process), [""; 0], "{path}");
        }
        let long = "n".repeat(NAME_BYTES_MAX + 1);
        for path in ["", "/a", "..", "a/../b", "./a", "a/", "a//b", "a\0", &long] {
            assert_eq!(keys(&[json!({"path": path})], Owner::Process), ["0.path"], "{path}");
        }
    }

    #[test]
    fn a_path_in_a_container_is_absolute_and_not_in_a_volume() {
        let owner = Owner::Container { volumes: &["/data/"] };
        for path in ["/etc/app.conf", "/data2"] {
            assert_eq!(keys(&[json!({"path": path})], owner), [""; 0], "{path}");
        }
        for path in ["etc/app.conf", "/", "/etc/../a", "/data/a", "/data"] {
            assert_eq!(keys(&[json!({"path": path})], owner), ["0.path"], "{path}");
        }
    }

    #[test]
    fn two_files_do_not_share_a_path() {
        let at = |path: &str| json!({"path": path});
        assert_eq!(keys(&[at("a/b"), at("a/c"), at("ab")], Owner::Process), [""; 0]);
        assert_eq!(keys(&[at("a"), at("a")], Owner::Process), ["1.path"]);
        assert_eq!(keys(&[at("a/b"), at("a")], Owner::Process), ["1.path"]);
        assert_eq!(keys(&[at("a"), at("a/b/c")], Owner::Process), ["1.path"]);
        let (one, other) = ([file(at("a"))], [file(at("a"))]);
        let mut taken = BTreeSet::new();
        assert_eq!(violations(&one, Owner::Process, &mut taken), []);
        assert_eq!(violations(&other, Owner::Process, &mut taken).len(), 1);
    }

    #[test]
    fn content_in_a_document_is_bounded() {
        let of = |size: usize| file(json!({"text": "x".repeat(size)}));
        let check = |file| violations(&[file], Owner::Process, &mut BTreeSet::new()).len();
        assert_eq!((check(of(INLINE_BYTES_MAX)), check(of(INLINE_BYTES_MAX + 1))), (0, 1));
        let files = vec![of(INLINE_BYTES_MAX); 4];
        assert_eq!(check_total(files.iter()), Ok(()));
        assert!(check_total(files.iter().chain([&of(1)])).is_err());
        assert_eq!(violations(&[], Owner::Process, &mut BTreeSet::new()), []);
    }

    #[test]
    fn a_url_is_http_and_has_no_password() {
        let of = |url: &str| keys(&[json!({"text": null, "url": url})], Owner::Process);
        for url in ["http://a", "https://a.example:8443/b?c#d", "https://[::1]/x", "http://a/b@c"] {
            assert_eq!(of(url), [""; 0], "{url}");
        }
        let long = format!("https://a/{}", "b".repeat(URL_BYTES_MAX));
        for url in
            ["", "a", "ftp://a/b", "https://", "https:///b", "http://u:p@a/", "http://a b", &long]
        {
            assert_eq!(of(url), ["0.url"], "{url}");
        }
    }

    #[test]
    fn only_what_is_fetched_has_a_checksum_and_is_unpacked() {
        let sha256 = "00".repeat(32);
        let check = |file: serde_json::Value| keys(&[file], Owner::Process);
        let url = "https://a/b";
        let fetched = json!({"text": null, "url": url, "sha256": sha256, "cache": false});
        assert_eq!(check(fetched.clone()), [""; 0]);
        let inline = json!({"sha256": sha256, "extract": true, "cache": false});
        assert_eq!(check(inline), ["0.sha256", "0.extract", "0.cache"]);
        let archive = json!({"text": null, "url": url, "extract": true, "path": "."});
        assert_eq!(check(archive), [""; 0]);
        let archive = json!({"text": null, "url": url, "extract": true, "mode": "0600"});
        assert_eq!(check(archive.clone()), ["0.mode"]);
        let files = [file(archive), file(fetched)];
        let missing: Vec<_> = missing_checksums(&files).map(|(key, _)| key).collect();
        assert_eq!(missing, ["0.sha256"]);
    }

    #[test]
    fn an_owner_is_a_user_and_perhaps_a_group() {
        let check =
            |owner: &str, at: Owner<'_>| keys(&[json!({"path": path(at), "owner": owner})], at);
        let container = Owner::Container { volumes: &[] };
        for owner in ["web", "web:www", "1000:1000"] {
            assert_eq!(check(owner, Owner::Process), [""; 0], "{owner}");
        }
        for owner in ["", ":", "a:", "a:b:c"] {
            assert_eq!(check(owner, Owner::Process), ["0.owner"], "{owner}");
        }
        assert_eq!(check("1000:0", container), [""; 0]);
        assert_eq!(check("web", container), ["0.owner"]);
    }

    #[test]
    fn a_file_has_one_source() {
        assert_eq!(keys(&[json!({"base64": "AAH/"})], Owner::Process), ["0.path"]);
        assert_eq!(keys(&[json!({"text": null})], Owner::Process), ["0.path"]);
    }

    fn path(owner: Owner<'_>) -> &'static str {
        match owner {
            Owner::Process => "a",
            Owner::Container { .. } => "/a",
        }
    }
}
