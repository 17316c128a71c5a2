//! The mounted tree against the kernel's text on configfs-tsm, and against the attester that runs in the box.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

mod appraisal;
mod emulator;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::symlink;
use std::path::Path;

use casemate_attester::{Provider, RegisterError, RuntimeRegister, Tsm, TsmError};
use casemate_canon::{Sha256, Sha384};
use casemate_evidence::{parse_certificate_table, parse_snp_report, parse_tdx_quote};
use emulator::{COMPOSITION, Emulator, in_mount_namespace, is_mounted};
use rustix::io::Errno;
use rustix::process::Signal;

fn errno<T>(result: io::Result<T>) -> Option<Errno> {
    result.err().and_then(|error| Errno::from_io_error(&error))
}

fn generation(entry: &Path) -> u64 {
    fs::read_to_string(entry.join("generation")).unwrap().trim_end().parse().unwrap()
}

fn write_once(path: &Path, bytes: &[u8]) -> io::Result<usize> {
    OpenOptions::new().write(true).open(path)?.write(bytes)
}

fn entries(report: &Path) -> usize {
    fs::read_dir(report).unwrap().count()
}

#[test]
fn the_attester_gets_a_tdx_quote_that_binds_its_report_data() {
    in_mount_namespace("the_attester_gets_a_tdx_quote_that_binds_its_report_data", || {
        let emulator = Emulator::start("tdx");
        assert!(emulator.stderr().contains("ALL EVIDENCE IS SIMULATED"), "{}", emulator.stderr());
        let tsm = Tsm::at(&emulator.report()).unwrap();
        let register = RuntimeRegister::at(&emulator.measurements()).unwrap();
        assert_eq!(register.read().unwrap(), Sha384::ZERO);
        register.extend(&Sha384::of(b"event")).unwrap();

        for report_data in [[0; 64], [0x5a; 64]] {
            let report = tsm.report(&report_data).unwrap();
            assert_eq!(report.provider, Provider::TdxGuest);
            assert!(report.auxblob.is_empty());
            let quote = parse_tdx_quote(&report.outblob).unwrap();
            assert_eq!(quote.body.report_data, &report_data);
            assert_eq!(quote.body.mr_config_id, &COMPOSITION);
            assert_eq!(quote.body.rtmr[3], &Sha384::ZERO.extend(&Sha384::of(b"event")).0);
        }
        assert_eq!(entries(&emulator.report()), 0, "an entry was left behind");
    });
}

#[test]
fn the_attester_gets_an_snp_report_that_binds_its_report_data() {
    in_mount_namespace("the_attester_gets_an_snp_report_that_binds_its_report_data", || {
        let emulator = Emulator::start("snp");
        let tsm = Tsm::at(&emulator.report()).unwrap();
        assert_eq!(tsm.provider().unwrap(), Provider::SevGuest);
        let answer = tsm.report(&[0x5a; 64]).unwrap();
        assert_eq!(answer.provider, Provider::SevGuest);
        let report = parse_snp_report(&answer.outblob).unwrap();
        assert_eq!(report.report_data, &[0x5a; 64]);
        assert_eq!(report.host_data, &Sha256::of(&COMPOSITION).0);
        assert_eq!(report.vmpl, 0);
        assert_eq!(parse_certificate_table(&answer.auxblob).unwrap().len(), 3);
        assert_eq!(entries(&emulator.report()), 0, "an entry was left behind");
        // SEV-SNP has no runtime register, and the emulator does not invent one.
        let path = emulator.measurements().join("rtmr3:sha384");
        assert_eq!(RuntimeRegister::at(&emulator.measurements()), Err(RegisterError::Absent { path }));
    });
}

