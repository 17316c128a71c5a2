//! Text that the kernel writes, taken apart: `mountinfo`, `maps`, and the records of its log.
//!
//! Agents choose parts of it (names of files, what makes the kernel log something). A text with a line of another form is
//! refused whole: what is not understood is not left out.

/// A line of `/proc/PID/mountinfo` (proc_pid_mountinfo(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Number of the file system instance: `MAJOR:MINOR`.
    pub device: String,
    /// What of the file system is mounted.
    pub root: String,
    /// Where.
    pub target: String,
    /// Type of the file system.
    pub kind: String,
    /// What it was mounted from.
    pub source: String,
    /// Options of the file system.
    pub options: String,
}

impl Mount {
    /// Whether it is among the options of the file system.
    #[must_use]
    pub fn has_option(&self, wanted: &str) -> bool {
        self.options.split(',').any(|option| option == wanted)
    }
}

/// Device as mountinfo writes it, and inode.
pub type FileId = (String, String);

/// A line of `/proc/PID/maps`: `RANGE MODE OFFSET DEVICE INODE NAME` (proc_pid_maps(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Area {
    /// First byte.
    pub start: u64,
    /// Byte after the last one.
    pub end: u64,
    /// Whether it may be read.
    pub is_readable: bool,
    /// Where it begins in the file, in bytes.
    pub offset: u64,
    /// The file.
    pub file: Option<FileId>,
    /// Its name, or what it is.
    pub name: String,
}

/// Mounts, from the text of `/proc/PID/mountinfo`; none where a line is of another form, or where there is none.
#[must_use]
pub fn mounts(text: &str) -> Option<Vec<Mount>> {
    let mounts: Vec<Mount> = text.lines().map(mount).collect::<Option<_>>()?;
    (!mounts.is_empty()).then_some(mounts)
}

/// Areas of an address space, from the text of `/proc/PID/maps`; none as for mounts.
#[must_use]
pub fn areas(text: &str) -> Option<Vec<Area>> {
    let areas: Vec<Area> = text.lines().map(area).collect::<Option<_>>()?;
    (!areas.is_empty()).then_some(areas)
}

/// Messages, from records of `/dev/kmsg`; none where one is cut or of another form.
#[must_use]
pub fn messages(text: &str) -> Option<Vec<String>> {
    if !text.is_empty() && !text.ends_with('\n') {
        return None;
    }
    // Lines that begin with a space belong to the record before them.
    text.lines().filter(|line| !line.starts_with(' ')).map(message).collect()
}

fn mount(line: &str) -> Option<Mount> {
    let (mount, super_block) = line.split_once(" - ")?;
    let mut words = mount.split(' ').skip(2).map(str::to_owned);
    let (device, root, target) = (words.next()?, words.next()?, words.next()?);
    words.next()?;
    let mut words = super_block.split(' ').map(str::to_owned);
    Some(Mount {
        device,
        root,
        target,
        kind: words.next()?,
        source: words.next()?,
        options: words.next().unwrap_or_default(),
    })
}

fn area(line: &str) -> Option<Area> {
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let mut words = line.split_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let mode = words.next()?;
    let (offset, device, inode) = (words.next()?, words.next()?, words.next()?);
    let (major, minor) = device.split_once(':')?;
    // `maps` has hexadecimal numbers, mountinfo decimal ones.
    let device = format!("{}:{}", hex(major)?, hex(minor)?);
    inode.parse::<u64>().ok()?;
    Some(Area {
        start: hex(start)?,
        end: hex(end)?,
        is_readable: mode.starts_with('r'),
        offset: hex(offset)?,
        file: (inode != "0").then(|| (device, inode.to_owned())),
        name: words.collect::<Vec<_>>().join(" "),
    })
}

/// `PRIORITY,SEQUENCE,TIME,FLAGS[,...];MESSAGE`.
fn message(record: &str) -> Option<String> {
    let (head, message) = record.split_once(';')?;
    let mut numbers = head.split(',');
    let is_number = |word: Option<&str>| word.is_some_and(|word| word.parse::<u64>().is_ok());
    (is_number(numbers.next()) && is_number(numbers.next()) && is_number(numbers.next()))
        .then(|| message.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_mountinfo_is_understood_or_refused() {
        let line = "99 1 0:45 /a /b ro,nosuid idmapped - erofs /x ro,directio";
        let read = mount(line).unwrap();
        assert_eq!((read.device.as_str(), read.root.as_str(), read.target.as_str()), ("0:45", "/a", "/b"));
        assert!(read.has_option("directio") && !read.has_option("direct"));
        for cut in 0..line.find("/x").unwrap() {
            assert_eq!(mount(line.get(..cut).unwrap()), None, "{cut}");
        }
    }

    #[test]
    fn a_line_of_maps_is_understood_or_refused() {
        let read = area("10-20 r-xp 00001000 fe:00 7                          /a b").unwrap();
        assert_eq!((read.start, read.end, read.offset), (0x10, 0x20, 0x1000));
        assert_eq!((read.file, read.name.as_str()), (Some(("254:0".into(), "7".into())), "/a b"));
        assert_eq!(area("10-20 rw-p 00000000 00:00 0").unwrap().file, None);
        for bad in
            ["", "10 r-xp 0 fe:00 7", "10-20 r-xp 0 fe 7", "10-20 r-xp 0 fe:00 x", "10-20 r-xp 0 fe:00"]
        {
            assert_eq!(area(bad), None, "{bad}");
        }
    }
}
