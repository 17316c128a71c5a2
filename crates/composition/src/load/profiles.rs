//! `profiles`: services that are left out, and what depends on them.

use std::collections::{BTreeMap, BTreeSet};

use crate::problem::{Place, printable};
use crate::yaml::{Member, Node, Value};

use super::{Loader, services, take};

/// Services that are left out, and their profiles.
#[derive(Debug, Default)]
pub(super) struct LeftOut(BTreeMap<String, Vec<String>>);

impl LeftOut {
    /// Why a service is left out, and what to do about it.
    fn reason(&self, name: &str) -> Option<(String, String)> {
        let profiles = self.0.get(name)?;
        let shown: Vec<String> = profiles.iter().map(|profile| format!("`{}`", printable(profile))).collect();
        let first = profiles.first().map_or("*", String::as_str);
        Some((
            format!("is left out: none of its profiles is active ({})", shown.join(", ")),
            format!("activate it with `--profile {}`", printable(first)),
        ))
    }
}

impl Loader<'_, '_, '_> {
    /// Takes out the services that no active profile asks for, and `profiles` of the others.
    pub(super) fn leave_out(&mut self, root: &mut Node) {
        let Some(members) = services(root) else { return };
        let mut kept = Vec::new();
        for mut member in std::mem::take(members) {
            let profiles = take(&mut member.node, "profiles").map(|written| self.profile_names(&written));
            let profiles = profiles.unwrap_or_default();
            let active = &self.request.profiles;
            let wanted = profiles.is_empty()
                || active.contains("*")
                || profiles.iter().any(|profile| active.contains(profile));
            self.profiles.extend(profiles.iter().cloned());
            if wanted {
                kept.push(member);
            } else {
                self.left_out.0.insert(member.key, profiles);
            }
        }
        *members = kept;
    }

    fn profile_names(&mut self, written: &Member) -> Vec<String> {
        let Value::List(items) = &written.node.value else {
            let what = format!("`profiles` is {}, not a list", written.node.kind());
            self.findings.problem(written.node.place, what, "write `- name` lines");
            return Vec::new();
        };
        let mut names = Vec::new();
        for item in items {
            let Some(name) = self.path_text(item, "profiles") else { continue };
            if is_profile(&name.value) {
                names.push(name.value);
            } else {
                let what = format!(
                    "profile `{}` does not begin with a letter or digit, or has other characters than a-z, A-Z, 0-9, `_`, `.` and `-`",
                    printable(&name.value)
                );
                self.findings.problem(name.place, what, "rename the profile");
            }
        }
        names
    }

    /// Looks for dependencies on services that are left out, and for profiles that nobody has.
    pub(super) fn check_profiles(&mut self, root: &mut Node) {
        for profile in &self.request.profiles {
            if profile != "*" && !self.profiles.contains(profile) {
                let what = format!("profile `{}` is active, and no service has it", printable(profile));
                let todo = if self.profiles.is_empty() {
                    "leave it out: no service has a profile".to_owned()
                } else {
                    let all: Vec<String> = self.profiles.iter().map(|profile| printable(profile)).collect();
                    format!("correct it; there are {}", all.join(", "))
                };
                self.findings.warning(Place::START, what, todo);
            }
        }
        self.check_none_left(root);
        let Some(members) = services(root) else { return };
        let there: BTreeSet<String> = members.iter().map(|member| member.key.clone()).collect();
        for member in members {
            let Value::Map(keys) = &mut member.node.value else { continue };
            for key in keys {
                match key.key.as_str() {
                    "depends_on" => self.check_dependencies(&mut key.node, &there),
                    "x-casemate" => self.check_calls(&key.node, &there),
                    _ => {}
                }
            }
        }
    }

    fn check_none_left(&mut self, root: &Node) {
        let Value::Map(members) = &root.value else { return };
        let services = members.iter().find(|member| member.key == "services");
        if let Some(member) = services
            && matches!(&member.node.value, Value::Map(services) if services.is_empty())
            && !self.left_out.0.is_empty()
        {
            let all: Vec<String> = self.profiles.iter().map(|profile| printable(profile)).collect();
            let what = "every service is left out: each has profiles, and none of them is active";
            let todo = format!("activate one with --profile: {}", all.join(", "));
            self.findings.broken(member.key_place, what, todo);
        }
    }

    fn check_dependencies(&mut self, node: &mut Node, there: &BTreeSet<String>) {
        match &mut node.value {
            Value::List(items) => {
                for item in items {
                    if let Value::Scalar { text, .. } = &item.value {
                        self.refuse_left_out("depends_on", text, item.place, there);
                    }
                }
            }
            Value::Map(members) => members.retain(|member| {
                let required = member.node.get("required").map(|node| &node.value);
                let optional = matches!(required, Some(Value::Scalar { text, .. }) if text == "false");
                if there.contains(&member.key) || !optional {
                    self.refuse_left_out("depends_on", &member.key, member.key_place, there);
                    return true;
                }
                if !self.left_out.0.contains_key(&member.key) {
                    let what = format!(
                        "`depends_on` names `{}`, which is no service; it is not required",
                        printable(&member.key)
                    );
                    self.findings.warning(member.key_place, what, "remove it, or name a service");
                }
                false
            }),
            Value::Scalar { .. } => {}
        }
    }

    fn check_calls(&mut self, extension: &Node, there: &BTreeSet<String>) {
        let Some(Node { value: Value::List(items), .. }) = extension.get("talks-to") else { return };
        for item in items {
            let to = if matches!(item.value, Value::Map(_)) { item.get("to") } else { Some(item) };
            if let Some(Node { value: Value::Scalar { text, .. }, .. }) = to {
                let name = text.rsplit_once(':').map_or(text.as_str(), |(name, _)| name);
                self.refuse_left_out("talks-to", name, item.place, there);
            }
        }
    }

    fn refuse_left_out(&mut self, key: &str, name: &str, place: Place, there: &BTreeSet<String>) {
        if there.contains(name) {
            return;
        }
        if let Some((reason, todo)) = self.left_out.reason(name) {
            let todo = if key == "depends_on" { format!("{todo}, or write required: false") } else { todo };
            self.findings.broken(place, format!("`{key}` names `{}`, which {reason}", printable(name)), todo);
        }
    }
}

/// `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, bounded.
fn is_profile(name: &str) -> bool {
    let ok = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    (1..=128).contains(&name.len())
        && name.bytes().all(ok)
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
}