#[test]
fn registers_hold_the_launch_and_only_the_last_one_extends() {
    in_mount_namespace("registers_hold_the_launch_and_only_the_last_one_extends", || {
        let emulator = Emulator::start("tdx");
        let dir = emulator.measurements();
        let values: serde_json::Value =
            serde_json::from_slice(&fs::read(emulator.state().join("reference-values.json")).unwrap())
                .unwrap();
        for name in ["mrtd", "rtmr0", "rtmr1", "rtmr2"] {
            let held = fs::read(dir.join(format!("{name}:sha384"))).unwrap();
            assert_eq!(values[name], hex::encode(held), "{name}");
        }
        assert_eq!(fs::read(dir.join("mrconfigid")).unwrap(), COMPOSITION);
        let programs = [fs::read("/bin/true").unwrap(), fs::read("/bin/false").unwrap()];
        let rtmr2 = programs.iter().fold(Sha384::ZERO, |held, bytes| held.extend(&Sha384::of(bytes)));
        assert_eq!(values["rtmr2"], rtmr2.to_hex());

        for name in ["mrowner", "mrownerconfig"] {
            assert_eq!(fs::read(dir.join(name)).unwrap(), [0; 48], "{name}");
        }
        assert_eq!(entries(&dir), 8);
        for name in ["mrconfigid", "mrowner", "mrtd:sha384", "rtmr0:sha384", "rtmr1:sha384", "rtmr2:sha384"] {
            assert_eq!(errno(write_once(&dir.join(name), &[1; 48])), Some(Errno::ACCESS), "{name}");
        }
        let rtmr3 = dir.join("rtmr3:sha384");
        for length in [1, 47, 49, 96] {
            assert_eq!(errno(write_once(&rtmr3, &vec![1; length])), Some(Errno::INVAL), "{length}");
        }
        assert_eq!(fs::read(&rtmr3).unwrap(), [0; 48], "a refused write extended");
        assert_eq!(write_once(&rtmr3, &[1; 48]).unwrap(), 48);
        assert_eq!(fs::read(&rtmr3).unwrap(), Sha384::ZERO.extend(&Sha384([1; 48])).0);
    });
}

#[test]
fn generation_steps_with_every_write_and_a_report_follows_the_last() {
    in_mount_namespace("generation_steps_with_every_write_and_a_report_follows_the_last", || {
        let emulator = Emulator::start("tdx");
        let entry = emulator.entry("mine");
        let outblob = entry.join("outblob");
        assert_eq!(generation(&entry), 0);
        assert_eq!(errno(fs::read(&outblob)), Some(Errno::INVAL), "nothing was asked yet");

        fs::write(entry.join("inblob"), [1; 64]).unwrap();
        assert_eq!(generation(&entry), 1);
        let first = fs::read(&outblob).unwrap();
        assert_eq!(fs::read(&outblob).unwrap(), first, "the report is made once for one write");
        assert_eq!(generation(&entry), 1, "reading does not step");

        // A file opened and read before a write keeps its content, as a kernel buffer does.
        let mut open = File::open(&outblob).unwrap();
        let mut start = [0; 16];
        open.read_exact(&mut start).unwrap();
        fs::write(entry.join("inblob"), [2; 64]).unwrap();
        assert_eq!(generation(&entry), 2);
        let mut whole = Vec::new();
        open.rewind().unwrap();
        open.read_to_end(&mut whole).unwrap();
        assert_eq!(whole, first);
        let second = fs::read(&outblob).unwrap();
        assert_eq!(parse_tdx_quote(&second).unwrap().body.report_data, &[2; 64]);
    });
}

