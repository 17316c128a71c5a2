//! Users and groups of an image, from its own `/etc/passwd` and `/etc/group` (passwd(5), group(5)).
//!
//! What it is not: a way to trust those files; they only turn the names that an image's configuration
//! uses into numbers, which then stand in the lock.

use casemate_composition::lock::User;
use serde::{Deserialize, Serialize};

use crate::error::{ImageError, UserProblem};

/// Largest file that is read.
pub(crate) const FILE_BYTES_MAX: u64 = 1 << 20;
/// Ids end below this: a compartment maps no more.
const ID_END: u32 = 65_536;

/// The accounts of an image. A file that is missing, too large or no file has no list. A name without numbers has a
/// line that C libraries read in different ways, or one with an id that no compartment maps: the name is taken, and a
/// later line of the same name is not it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Accounts {
    users: Option<Vec<Line<(u32, u32)>>>,
    groups: Option<Vec<Line<u32>>>,
}

/// A name and its numbers.
type Line<T> = (String, Option<T>);

impl Accounts {
    /// Reads both files. Lines without the name of an account are passed over.
    pub(crate) fn parse(passwd: Option<&[u8]>, group: Option<&[u8]>) -> Self {
        let users = passwd.map(|bytes| {
            let ids = |line| {
                let [_, _, uid, gid, _, _, _] = fields(line)?;
                Some((number(uid)?, number(gid)?))
            };
            lines(bytes).filter_map(|line| Some((name_of(line)?, ids(line)))).collect()
        });
        let groups = group.map(|bytes| {
            let id = |line| {
                let [_, _, gid, _] = fields(line)?;
                number(gid)
            };
            lines(bytes).filter_map(|line| Some((name_of(line)?, id(line)))).collect()
        });
        Self { users, groups }
    }

    /// The user of a configuration: `USER` or `USER:GROUP`, each a name or a number; nothing is root.
    /// Without a group it is the user's own, and 0 for a number that has no line (as Docker does).
    /// Further groups of the user are not given.
    pub(crate) fn resolve(&self, text: &str) -> Result<User, ImageError> {
        let refuse = |problem| ImageError::User {
            found: text.chars().filter(|c| !c.is_control()).take(80).collect(),
            problem,
        };
        if text.is_empty() {
            return Ok(User { uid: 0, gid: 0 });
        }
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        if !is_name(user) || !group.is_none_or(is_name) {
            return Err(refuse(UserProblem::Spelling));
        }
        let gid = group.map(|group| self.group(group)).transpose().map_err(refuse)?;
        let (uid, own_gid) = self.user(user, gid).map_err(refuse)?;
        Ok(User { uid, gid: gid.unwrap_or(own_gid) })
    }

    fn user(&self, user: &str, gid: Option<u32>) -> Result<(u32, u32), UserProblem> {
        if is_number(user) {
            let uid = number(user).ok_or(UserProblem::Range)?;
            let mut known = self.users.iter().flatten().filter_map(|(_, ids)| *ids);
            let own_gid = || known.find(|(id, _)| *id == uid).map(|(_, gid)| gid);
            return Ok((uid, gid.or_else(own_gid).unwrap_or(0)));
        }
        let users = self.users.as_ref().ok_or(UserProblem::NoPasswd)?;
        users.iter().find(|(name, _)| name == user).and_then(|(_, ids)| *ids).ok_or(UserProblem::NoUser)
    }

    fn group(&self, group: &str) -> Result<u32, UserProblem> {
        if is_number(group) {
            return number(group).ok_or(UserProblem::Range);
        }
        let groups = self.groups.as_ref().ok_or(UserProblem::NoGroupFile)?;
        groups.iter().find(|(name, _)| name == group).and_then(|(_, gid)| *gid).ok_or(UserProblem::NoGroup)
    }
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &str> {
    bytes.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok())
}

/// Whose line it is.
fn name_of(line: &str) -> Option<String> {
    let (name, _) = line.split_once(':')?;
    (is_name(name) && !is_number(name)).then(|| name.to_owned())
}

/// Exactly `N` fields.
fn fields<const N: usize>(line: &str) -> Option<[&str; N]> {
    let mut out = [""; N];
    let mut parts = line.split(':');
    for field in &mut out {
        *field = parts.next()?;
    }
    parts.next().is_none().then_some(out)
}

