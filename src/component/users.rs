//! `/etc/passwd` and `/etc/group`.
//!
//! Packages bring neither: on an installed Debian, scripts make them, and none is run here.

use std::collections::BTreeMap;

use crate::error::{Context, Error, Result};
use crate::rootfs::{Content, Inode, Kind, Meta, Tree};

/// The largest file of accounts that is read.
const LIMIT: u64 = 1 << 20;

/// The longest name that Linux tools take (useradd(8)).
const NAME_LIMIT: usize = 32;

/// A user that a recipe asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The name: at most 32 of `a-z 0-9 _ -`, the first no digit and no `-`.
    pub name: String,
    /// The user's id. 4294967295 is none (it means "unchanged" to the kernel).
    pub uid: u32,
    /// The id of the user's own group. If no group has it, one of the user's name is made.
    pub gid: u32,
    /// The home folder. It is not made.
    pub home: String,
    /// What a login runs.
    pub shell: String,
    /// Names of further groups that the user is a member of.
    pub groups: Vec<String>,
}

impl User {
    /// A user for a server: its group has the same id, its home is `/`, and it cannot log in.
    pub fn new(name: impl Into<String>, uid: u32) -> User {
        let (home, shell) = ("/".to_string(), "/usr/sbin/nologin".to_string());
        User { name: name.into(), uid, gid: uid, home, shell, groups: Vec::new() }
    }
}

/// A group that a recipe asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The name, as [`User::name`].
    pub name: String,
    /// The group's id.
    pub gid: u32,
}

/// A line of `/etc/passwd` (passwd(5)), `/etc/group` (group(5)) or `/etc/shadow` (shadow(5)) without its name.
#[derive(Debug)]
struct Line {
    id: u32,
    fields: Vec<String>,
}

/// A file of accounts: its lines by name.
type Table = BTreeMap<String, Line>;

/// Adds users and groups to `/etc/passwd` and `/etc/group`, and root if it is missing; lines that are there stay. Both
/// files are sorted by id. A `/etc/shadow` that is there gets a line without a valid password for each new user.
/// Without any user or group nothing is written.
///
/// # Errors
/// Exit status 2 if a name or id is taken or no name or id at all, a group of a user is not there, or a field holds a
/// colon or a line break; 3 if a file that is there cannot be read.
pub fn apply(tree: &mut Tree, users: &[User], groups: &[Group], time: i64) -> Result<()> {
    if users.is_empty() && groups.is_empty() {
        return Ok(());
    }
    let mut passwd = read(tree, "etc/passwd", 7, 2)?.unwrap_or_default();
    let mut group = read(tree, "etc/group", 4, 2)?.unwrap_or_default();
    if !group.values().any(|line| line.id == 0) {
        add(&mut group, "group", "root", 0, ["x", "0", ""])?;
    }
    if !passwd.values().any(|line| line.id == 0) {
        add(&mut passwd, "user", "root", 0, ["x", "0", "0", "root", "/root", "/bin/sh"])?;
    }
    for Group { name, gid } in groups {
        check_name("group", name)?;
        add(&mut group, "group", name, *gid, ["x", &gid.to_string(), ""])?;
    }
    for user in users {
        check_name("user", &user.name)?;
        for (what, path) in [("home", &user.home), ("shell", &user.shell)] {
            if !path.starts_with('/') || path.contains([':', '\n', '\r', '\0']) {
                let message = format!("the {what} of the user \"{}\" is {path:?}", user.name);
                return Err(Error::usage(message).hint("it must be a path from the root on, without a colon"));
            }
        }
        let (uid, gid) = (user.uid.to_string(), user.gid.to_string());
        add(&mut passwd, "user", &user.name, user.uid, ["x", &uid, &gid, "", &user.home, &user.shell])?;
        if !group.values().any(|line| line.id == user.gid) {
            add(&mut group, "group", &user.name, user.gid, ["x", &gid, ""])
                .context(format_args!("making the own group of the user \"{}\"", user.name))?;
        }
    }
    for user in users {
        for name in &user.groups {
            let line = group.get_mut(name).ok_or_else(|| {
                Error::usage(format!("the user \"{}\" is to be in the group \"{name}\", which is not there", user.name))
                    .hint("add it to `groups:`")
            })?;
            if let Some(members) = line.fields.last_mut()
                && !members.split(',').any(|member| member == user.name)
            {
                members.push_str(if members.is_empty() { "" } else { "," });
                members.push_str(&user.name);
            }
        }
    }
    write(tree, "etc/passwd", &passwd, 0o644, time)?;
    write(tree, "etc/group", &group, 0o644, time)?;
    if let Some(mut shadow) = read(tree, "etc/shadow", 9, usize::MAX)? {
        for user in users {
            let fields = ["!", "", "", "", "", "", "", ""].map(str::to_string).to_vec();
            shadow.entry(user.name.clone()).or_insert(Line { id: 0, fields });
        }
        for (name, line) in &mut shadow {
            line.id = passwd.get(name).map_or(u32::MAX, |user| user.id);
        }
        write(tree, "etc/shadow", &shadow, 0o600, time)?;
    }
    Ok(())
}