#[test]
fn inblob_takes_effect_at_close_and_holds_64_bytes() {
    in_mount_namespace("inblob_takes_effect_at_close_and_holds_64_bytes", || {
        let emulator = Emulator::start("tdx");
        let entry = emulator.entry("mine");
        let inblob = entry.join("inblob");
        let mut file = OpenOptions::new().write(true).open(&inblob).unwrap();
        file.write_all(&[1; 32]).unwrap();
        file.write_all(&[2; 32]).unwrap();
        assert_eq!(generation(&entry), 0, "not before it is closed");
        assert_eq!(errno(file.write(&[3])), Some(Errno::FBIG));
        drop(file);
        assert_eq!(generation(&entry), 1);
        let quote = fs::read(entry.join("outblob")).unwrap();
        let expected = [[1; 32], [2; 32]].concat();
        assert_eq!(parse_tdx_quote(&quote).unwrap().body.report_data.as_slice(), expected);

        assert_eq!(errno(write_once(&inblob, &[0; 65])), Some(Errno::FBIG));
        assert_eq!(generation(&entry), 1, "a refused write does not step");
        // A shorter one is taken, and refused when the report is made: the guest drivers want 64 bytes.
        fs::write(&inblob, [1; 63]).unwrap();
        assert_eq!(generation(&entry), 2);
        assert_eq!(errno(fs::read(entry.join("outblob"))), Some(Errno::INVAL));
    });
}

#[test]
fn modes_bind_root_and_nothing_is_made_by_hand() {
    in_mount_namespace("modes_bind_root_and_nothing_is_made_by_hand", || {
        let emulator = Emulator::start("tdx");
        let (report, entry) = (emulator.report(), emulator.entry("mine"));
        assert_eq!(errno(fs::read(entry.join("inblob"))), Some(Errno::ACCESS));
        for name in ["outblob", "generation", "provider"] {
            assert_eq!(errno(write_once(&entry.join(name), b"1")), Some(Errno::ACCESS), "{name}");
        }
        // Not visible to a TDX guest.
        for name in ["auxblob", "privlevel", "privlevel_floor"] {
            assert_eq!(errno(fs::metadata(entry.join(name))), Some(Errno::NOENT), "{name}");
        }
        for dir in [&emulator.mount(), &report, &entry, &emulator.measurements()] {
            assert_eq!(errno(File::create(dir.join("x"))), Some(Errno::ACCESS), "{dir:?}");
            assert_eq!(errno(symlink("a", dir.join("x"))), Some(Errno::PERM), "{dir:?}");
        }
        for dir in [&emulator.mount(), &entry, &emulator.measurements()] {
            assert_eq!(errno(fs::create_dir(dir.join("x"))), Some(Errno::PERM), "{dir:?}");
        }
        assert_eq!(errno(fs::create_dir(&entry)), Some(Errno::EXIST));
        assert_eq!(errno(fs::rename(&entry, report.join("x"))), Some(Errno::PERM));
        assert_eq!(errno(fs::remove_file(entry.join("inblob"))), Some(Errno::PERM));
        assert_eq!(errno(fs::remove_dir(&report)), Some(Errno::PERM));
        assert_eq!(errno(fs::remove_dir(report.join("x"))), Some(Errno::NOENT));
        fs::remove_dir(&entry).unwrap();
        assert_eq!(errno(fs::read(entry.join("generation"))), Some(Errno::NOENT));
    });
}

#[test]
fn an_open_file_of_a_removed_entry_is_dead_and_a_new_entry_starts_fresh() {
    in_mount_namespace("an_open_file_of_a_removed_entry_is_dead_and_a_new_entry_starts_fresh", || {
        let emulator = Emulator::start("tdx");
        let entry = emulator.entry("mine");
        fs::write(entry.join("inblob"), [1; 64]).unwrap();
        let mut open = File::open(entry.join("outblob")).unwrap();
        fs::remove_dir(&entry).unwrap();
        assert_eq!(errno(open.read(&mut [0; 16])), Some(Errno::NOENT));
        let entry = emulator.entry("mine");
        assert_eq!(generation(&entry), 0);
        assert_eq!(errno(fs::read(entry.join("outblob"))), Some(Errno::INVAL));
    });
}

