//! Tars with one defect each: refused under the right reason, and nothing stays in the store.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

mod common;

use std::path::Path;

use casemate_images::{EntryProblem, ImageError, Limits, Store};
use common::{append, files_below, import, small_tar};
use tar::EntryType::{self, Block, Char, Continuous, Directory, Fifo, Link, Regular, Symlink};

/// The error of importing this tar. Checks that nothing is left, inside or outside.
fn refusal_of(tar: &[u8], limits: Limits) -> ImageError {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let store = Store::open_with(&path, limits).unwrap();
    let error = import(&store, "hostile", tar).unwrap_err();
    assert_eq!(files_below(dir.path()), ["store/oci-layout"]);
    assert!(!Path::new("/casemate-escaped").exists());
    assert!(!error.todo().is_empty());
    error
}

fn entries(list: &[(EntryType, &str, &str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (kind, path, link, content) in list {
        append(&mut tar, *kind, path, link, content);
    }
    tar.into_inner().unwrap()
}

fn problem_of(list: &[(EntryType, &str, &str, &[u8])]) -> (String, EntryProblem) {
    match refusal_of(&entries(list), Limits::STANDARD) {
        ImageError::Entry { entry, problem } => (entry, problem),
        other => panic!("{other:?}"),
    }
}

fn pax(records: &[u8], file: (&str, &[u8])) -> Vec<u8> {
    entries(&[(EntryType::XHeader, "pax", "", records), (Regular, file.0, "", file.1)])
}

#[test]
fn refuses_an_absolute_path() {
    let found = problem_of(&[(Regular, "/casemate-escaped", "", b"x")]);
    assert_eq!(found, ("/casemate-escaped".to_owned(), EntryProblem::AbsolutePath));
}

#[test]
fn refuses_a_path_that_climbs() {
    for path in ["../casemate-escaped", "a/../../casemate-escaped", "a/b/..", ".."] {
        assert_eq!(problem_of(&[(Regular, path, "", b"x")]), (path.to_owned(), EntryProblem::ClimbingPath));
    }
}

#[test]
fn refuses_a_path_through_a_symbolic_link_to_the_outside() {
    for target in ["/", "..", "../..", "/tmp"] {
        let found =
            problem_of(&[(Symlink, "link", target, b""), (Regular, "link/casemate-escaped", "", b"x")]);
        assert_eq!(found, ("link/casemate-escaped".to_owned(), EntryProblem::ThroughSymlink));
    }
}

#[test]
fn refuses_a_path_through_a_symbolic_link_inside() {
    let list: &[(_, _, _, &[u8])] =
        &[(Directory, "usr", "", b""), (Symlink, "bin", "usr", b""), (Regular, "bin/x", "", b"x")];
    assert_eq!(problem_of(list).1, EntryProblem::ThroughSymlink);
}

#[test]
fn refuses_a_directory_through_a_symbolic_link() {
    let found = problem_of(&[(Symlink, "link", "/", b""), (Directory, "link/casemate-escaped", "", b"")]);
    assert_eq!(found.1, EntryProblem::ThroughSymlink);
}

#[test]
fn replaces_a_symbolic_link_instead_of_writing_through_it() {
    let outside = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(outside.path(), "untouched").unwrap();
    let target = outside.path().to_str().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    import(&store, "demo", &entries(&[(Symlink, "f", target, b""), (Regular, "f", "", b"new")])).unwrap();
    assert_eq!(std::fs::read_to_string(outside.path()).unwrap(), "untouched");
}

#[test]
fn refuses_a_path_through_a_file() {
    let found = problem_of(&[(Regular, "f", "", b"x"), (Regular, "f/g", "", b"x")]);
    assert_eq!(found, ("f/g".to_owned(), EntryProblem::ThroughFile));
}

#[test]
fn refuses_hard_links_that_are_not_to_a_file_of_the_image() {
    for target in ["/etc/passwd", "../../etc/passwd", "missing", "dir", "", "link/passwd", "self"] {
        let found = problem_of(&[
            (Directory, "dir", "", b""),
            (Symlink, "link", "/etc", b""),
            (Link, "hard", target, b""),
        ]);
        assert_eq!(found.0, "hard", "{target}");
        assert!(matches!(found.1, EntryProblem::HardLinkTarget { .. }), "{target}");
    }
}

#[test]
fn refuses_a_hard_link_that_would_remove_its_own_target() {
    let found = problem_of(&[(Regular, "d/f", "", b"x"), (Link, "d", "d/f", b"")]);
    assert!(matches!(found.1, EntryProblem::HardLinkTarget { .. }));
}

#[test]
fn hard_link_to_a_symbolic_link_does_not_follow_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    import(&store, "demo", &entries(&[(Symlink, "s", "/etc/passwd", b""), (Link, "h", "s", b"")])).unwrap();
}

#[test]
fn refuses_devices_and_fifos_by_name() {
    for (kind, name) in [(Char, "character device"), (Block, "block device"), (Fifo, "fifo")] {
        let found = problem_of(&[(kind, "./dev/null", "", b"")]);
        assert_eq!(found, ("./dev/null".to_owned(), EntryProblem::SpecialFile { kind: name }));
    }
}

#[test]
fn refuses_unknown_entry_types() {
    for byte in [b'S', b'D', b'M', b'V', b'8', b'A', 0xff] {
        let found = problem_of(&[(EntryType::new(byte), "x", "", b"")]);
        assert_eq!(found.1, EntryProblem::UnknownType { found: byte });
    }
}

#[test]
fn accepts_contiguous_files_as_files() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    import(&store, "demo", &entries(&[(Continuous, "f", "", b"x")])).unwrap();
}