fn add<const N: usize>(table: &mut Table, what: &str, name: &str, id: u32, fields: [&str; N]) -> Result<()> {
    if id == u32::MAX {
        return Err(Error::usage(format!("the {what} \"{name}\" has the id {id}, which the kernel takes for none")));
    }
    if table.contains_key(name) {
        return Err(Error::usage(format!("the {what} \"{name}\" is there twice")));
    }
    if let Some((other, _)) = table.iter().find(|(_, line)| line.id == id) {
        return Err(Error::usage(format!("the {what}s \"{other}\" and \"{name}\" have the same id {id}")));
    }
    table.insert(name.to_string(), Line { id, fields: fields.map(str::to_string).to_vec() });
    Ok(())
}

/// Whether this is a name as useradd(8) takes it: at most 32 of `a-z 0-9 _ -`, the first no digit and no `-`.
pub fn is_account_name(name: &str) -> bool {
    let good = |at: usize, c: char| c.is_ascii_lowercase() || c == '_' || (at > 0 && (c.is_ascii_digit() || c == '-'));
    !name.is_empty() && name.len() <= NAME_LIMIT && name.chars().enumerate().all(|(at, c)| good(at, c))
}

fn check_name(what: &str, name: &str) -> Result<()> {
    if !is_account_name(name) {
        return Err(Error::usage(format!("{name:?} is no name of a {what}"))
            .hint("names are at most 32 of a-z, 0-9, _ and -, and do not start with a digit or -"));
    }
    Ok(())
}

/// Reads a file of accounts; `None` if there is none. `id_field` counts from the name as 0.
fn read(tree: &Tree, path: &str, fields: usize, id_field: usize) -> Result<Option<Table>> {
    let Some(id) = tree.resolve(path.as_bytes()) else { return Ok(None) };
    let Kind::File(content) = &tree.inode(id).kind else {
        return Err(Error::refused(format!("/{path} is no file")));
    };
    let bytes = content.read(LIMIT).context(format_args!("/{path}"))?;
    let text = String::from_utf8(bytes).map_err(|_| Error::refused(format!("/{path} is not UTF-8")))?;
    let mut table = Table::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty()) {
        let wrong = |what: &str| Error::refused(format!("/{path}, line {}: {what}", number + 1));
        let mut values = line.split(':').map(str::to_string);
        let name = values.next().unwrap_or_default();
        let values: Vec<String> = values.collect();
        if name.is_empty() || values.len() + 1 != fields {
            return Err(wrong(&format!("{fields} fields with colons between them are expected")));
        }
        let id = match id_field.checked_sub(1).and_then(|at| values.get(at)) {
            Some(id) => id.parse().map_err(|_| wrong("the id is no number"))?,
            None => 0,
        };
        if table.insert(name, Line { id, fields: values }).is_some() {
            return Err(wrong("the name is there twice"));
        }
    }
    Ok(Some(table))
}