#[test]
fn an_snp_guest_chooses_its_privilege_level_within_bounds() {
    in_mount_namespace("an_snp_guest_chooses_its_privilege_level_within_bounds", || {
        let emulator = Emulator::start("snp");
        let entry = emulator.entry("mine");
        assert_eq!(fs::read_to_string(entry.join("privlevel_floor")).unwrap(), "0\n");
        for bad in ["4", "-1", "x", ""] {
            let refused = write_once(&entry.join("privlevel"), bad.as_bytes());
            // An empty write does not reach a file system at all.
            assert!(errno(refused) == Some(Errno::INVAL) || bad.is_empty(), "{bad}");
        }
        assert_eq!(generation(&entry), 0);
        write_once(&entry.join("privlevel"), b"3\n").unwrap();
        fs::write(entry.join("inblob"), [1; 64]).unwrap();
        assert_eq!(generation(&entry), 2);
        let report = fs::read(entry.join("outblob")).unwrap();
        assert_eq!(parse_snp_report(&report).unwrap().vmpl, 3);
    });
}

#[test]
fn entries_are_bounded() {
    in_mount_namespace("entries_are_bounded", || {
        let emulator = Emulator::start("tdx");
        for number in 0..1024 {
            fs::create_dir(emulator.report().join(number.to_string())).unwrap();
        }
        assert_eq!(errno(fs::create_dir(emulator.report().join("one more"))), Some(Errno::NOSPC));
        assert_eq!(entries(&emulator.report()), 1024);
        let long = "x".repeat(256);
        assert_eq!(errno(fs::create_dir(emulator.report().join(long))), Some(Errno::NAMETOOLONG));
    });
}

#[test]
fn sigterm_and_sigint_unmount_even_while_a_file_is_open() {
    in_mount_namespace("sigterm_and_sigint_unmount_even_while_a_file_is_open", || {
        for signal in [Signal::TERM, Signal::INT] {
            let mut emulator = Emulator::start("tdx");
            let open = File::open(emulator.measurements().join("mrconfigid")).unwrap();
            assert!(is_mounted(&emulator.mount()));
            assert!(emulator.signal(signal).success());
            assert!(!is_mounted(&emulator.mount()));
            drop(open);
        }
    });
}

#[test]
fn somebody_elses_unmount_ends_the_program() {
    in_mount_namespace("somebody_elses_unmount_ends_the_program", || {
        let mut emulator = Emulator::start("tdx");
        rustix::mount::unmount(emulator.mount(), rustix::mount::UnmountFlags::empty()).unwrap();
        // The signal may come before the program has noticed: it ends well in both cases.
        std::thread::sleep(std::time::Duration::from_millis(600));
        assert!(emulator.signal(Signal::TERM).success());
    });
}

#[test]
fn a_report_that_another_program_wrote_into_is_refused_and_never_returned() {
    in_mount_namespace("a_report_that_another_program_wrote_into_is_refused_and_never_returned", || {
        let emulator = Emulator::start("tdx");
        let report = emulator.report();
        let tsm = Tsm::at(&report).unwrap();
        let stop = std::sync::atomic::AtomicBool::new(false);
        let mut detected = 0;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    for entry in fs::read_dir(&report).unwrap().flatten() {
                        let _ = write_once(&entry.path().join("inblob"), &[0xbb; 64]);
                    }
                }
            });
            for _ in 0..200 {
                match tsm.report(&[0xaa; 64]) {
                    Ok(answer) => {
                        let quote = parse_tdx_quote(&answer.outblob).unwrap();
                        assert_eq!(
                            quote.body.report_data, &[0xaa; 64],
                            "somebody else's report was returned"
                        );
                    }
                    Err(TsmError::Interference { before, after, .. }) => {
                        assert!(after > before + 1);
                        detected += 1;
                    }
                    Err(other) => panic!("{other}"),
                }
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        // The positive control: the intruder did get between.
        assert!(detected > 0);
        assert_eq!(entries(&report), 0);
    });
}