#[test]
fn refuses_links_without_target() {
    assert_eq!(problem_of(&[(Symlink, "s", "", b"")]).1, EntryProblem::LinkTarget);
}

#[test]
fn refuses_content_where_none_belongs() {
    for kind in [Directory, Symlink, Link] {
        let list: &[(_, _, _, &[u8])] = &[(Regular, "t", "", b""), (kind, "x", "t", b"content")];
        assert_eq!(problem_of(list), ("x".to_owned(), EntryProblem::Header));
    }
}

#[test]
fn refuses_to_replace_the_root() {
    for (kind, link) in [(Regular, ""), (Symlink, "/etc")] {
        assert_eq!(problem_of(&[(kind, ".", link, b"")]).1, EntryProblem::ReplacesRoot);
    }
}

#[test]
fn refuses_reserved_whiteout_names() {
    for name in [".wh..", ".wh.", ".wh...", ".wh..wh.plnk", ".wh..wh."] {
        assert_eq!(problem_of(&[(Regular, name, "", b"")]).1, EntryProblem::ReservedName, "{name}");
    }
}

#[test]
fn refuses_mount_points_of_the_wrong_type() {
    for path in ["proc", "dev", "sys", "tmp", "run", "data"] {
        let needed = EntryProblem::MountPoint { needed: "directory" };
        assert_eq!(problem_of(&[(Symlink, path, "/", b"")]), (path.to_owned(), needed.clone()));
        assert_eq!(problem_of(&[(Regular, path, "", b"")]), (path.to_owned(), needed));
    }
    let found = problem_of(&[(Directory, "etc/hosts", "", b"")]);
    assert_eq!(found, ("etc/hosts".to_owned(), EntryProblem::MountPoint { needed: "file" }));
    assert_eq!(problem_of(&[(Symlink, "etc", "/etc", b"")]).1, EntryProblem::ThroughSymlink);
}

#[test]
fn refuses_two_sizes_of_one_file() {
    let found = refusal_of(&pax(b"12 size=512\n", ("f", b"x")), Limits::STANDARD);
    assert_eq!(found, ImageError::Entry { entry: "f".to_owned(), problem: EntryProblem::AmbiguousSize });
}