/// Lines that begin with `+` or `-` ask a directory service, `#` begins a comment.
fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 64
        && !text.starts_with(['+', '-', '#'])
        && !text.contains(|c: char| c == ':' || c == ',' || c.is_control() || c.is_whitespace())
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| is_number(text) && *id < ID_END)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Accounts {
        let passwd = b"root:x:0:0:root:/root:/bin/sh\n\
            # comment:x:1:1:::\n+nis:x:2:2:::\nshort:x:3:3\nlong:x:4:4:::::\nsigned:x:+5:5:::\n\
            high:x:65536:1:::\n77:x:7:7:::\n\xffbad:x:8:8:::\n\
            agent:x:1000:1001:,,,:/home/agent:/bin/sh\nagent:x:9:9:::\nlast:x:65535:65535::/:";
        let group = b"root:x:0:\nstaff:x:50:root,agent\nshort:x:51\nstaff:x:99:\n";
        Accounts::parse(Some(passwd), Some(group))
    }

    fn user(uid: u32, gid: u32) -> Result<User, ImageError> {
        Ok(User { uid, gid })
    }

    #[test]
    fn resolves_names_and_numbers() {
        for (text, expected) in [
            ("", user(0, 0)),
            ("root", user(0, 0)),
            ("agent", user(1000, 1001)),
            ("1000", user(1000, 1001)),
            ("1234", user(1234, 0)),
            ("agent:staff", user(1000, 50)),
            ("agent:7", user(1000, 7)),
            ("1000:100", user(1000, 100)),
            ("1234:staff", user(1234, 50)),
            ("last", user(65_535, 65_535)),
        ] {
            assert_eq!(accounts().resolve(text), expected, "{text}");
        }
    }

    #[test]
    fn the_first_line_of_a_name_decides_also_where_it_is_no_use() {
        // A C library takes some of these first lines and others not; the second is nobody's.
        for first in
            ["a:x:70000:1:::", "a:x:5:5", "a:x:5:5:::::", "a:x:+5:5:::", "a:x:5:99999999999:::", "a:"]
        {
            let passwd = format!("{first}\na:x:0:0:::\n");
            let group = "g:x:70000:\ng:x:0:\n";
            let accounts = Accounts::parse(Some(passwd.as_bytes()), Some(group.as_bytes()));
            for (text, problem) in [("a", UserProblem::NoUser), ("7:g", UserProblem::NoGroup)] {
                assert_eq!(
                    accounts.resolve(text),
                    Err(ImageError::User { found: text.into(), problem }),
                    "{first}"
                );
            }
        }
    }

    #[test]
    fn refuses_with_the_reason() {
        for (text, problem) in [
            ("nobody", UserProblem::NoUser),
            ("short", UserProblem::NoUser),
            ("long", UserProblem::NoUser),
            ("signed", UserProblem::NoUser),
            ("high", UserProblem::NoUser),
            ("agent:nogroup", UserProblem::NoGroup),
            ("agent:short", UserProblem::NoGroup),
            ("65536", UserProblem::Range),
            ("0:65536", UserProblem::Range),
            ("99999999999", UserProblem::Range),
            (":5", UserProblem::Spelling),
            ("5:", UserProblem::Spelling),
            ("1:2:3", UserProblem::Spelling),
            ("+1:1", UserProblem::Spelling),
            ("-1", UserProblem::Spelling),
            ("a b", UserProblem::Spelling),
            ("a\nb", UserProblem::Spelling),
        ] {
            let found = text.replace('\n', "");
            assert_eq!(accounts().resolve(text), Err(ImageError::User { found, problem }), "{text}");
        }
    }

    #[test]
    fn without_the_files_only_numbers_resolve() {
        let none = Accounts::default();
        assert_eq!(none.resolve("5"), user(5, 0));
        assert_eq!(none.resolve("5:6"), user(5, 6));
        assert!(matches!(
            none.resolve("agent"),
            Err(ImageError::User { problem: UserProblem::NoPasswd, .. })
        ));
        assert!(matches!(
            none.resolve("5:g"),
            Err(ImageError::User { problem: UserProblem::NoGroupFile, .. })
        ));
    }
}
