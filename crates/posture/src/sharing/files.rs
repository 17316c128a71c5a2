//! Files and folders that two agents have in common: mapped by processes of both, or mounted for both.

use std::collections::{BTreeMap, BTreeSet};

use crate::agents::{self, AgentFacts};
use crate::kernel_text::{self, Area, FileId, Mount};
use crate::tree::{Tree, Unread};

/// What two agents have in common.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Common {
    /// Names of files that processes of both have mapped.
    pub(crate) mapped: Vec<(FileId, String)>,
    /// Likewise, of files that are the program of each process that has them mapped, and that neither agent has in its mounts:
    /// the box's own first process of a compartment, and gVisor's.
    pub(crate) own: Vec<(FileId, String)>,
    /// Folders that both have mounted: type, device and folder of the file system.
    pub(crate) mounted: Vec<String>,
}

/// A file that processes of an agent have mapped.
struct Mapped {
    name: String,
    /// Each process that has it mapped has it as its program.
    as_program: bool,
}

/// What two agents have in common; an error says what could not be read.
pub(crate) fn common(tree: &Tree, a: &AgentFacts, b: &AgentFacts) -> Result<Common, (&'static str, Unread)> {
    let maps = |agent| mapped(tree, agent).map_err(|why| ("maps", why));
    let (in_a, in_b) = (maps(a)?, maps(b)?);
    let of = |agent: &AgentFacts| agents::mounts(tree, &agent.first()?.to_string());
    let mounts = |agent| of(agent).map_err(|why| ("mountinfo", why));
    let (at_a, at_b) = (mounts(a)?, mounts(b)?);
    let all: Vec<&Mount> = at_a.iter().chain(&at_b).collect();
    let box_mounts = agents::mounts(tree, "self").unwrap_or_default();
    let mut common = Common { mounted: common_places(&places(&at_a), &places(&at_b)), ..Common::default() };
    for (id, file) in &in_a {
        let Some(other) = in_b.get(id) else { continue };
        let is_own =
            file.as_program && other.as_program && is_out_of_reach(&id.0, &file.name, &box_mounts, &all);
        let list = if is_own { &mut common.own } else { &mut common.mapped };
        list.push((id.clone(), file.name.clone()));
    }
    Ok(common)
}

/// Files that the processes of an agent have mapped, by device and inode.
fn mapped(tree: &Tree, agent: &AgentFacts) -> Result<BTreeMap<FileId, Mapped>, Unread> {
    let mut files: BTreeMap<FileId, Mapped> = BTreeMap::new();
    agent.first()?;
    for pid in &agent.pids {
        let program = tree.link(&format!("/proc/{pid}/exe")).unwrap_or_default();
        for area in areas(tree, *pid)? {
            let Some(id) = area.file else { continue };
            let as_program = area.name == program;
            files
                .entry(id)
                .and_modify(|file| file.as_program &= as_program)
                .or_insert(Mapped { name: area.name, as_program });
        }
    }
    Ok(files)
}

/// What a process has in its address space.
pub(crate) fn areas(tree: &Tree, pid: u32) -> Result<Vec<Area>, Unread> {
    kernel_text::areas(&tree.text(&format!("/proc/{pid}/maps"))?).ok_or(Unread::NotText)
}

/// What an agent has mounted that holds files: device and folder of it; and the folders below an overlay.
fn places(mounts: &[Mount]) -> BTreeSet<(String, String)> {
    let mut places = BTreeSet::new();
    for mount in mounts.iter().filter(|mount| mount.kind != "proc" && mount.kind != "devpts") {
        places.insert((format!("{} {}", mount.kind, mount.device), mount.root.clone()));
        let lower = mount.options.split(',').find_map(|option| option.strip_prefix("lowerdir="));
        let lower = lower.into_iter().flat_map(|lower| lower.split(':'));
        places.extend(lower.map(|path| ("overlay on".to_owned(), path.to_owned())));
    }
    places
}

/// Places of one file system of which one is inside the other.
fn common_places(a: &BTreeSet<(String, String)>, b: &BTreeSet<(String, String)>) -> Vec<String> {
    let meets = |(device, place): &(String, String)| {
        b.iter().any(|(other, at)| device == other && (is_inside(place, at) || is_inside(at, place)))
    };
    a.iter().filter(|place| meets(place)).map(|(device, place)| format!("{device} {place}")).collect()
}

fn is_inside(path: &str, folder: &str) -> bool {
    let rest = path.strip_prefix(folder.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether no mount of `seen` leads to the file `name` of the box. Where its place in its file system is not known, some
/// may.
fn is_out_of_reach(device: &str, name: &str, box_mounts: &[Mount], seen: &[&Mount]) -> bool {
    let of_device: Vec<&&Mount> = seen.iter().filter(|mount| mount.device == device).collect();
    if of_device.is_empty() {
        return true;
    }
    let holds = |mount: &&Mount| mount.device == device && is_inside(name, &mount.target);
    let Some(holder) = box_mounts.iter().filter(holds).max_by_key(|mount| mount.target.len()) else {
        return false;
    };
    let below = name.strip_prefix(holder.target.trim_end_matches('/')).unwrap_or(name);
    let place = format!("{}{below}", holder.root.trim_end_matches('/'));
    of_device.iter().all(|mount| !is_inside(&place, &mount.root))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(device: &str, root: &str, target: &str) -> Mount {
        Mount {
            device: device.into(),
            root: root.into(),
            target: target.into(),
            kind: "ext4".into(),
            source: "/dev/x".into(),
            options: String::new(),
        }
    }

    #[test]
    fn a_program_of_the_box_is_out_of_reach_where_no_mount_leads_to_it() {
        let the_box = [mount("8:1", "/", "/"), mount("8:2", "/sub", "/opt")];
        let reach = |device: &str, name: &str, mounts: &[Mount]| {
            !is_out_of_reach(device, name, &the_box, &mounts.iter().collect::<Vec<_>>())
        };
        assert!(!reach("8:1", "/usr/bin/l", &[mount("0:5", "/", "/")]));
        assert!(!reach("8:1", "/usr/bin/l", &[mount("8:1", "/var/volume", "/data")]));
        assert!(reach("8:1", "/usr/bin/l", &[mount("8:1", "/usr", "/data")]));
        assert!(reach("8:1", "/usr/bin/l", &[mount("8:1", "/", "/data")]));
        assert!(reach("8:2", "/opt/l", &[mount("8:2", "/sub", "/data")]));
        assert!(!reach("8:2", "/opt/l", &[mount("8:2", "/other", "/data")]));
        // Nothing says where it is.
        assert!(reach("8:9", "/opt/l", &[mount("8:9", "/other", "/data")]));
    }

    #[test]
    fn folders_of_one_file_system_meet_where_one_is_in_the_other() {
        let set = |places: &[(&str, &str)]| {
            places.iter().map(|(device, place)| ((*device).to_owned(), (*place).to_owned())).collect()
        };
        assert_eq!(common_places(&set(&[("d", "/a")]), &set(&[("d", "/a/b")])), ["d /a"]);
        assert_eq!(common_places(&set(&[("d", "/")]), &set(&[("d", "/a")])), ["d /"]);
        assert!(common_places(&set(&[("d", "/a")]), &set(&[("d", "/ab"), ("e", "/a")])).is_empty());
    }
}