#[test]
fn accepts_a_comment_for_all_entries_but_nothing_else() {
    let global =
        |records: &[u8]| entries(&[(EntryType::XGlobalHeader, "g", "", records), (Regular, "f", "", b"x")]);
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    import(&store, "demo", &global(b"16 comment=hello\n")).unwrap_err();
    import(&store, "demo", &global(b"17 comment=hello\n")).unwrap();
    for records in [&b"8 uid=0\n"[..], b"9 size=1\n", b"9 path=x\n"] {
        let problem = EntryProblem::Header;
        let expected = ImageError::Entry { entry: "g".to_owned(), problem };
        assert_eq!(refusal_of(&global(records), Limits::STANDARD), expected);
    }
}

#[test]
fn refuses_header_fields_that_are_not_numbers() {
    for field in [100..108, 108..116, 116..124, 124..136, 136..148] {
        let mut tar = small_tar();
        tar[512..1024][field.clone()].fill(b'z');
        let sum: u32 =
            (0..512).map(|at| if (148..156).contains(&at) { 32 } else { u32::from(tar[512 + at]) }).sum();
        tar[512 + 148..512 + 156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let problem = EntryProblem::Header;
        let expected = ImageError::Entry { entry: "./bin/".to_owned(), problem };
        assert_eq!(refusal_of(&tar, Limits::STANDARD), expected, "{field:?}");
    }
}

#[test]
fn refuses_malformed_pax_records() {
    for records in [
        &b"5 a=b"[..],
        b"x a=b\n",
        b"99 path=f\n",
        b"0 path=f\n",
        b"10 pathf\n",
        b"9 size=x\n",
        b"4 a\n",
        b"-1 path=f\n",
        b"99999999999999999999 path=f\n",
        b"25 GNU.sparse.realsize=9\n",
        b"no space at all here",
    ] {
        let found = refusal_of(&pax(records, ("f", b"x")), Limits::STANDARD);
        let problem = EntryProblem::Header;
        assert_eq!(found, ImageError::Entry { entry: "pax".to_owned(), problem }, "{records:?}");
    }
}

#[test]
fn refuses_tricks_in_pax_and_long_names_like_those_in_plain_names() {
    let absolute = refusal_of(&pax(b"26 path=/casemate-escaped\n", ("f", b"x")), Limits::STANDARD);
    assert!(
        matches!(absolute, ImageError::Entry { problem: EntryProblem::AbsolutePath, .. }),
        "{absolute:?}"
    );
    let zero = refusal_of(&pax(b"13 path=a\0bc\n", ("f", b"x")), Limits::STANDARD);
    assert!(matches!(zero, ImageError::Entry { problem: EntryProblem::PathLength, .. }), "{zero:?}");
    let long =
        entries(&[(EntryType::GNULongName, "././@LongLink", "", b"../up\0"), (Regular, "f", "", b"x")]);
    let long = refusal_of(&long, Limits::STANDARD);
    assert!(matches!(long, ImageError::Entry { problem: EntryProblem::ClimbingPath, .. }), "{long:?}");
}

#[test]
fn refuses_ids_that_no_compartment_maps() {
    let found = refusal_of(&pax(b"13 uid=65536\n", ("f", b"x")), Limits::STANDARD);
    let problem = EntryProblem::Id { found: 65_536, limit: 65_535 };
    assert_eq!(found, ImageError::Entry { entry: "f".to_owned(), problem });
}

#[test]
fn refuses_paths_that_are_too_long_or_too_deep() {
    let deep = "a/".repeat(40) + "f";
    let limits = Limits { path_components_max: 40, ..Limits::STANDARD };
    let found = refusal_of(&entries(&[(Regular, &deep, "", b"")]), limits);
    assert!(matches!(found, ImageError::Entry { problem: EntryProblem::PathLength, .. }));
    let mut long = "x".repeat(256).into_bytes();
    long.push(0);
    let list: &[(_, _, _, &[u8])] = &[(EntryType::GNULongName, "L", "", &long), (Regular, "f", "", b"")];
    assert_eq!(problem_of(list).1, EntryProblem::PathLength);
}

#[test]
fn refuses_extended_headers_above_the_limit() {
    let limits = Limits { extension_bytes_max: 10, ..Limits::STANDARD };
    let found = refusal_of(&pax(b"12 path=abcd\n", ("f", b"x")), limits);
    let problem = EntryProblem::TooLarge { found_bytes: 13, limit_bytes: 10 };
    assert_eq!(found, ImageError::Entry { entry: "pax".to_owned(), problem });
}

#[test]
fn refuses_one_entry_more_than_allowed() {
    let limits = |entries_max| Limits { entries_max, ..Limits::STANDARD };
    // Seven entries, and two directories that no entry names.
    assert_eq!(refusal_of(&small_tar(), limits(6)), ImageError::Limit { what: "entries", limit: 6 });
    assert_eq!(refusal_of(&small_tar(), limits(8)), ImageError::Limit { what: "entries", limit: 8 });
    let names = Limits { names_bytes_max: 20, ..Limits::STANDARD };
    assert_eq!(refusal_of(&small_tar(), names), ImageError::Limit { what: "bytes of names", limit: 20 });
    let dir = tempfile::tempdir().unwrap();
    import(&Store::open_with(dir.path(), limits(9)).unwrap(), "demo", &small_tar()).unwrap();
}

#[test]
fn refuses_one_byte_more_than_allowed() {
    let file = Limits { file_bytes_max: 300_000, ..Limits::STANDARD };
    let problem = EntryProblem::TooLarge { found_bytes: 300_001, limit_bytes: 300_000 };
    assert_eq!(refusal_of(&small_tar(), file), ImageError::Entry { entry: "./large".to_owned(), problem });
    let all = Limits { unpacked_bytes_max: 300_010, ..Limits::STANDARD };
    assert_eq!(refusal_of(&small_tar(), all), ImageError::Limit { what: "bytes of files", limit: 300_010 });
    let bytes = small_tar().len() as u64 - 1;
    let layer = Limits { layer_bytes_max: bytes, ..Limits::STANDARD };
    assert_eq!(
        refusal_of(&small_tar(), layer),
        ImageError::Limit { what: "unpacked bytes of a layer", limit: bytes }
    );
}

#[test]
fn refuses_a_decompression_bomb() {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&small_tar()).unwrap();
    for _ in 0..64 {
        encoder.write_all(&[0; 1 << 16]).unwrap();
    }
    let limits = Limits { layer_bytes_max: 1 << 20, ..Limits::STANDARD };
    assert_eq!(
        refusal_of(&encoder.finish().unwrap(), limits),
        ImageError::Limit { what: "unpacked bytes of a layer", limit: 1 << 20 }
    );
}

