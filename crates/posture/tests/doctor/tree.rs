//! Trees of files as machines show them: one of a TDX guest and one of an SEV-SNP guest where all is as it should be.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use casemate_canon::Sha384;
use casemate_posture::AgentFacts;
use casemate_protocol::agent_token::{Control, ControlStatus};
use tempfile::TempDir;

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    Text(String),
    Bytes(Vec<u8>),
    Link(String),
    Folder,
    /// A file that root alone opens.
    Closed,
}

pub(crate) type Files = BTreeMap<String, Entry>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Tdx,
    Snp,
}

pub(crate) fn write(files: &Files) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, entry) in files {
        put(&root, path, entry);
    }
    root
}

/// Makes the tree `before` the tree `after`.
pub(crate) fn change(root: &TempDir, before: &Files, after: &Files) {
    for (path, entry) in before {
        if after.get(path) == Some(entry) {
            continue;
        }
        let at = root.path().join(path.trim_start_matches('/'));
        if *entry == Entry::Folder {
            fs::remove_dir(&at).unwrap()
        } else {
            fs::remove_file(&at).unwrap()
        }
        let mut parent = at.parent().unwrap();
        // Folders that nothing is left in, and that nobody asked for.
        while parent != root.path() && fs::remove_dir(parent).is_ok() {
            parent = parent.parent().unwrap();
        }
    }
    for (path, entry) in after {
        if before.get(path) != Some(entry) || *entry == Entry::Folder {
            put(root, path, entry);
        }
    }
}

fn put(root: &TempDir, path: &str, entry: &Entry) {
    let path = root.path().join(path.trim_start_matches('/'));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    match entry {
        Entry::Text(text) => fs::write(&path, text).unwrap(),
        Entry::Bytes(bytes) => fs::write(&path, bytes).unwrap(),
        Entry::Link(target) => symlink(target, &path).unwrap(),
        Entry::Folder => fs::create_dir_all(&path).unwrap(),
        Entry::Closed => {
            fs::write(&path, "").unwrap();
            set_mode(&path, 0o600);
        }
    }
}