/// Writes a file of accounts, sorted by id. One that is there keeps its owner and mode; a link to one is followed.
fn write(tree: &mut Tree, path: &str, table: &Table, mode: u32, time: i64) -> Result<()> {
    let mut lines: Vec<_> = table.iter().collect();
    lines.sort_by_key(|(name, line)| (line.id, *name));
    let text: String = lines.iter().map(|(name, line)| format!("{name}:{}\n", line.fields.join(":"))).collect();
    let kind = Kind::File(Content::bytes(text.into_bytes()));
    if let Some(there) = tree.resolve(path.as_bytes()) {
        let inode = tree.inode_mut(there);
        inode.kind = kind;
        inode.meta.mtime = time;
        return Ok(());
    }
    let origin = tree.inode(tree.root()).origin;
    tree.insert(path.as_bytes(), Inode { meta: Meta::root(mode, time), kind, origin }, &Meta::root(0o755, time))
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> Tree {
        let mut tree = Tree::new(0);
        let origin = tree.inode(tree.root()).origin;
        for (path, text) in files {
            let kind = Kind::File(Content::bytes(text.as_bytes()));
            let inode = Inode { meta: Meta { gid: 42, ..Meta::root(0o640, 0) }, kind, origin };
            tree.insert(path.as_bytes(), inode, &Meta::root(0o755, 0)).unwrap();
        }
        tree
    }

    fn text(tree: &Tree, path: &str) -> String {
        let Kind::File(content) = &tree.inode(tree.lookup(path.as_bytes()).unwrap()).kind else { panic!() };
        String::from_utf8(content.read(LIMIT).unwrap()).unwrap()
    }

    fn group(name: &str, gid: u32) -> Group {
        Group { name: name.into(), gid }
    }

    #[test]
    fn files_are_made_sorted_by_id() {
        let mut all = tree(&[]);
        let mut nginx = User::new("nginx", 101);
        nginx.groups = vec!["adm".into()];
        let mut redis = User::new("redis", 99);
        redis.groups = vec!["adm".into()];
        apply(&mut all, &[nginx, redis], &[group("nginx", 101), group("adm", 4)], 8).unwrap();
        assert_eq!(
            text(&all, "etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\nredis:x:99:99::/:/usr/sbin/nologin\n\
             nginx:x:101:101::/:/usr/sbin/nologin\n"
        );
        assert_eq!(text(&all, "etc/group"), "root:x:0:\nadm:x:4:nginx,redis\nredis:x:99:\nnginx:x:101:\n");
        assert!(all.lookup(b"etc/shadow").is_none());
        assert_eq!(all.inode(all.lookup(b"etc/passwd").unwrap()).meta, Meta::root(0o644, 8));
        let mut none = tree(&[]);
        apply(&mut none, &[], &[], 8).unwrap();
        assert!(none.lookup(b"etc").is_none());
    }

    #[test]
    fn what_is_there_stays() {
        let mut all = tree(&[
            ("etc/passwd", "sync:*:4:65534:sync,,:/bin:/bin/sync\nroot:*:0:0::/:/bin/dash\n"),
            ("etc/group", "root:*:0:\nstaff:*:50:a,b\n"),
            ("etc/shadow", "root:!:1::::::\n"),
        ]);
        apply(&mut all, &[User { groups: vec!["staff".into()], ..User::new("x", 3) }], &[], 8).unwrap();
        assert_eq!(
            text(&all, "etc/passwd"),
            "root:*:0:0::/:/bin/dash\nx:x:3:3::/:/usr/sbin/nologin\nsync:*:4:65534:sync,,:/bin:/bin/sync\n"
        );
        assert_eq!(text(&all, "etc/group"), "root:*:0:\nx:x:3:\nstaff:*:50:a,b,x\n");
        assert_eq!(text(&all, "etc/shadow"), "root:!:1::::::\nx:!:::::::\n");
        let shadow = &all.inode(all.lookup(b"etc/shadow").unwrap()).meta;
        assert_eq!((shadow.mode, shadow.gid, shadow.mtime), (0o640, 42, 8));
    }

    #[test]
    fn mistakes_are_named() {
        let user = User::new;
        let wrong = |users: &[User], groups: &[Group]| {
            let error = apply(&mut tree(&[("etc/group", "root:x:0:\nusers:x:100:\n")]), users, groups, 0).unwrap_err();
            assert_eq!(error.exit(), crate::error::Exit::Usage);
            error.message().to_string()
        };
        assert!(wrong(&[user("a", 1), user("a", 2)], &[]).contains("\"a\" is there twice"));
        assert!(wrong(&[user("a", 1), user("b", 1)], &[]).contains("same id 1"));
        assert!(wrong(&[user("a", 0)], &[]).contains("\"root\" and \"a\""));
        assert!(wrong(&[], &[group("users", 7)]).contains("twice"));
        assert!(wrong(&[user("a", 1)], &[group("a", 5)]).contains("own group of the user \"a\""));
        assert!(wrong(&[user("a", u32::MAX)], &[]).contains("none"));
        assert!(wrong(&[User { groups: vec!["video".into()], ..user("a", 1) }], &[]).contains("video"));
        assert!(wrong(&[User { home: "/a:b".into(), ..user("a", 1) }], &[]).contains("home"));
        assert!(wrong(&[User { shell: "/a\nroot2:x:0:0::/:/bin/sh".into(), ..user("a", 1) }], &[]).contains("shell"));
        for name in ["", "Root", "-a", "1a", "a:b", "a\nb", "a23456789012345678901234567890123"] {
            assert!(wrong(&[user(name, 1)], &[]).contains("no name"), "{name}");
        }
        for text in ["root:x:0", "root:x:zero:", ":x:0:", "a:x:1:\na:x:2:"] {
            let error = apply(&mut tree(&[("etc/group", text)]), &[user("a", 1)], &[], 0).unwrap_err();
            assert!(error.message().contains("/etc/group, line "), "{error}");
        }
    }
}