#[test]
fn refuses_a_tar_cut_at_every_block() {
    let tar = small_tar();
    let end = tar.len() - 1024;
    for length in (0..=end).step_by(512).filter(|at| !(3000..end - 3000).contains(at)) {
        let found = refusal_of(&tar[..length], Limits::STANDARD);
        assert!(matches!(found, ImageError::Malformed { what: "tar", .. }), "{length}: {found:?}");
    }
}

#[test]
fn refuses_a_wrong_header_checksum_and_garbage() {
    let mut tar = small_tar();
    tar[700] ^= 1;
    let problem = "a header's checksum does not match".to_owned();
    assert_eq!(
        refusal_of(&tar, Limits::STANDARD),
        ImageError::Malformed { what: "tar", problem: problem.clone() }
    );
    let garbage = [b'x'; 4096];
    assert_eq!(refusal_of(&garbage, Limits::STANDARD), ImageError::Malformed { what: "tar", problem });
}

#[test]
fn refuses_a_damaged_gzip_stream() {
    let found = refusal_of(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xff, 0xff], Limits::STANDARD);
    assert!(matches!(found, ImageError::Malformed { what: "layer", .. }), "{found:?}");
}

#[test]
fn names_in_errors_are_printable_and_bounded() {
    let mut name = "/\u{1b}[2J\n".to_owned() + &"y".repeat(300);
    name.push('\0');
    let list: &[(_, _, _, &[u8])] =
        &[(EntryType::GNULongName, "L", "", name.as_bytes()), (Regular, "f", "", b"")];
    let (entry, problem) = problem_of(list);
    assert_eq!(problem, EntryProblem::AbsolutePath);
    assert!(entry.chars().all(|c| !c.is_control()) && entry.chars().count() <= 201, "{entry:?}");
}