pub(crate) fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Numbers as a hardened kernel has them, below /proc/sys.
const SWITCHES: [(&str, &str); 25] = [
    ("kernel/io_uring_disabled", "2"),
    ("kernel/unprivileged_bpf_disabled", "2"),
    ("net/core/bpf_jit_harden", "2"),
    ("kernel/perf_event_paranoid", "3"),
    ("vm/unprivileged_userfaultfd", "0"),
    ("kernel/yama/ptrace_scope", "1"),
    ("kernel/kptr_restrict", "2"),
    ("kernel/dmesg_restrict", "1"),
    ("kernel/randomize_va_space", "2"),
    ("kernel/kexec_load_disabled", "1"),
    ("kernel/modules_disabled", "1"),
    ("kernel/sysrq", "0"),
    ("fs/suid_dumpable", "0"),
    ("fs/protected_symlinks", "1"),
    ("fs/protected_hardlinks", "1"),
    ("fs/protected_fifos", "2"),
    ("fs/protected_regular", "2"),
    ("dev/tty/legacy_tiocsti", "0"),
    ("dev/tty/ldisc_autoload", "0"),
    ("vm/mmap_min_addr", "65536"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/oops_limit", "1"),
    ("kernel/tainted", "0"),
    ("kernel/unprivileged_userns_clone", "0"),
    ("kernel/apparmor_restrict_unprivileged_userns", "1"),
];

/// Files with one line each.
const LINES: [(&str, &str); 31] = [
    (
        "/proc/cmdline",
        "mce=off oops=panic pci=noearly,nommconf no-kvmclock random.trust_cpu=y random.trust_bootloader=n ia32_emulation=0",
    ),
    ("/proc/sys/kernel/osrelease", "7.1.3-casemate"),
    ("/proc/sys/user/max_user_namespaces", "0"),
    ("/proc/sys/kernel/core_pattern", "core"),
    ("/proc/swaps", "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority"),
    ("/sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc"),
    ("/sys/devices/system/clocksource/clocksource0/available_clocksource", "tsc "),
    ("/sys/devices/virtual/misc/hw_random/rng_current", "none"),
    ("/sys/module/rng_core/parameters/default_quality", "0"),
    ("/sys/bus/virtio/devices/virtio0/modalias", "virtio:d00000001v00001AF4"),
    ("/sys/bus/virtio/devices/virtio1/modalias", "virtio:d00000002v00001AF4"),
    ("/sys/bus/pci/devices/0000:00:00.0/vendor", "0x8086"),
    ("/sys/bus/pci/devices/0000:00:00.0/class", "0x060000"),
    ("/sys/class/tty/console/active", "tty0"),
    ("/sys/block/vda/ro", "0"),
    ("/sys/block/vda/size", "2048"),
    ("/sys/block/dm-0/dm/uuid", "CRYPT-SUBDEV-0f-root_dif"),
    ("/sys/block/dm-1/dm/uuid", "CRYPT-LUKS2-x"),
    ("/sys/block/zram0/disksize", "0"),
    ("/sys/devices/system/cpu/smt/active", "0"),
    ("/sys/devices/system/cpu/smt/control", "notsupported"),
    ("/sys/kernel/mm/ksm/run", "0"),
    ("/sys/module/zswap/parameters/enabled", "N"),
    ("/sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]"),
    ("/sys/kernel/security/lockdown", "none [integrity] confidentiality"),
    ("/sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids"),
    ("/sys/fs/cgroup/cgroup.subtree_control", "cpu io memory pids"),
    ("/proc/self/mountinfo", "20 1 0:2 / / rw - ext4 /dev/dm-1 rw"),
    ("/proc/net/protocols", "protocol  size sockets  memory press maxhdr  slab module"),
    ("/sys/kernel/config/tsm/report/one/generation", "1"),
    ("/sys/kernel/security/lsm", "lockdown,capability,landlock,apparmor"),
];

const VULNERABILITIES: [&str; 19] = [
    "gather_data_sampling",
    "ghostwrite",
    "indirect_target_selection",
    "itlb_multihit",
    "l1tf",
    "mds",
    "meltdown",
    "mmio_stale_data",
    "old_microcode",
    "reg_file_data_sampling",
    "retbleed",
    "spec_rstack_overflow",
    "spec_store_bypass",
    "spectre_v1",
    "spectre_v2",
    "srbds",
    "tsa",
    "tsx_async_abort",
    "vmscape",
];

/// A kernel without any of the code that the checks name.
pub(crate) const CONFIG: &str =
    "# Linux/x86\nCONFIG_64BIT=y\n# CONFIG_IA32_EMULATION is not set\n#\n# end of Kernel hacking\n";

pub(crate) fn good(kind: Kind) -> Files {
    let mut files = Files::new();
    let mut text = |path: &str, line: &str| files.insert(path.to_owned(), Entry::Text(format!("{line}\n")));
    for (path, line) in LINES {
        text(path, line);
    }
    for (path, value) in SWITCHES {
        text(&format!("/proc/sys/{path}"), value);
    }
    for name in VULNERABILITIES {
        text(&format!("/sys/devices/system/cpu/vulnerabilities/{name}"), "Not affected");
    }
    for (number, pid) in [11_u32, 12].into_iter().enumerate() {
        for (path, line) in process(pid, number) {
            text(&path, &line);
        }
    }
    let encryption = if kind == Kind::Tdx { "Intel TDX" } else { "AMD SEV SEV-ES SEV-SNP" };
    text(
        "/dev/kmsg",
        &format!(
            "5,0,0,-;Linux version 7.1.3\n6,1,1,-;SEV: Status: SEV SEV-ES SEV-SNP RI DebugSwap NoHostIBS BTBIsol SecureTSC \
             VMSARegProt SMTProt \n6,2,2,-;Memory Encryption Features active: {encryption}"
        ),
    );
    let config = format!("/boot/config-{}", "7.1.3-casemate");
    files.insert(config, Entry::Text(CONFIG.to_owned()));
    for folder in [
        "/sys/block/dm-1/holders",
        "/sys/module/kernel",
        "/sys/block/vda/holders/dm-0",
        "/sys/block/dm-0/holders/dm-1",
    ] {
        files.insert(folder.to_owned(), Entry::Folder);
    }
    for (pid, offset) in [("11", 0), ("12", 100)] {
        for (place, name) in ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"].iter().enumerate()
        {
            let target = format!("{name}:[{}]", 4_026_531_835 + place + offset);
            files.insert(format!("/proc/{pid}/ns/{name}"), Entry::Link(target));
        }
    }
    match kind {
        Kind::Tdx => tdx(&mut files),
        Kind::Snp => snp(&mut files),
    }
    files.insert("/dev/tpmrm0".into(), Entry::Closed);
    files
}

fn tdx(files: &mut Files) {
    const REGISTERS: &str = "/sys/devices/virtual/misc/tdx_guest/measurements";
    for name in ["mrtd", "rtmr3"] {
        files.insert(format!("{REGISTERS}/{name}:sha384"), Entry::Bytes(vec![0; 48]));
    }
    let (log, registers) = event_log();
    for (number, register) in registers.iter().enumerate() {
        files.insert(format!("{REGISTERS}/rtmr{number}:sha384"), Entry::Bytes(register.0.to_vec()));
    }
    files.insert("/sys/firmware/acpi/tables/data/CCEL".into(), Entry::Bytes(log));
    files.insert("/sys/kernel/config/tsm/report/one/provider".into(), Entry::Text("tdx_guest\n".into()));
    files.insert("/dev/tdx_guest".into(), Entry::Closed);
}

fn snp(files: &mut Files) {
    files.insert("/sys/devices/virtual/misc/sev-guest".into(), Entry::Folder);
    files.insert("/sys/devices/system/cpu/sev/vmpl".into(), Entry::Text("0\n".into()));
    files.insert("/sys/kernel/config/tsm/report/one/provider".into(), Entry::Text("sev_guest\n".into()));
    files.insert("/dev/sev-guest".into(), Entry::Closed);
}

/// A log with one event of each register, and what the registers hold after it (TCG PC Client Platform Firmware Profile,
/// "Crypto Agile Log Entry Format").
pub(crate) fn event_log() -> (Vec<u8>, [Sha384; 3]) {
    let mut header = b"Spec ID Event03\0".to_vec();
    header.extend([0, 0, 0, 0, 0, 2, 0, 2]);
    header.extend(1_u32.to_le_bytes());
    header.extend(0x000c_u16.to_le_bytes());
    header.extend(48_u16.to_le_bytes());
    header.push(0);
    let mut log = Vec::new();
    log.extend(0_u32.to_le_bytes());
    log.extend(3_u32.to_le_bytes());
    log.extend([0; 20]);
    log.extend(u32::try_from(header.len()).unwrap().to_le_bytes());
    log.extend(header);
    let mut registers = [Sha384::ZERO; 3];
    for (index, register) in (1_u32..).zip(&mut registers) {
        let digest = Sha384::of(&index.to_le_bytes());
        log.extend(index.to_le_bytes());
        log.extend(5_u32.to_le_bytes());
        log.extend(1_u32.to_le_bytes());
        log.extend(0x000c_u16.to_le_bytes());
        log.extend(digest.0);
        log.extend(0_u32.to_le_bytes());
        *register = register.extend(&digest);
    }
    (log, registers)
}

fn process(pid: u32, number: usize) -> Vec<(String, String)> {
    let first = 1_000_000 + 65536 * number;
    let zero = "0000000000000000";
    let status = format!(
        "Name:\tx\nUid:\t{first}\t{first}\t{first}\t{first}\nCapInh:\t{zero}\nCapPrm:\t{zero}\nCapEff:\t{zero}\nCapBnd:\t{zero}\n\
         CapAmb:\t{zero}\nNoNewPrivs:\t1\nSeccomp:\t2\nSpeculation_Store_Bypass:\tthread force mitigated\n\
         SpeculationIndirectBranch:\tconditional force disabled"
    );
    let mounts = format!(
        "30 1 0:{n} / / ro - erofs /x ro,directio\n31 30 0:{p} / /proc rw - proc proc rw,hidepid=invisible,subset=pid",
        n = 40 + number,
        p = 50 + number
    );
    let maps = format!(
        "55d0-55d1 r-xp 00000000 00:{:02x} 7 /bin/x\n7ffc-7ffd rw-p 00000000 00:00 0 [stack]",
        40 + number
    );
    let group = format!("/sys/fs/cgroup/box/{pid}");
    let of = |file: &str| format!("/proc/{pid}/{file}");
    vec![
        (of("status"), status),
        (of("mountinfo"), mounts),
        (of("maps"), maps),
        (of("uid_map"), format!("         0 {first} 65536")),
        (of("cgroup"), format!("0::/box/{pid}")),
        (of("ksm_stat"), "ksm_rmap_items 0\nksm_merging_pages 0".into()),
        (of("net/tcp"), "  sl  local_address rem_address   st\n   0: 0100007F:1F90 00000000:0000 0A".into()),
        (of("net/unix"), "Num       RefCount Protocol Flags    Type St Inode Path".into()),
        (format!("{group}/pids.max"), "100".into()),
        (format!("{group}/memory.max"), "268435456".into()),
        (format!("{group}/memory.swap.max"), "0".into()),
        (format!("{group}/cpu.max"), "50000 100000".into()),
        (format!("{group}/io.max"), "254:0 rbps=1000 wbps=1000 riops=max wiops=max".into()),
    ]
}

pub(crate) fn agents() -> Vec<AgentFacts> {
    let agent = |name: &str, pid| AgentFacts {
        name: name.into(),
        trust: name.into(),
        share: None,
        pids: vec![pid],
        controls: [(Control::CoreScheduling, ControlStatus::Enforced)].into(),
        ports: [8080].into(),
    };
    vec![agent("a", 11), agent("b", 12)]
}

/// An SNP report of version 3 whose fields are as they should be, with bytes changed.
pub(crate) fn snp_report(changes: &[(usize, u8)]) -> Vec<u8> {
    let mut bytes = vec![0; 1184];
    // Version, policy (bit 17 always one, ciphertext hiding, page swap off), algorithm, platform information, host data,
    // family and model of Genoa.
    let fields = [
        (0, 3),
        (0x0a, 0x02),
        (0x0b, 0x03),
        (0x34, 1),
        (0x40, 0x30),
        (0xc0, 1),
        (0x188, 0x19),
        (0x189, 0x11),
    ];
    for (place, byte) in fields.iter().chain(changes) {
        bytes[*place] = *byte;
    }
    bytes
}

/// A TDX quote whose fields are as they should be, with bytes changed.
pub(crate) fn tdx_quote(changes: &[(usize, u8)]) -> Vec<u8> {
    use casemate_testkit::{DevPki, TdBody, Tee};
    use std::sync::OnceLock;
    static QUOTE: OnceLock<Vec<u8>> = OnceLock::new();
    let quote = QUOTE.get_or_init(|| {
        let pki = DevPki::generate(Tee::Tdx, 1_790_000_000).unwrap();
        let mut body = TdBody::new();
        body.mrconfigid = [1; 48];
        for (to, from) in body.rtmr.iter_mut().zip(event_log().1) {
            *to = from.0;
        }
        pki.tdx_quote(&body).unwrap()
    });
    let mut bytes = quote.clone();
    for (place, byte) in changes {
        bytes[*place] = *byte;
    }
    bytes
}
