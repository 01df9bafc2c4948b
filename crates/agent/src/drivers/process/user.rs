//! Users by name or number, as `user`, `user:group`, `1000` or `1000:1000`, from `/etc/passwd` and
//! `/etc/group`. No other source of names is queried, since a name service that hangs would block
//! every start.

use std::fs;

use rustix::process::{Gid, Uid};

/// The user and groups of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    pub(super) uid: Uid,
    pub(super) gid: Gid,
    /// All its groups, including `gid`.
    pub(super) groups: Vec<Gid>,
}

/// Looks up a user; returns a message if it does not exist.
pub(super) fn look_up(text: &str) -> Result<User, String> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    parse(text, &read("/etc/passwd"), &read("/etc/group"))
}

fn parse(text: &str, passwd: &str, group: &str) -> Result<User, String> {
    let (name, group_name) = match text.split_once(':') {
        Some((name, group_name)) => (name, Some(group_name)),
        None => (text, None),
    };
    let entry = lines(passwd).find(|fields| fields[0] == name).or_else(|| {
        lines(passwd).find(|fields| name.parse::<u32>().is_ok() && fields.get(2) == Some(&name))
    });
    let number = |fields: &[&str], index: usize| fields.get(index).and_then(|f| f.parse().ok());
    let (uid, own_gid) = match &entry {
        Some(fields) => (number(fields, 2), number(fields, 3)),
        None => (name.parse().ok(), None),
    };
    let uid: u32 = uid.ok_or_else(|| format!("there is no user `{name}` on this node"))?;
    let gid: u32 = match group_name {
        None => own_gid.unwrap_or(uid),
        Some(group_name) => lines(group)
            .find(|fields| fields[0] == group_name)
            .and_then(|fields| number(&fields, 2))
            .or_else(|| group_name.parse().ok())
            .ok_or_else(|| format!("there is no group `{group_name}` on this node"))?,
    };
    let login = entry.map_or(name, |fields| fields[0]);
    let groups = lines(group).filter(|fields| {
        fields.get(3).is_some_and(|members| members.split(',').any(|member| member == login))
    });
    let mut groups: Vec<u32> = groups.filter_map(|fields| number(&fields, 2)).collect();
    groups.push(gid);
    groups.sort_unstable();
    groups.dedup();
    Ok(User {
        uid: Uid::from_raw(uid),
        gid: Gid::from_raw(gid),
        groups: groups.into_iter().map(Gid::from_raw).collect(),
    })
}

fn lines(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().map(|line| line.split(':').collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/srv:/bin/false\n";
    const GROUP: &str = "root:x:0:\nwww:x:34:\nlogs:x:40:web,other\ncache:x:41:other\n";

    #[test]
    fn users_are_found_by_name_and_number() {
        let check = |text: &str, expected: Result<(u32, u32, &[u32]), &str>| {
            let user = parse(text, PASSWD, GROUP).map(|user| {
                let groups: Vec<_> = user.groups.iter().map(|gid| gid.as_raw()).collect();
                (user.uid.as_raw(), user.gid.as_raw(), groups)
            });
            let expected = expected.map(|(uid, gid, groups)| (uid, gid, groups.to_vec()));
            assert_eq!(user, expected.map_err(String::from), "{text}");
        };
        check("web", Ok((33, 34, &[34, 40])));
        check("33", Ok((33, 34, &[34, 40])));
        check("web:cache", Ok((33, 41, &[40, 41])));
        check("1000", Ok((1000, 1000, &[1000])));
        check("1000:7", Ok((1000, 7, &[7])));
        check("nobody-here", Err("there is no user `nobody-here` on this node"));
        check("web:nowhere", Err("there is no group `nowhere` on this node"));
    }
}
