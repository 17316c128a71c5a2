//! Layers over layers: what is added, replaced, hidden and refused.

use std::fs;
use std::io::{Seek as _, Write as _};
use std::os::unix::fs::MetadataExt as _;

use tar::EntryType::{Directory, Link, Regular, Symlink};

use super::*;

type Entry<'a> = (tar::EntryType, &'a str, &'a str);

/// A tar of these entries; the second text is a file's content or a link's target.
fn tar_of(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (kind, path, text) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_path(path).unwrap();
        header.set_entry_type(*kind);
        header.set_mode(if kind.is_dir() { 0o750 } else { 0o640 });
        header.set_uid(7);
        header.set_gid(8);
        header.set_mtime(1000);
        let content = if *kind == Regular { text.as_bytes() } else { b"" };
        header.set_size(content.len() as u64);
        if *kind != Regular && !kind.is_dir() {
            header.set_link_name_literal(text).unwrap();
        }
        header.set_cksum();
        builder.append(&header, content).unwrap();
    }
    builder.into_inner().unwrap()
}

fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file
}

fn plain(bytes: &[u8]) -> Layer {
    let digest = Sha256::of(bytes);
    Layer { file: file_of(bytes), compression: Compression::None, digest, diff_id: digest }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn gzip_layer(bytes: &[u8]) -> Layer {
    let stored = gzip(bytes);
    let (digest, diff_id) = (Sha256::of(&stored), Sha256::of(bytes));
    Layer { file: file_of(&stored), compression: Compression::Gzip, digest, diff_id }
}

fn apply_all(layers: Vec<Layer>, limits: &Limits) -> Result<tempfile::TempDir, ImageError> {
    let dir = tempfile::tempdir().unwrap();
    let mut unpacker = Unpacker::new(dir.path(), limits)?;
    unpacker.start()?;
    for layer in layers {
        unpacker.apply(layer, &mut Meter::silent())?;
    }
    unpacker.finish()?;
    Ok(dir)
}

/// All paths after these layers, sorted.
fn paths(layers: &[&[Entry<'_>]]) -> Vec<String> {
    let layers = layers.iter().map(|entries| plain(&tar_of(entries))).collect();
    let dir = apply_all(layers, &Limits::STANDARD).unwrap();
    let mut out = Vec::new();
    let mut todo = vec![dir.path().to_owned()];
    while let Some(path) = todo.pop() {
        for entry in fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            out.push(path.strip_prefix(dir.path()).unwrap().display().to_string());
            if fs::symlink_metadata(&path).unwrap().is_dir() {
                todo.push(path);
            }
        }
    }
    out.sort();
    out
}

const LOWER: &[Entry<'static>] =
    &[(Directory, "d", ""), (Regular, "d/a", "1"), (Regular, "d/b", "1"), (Regular, "d/sub/c", "1")];

#[test]
fn upper_files_replace_lower_ones() {
    let upper: &[Entry<'_>] = &[(Regular, "d/a", "22"), (Directory, "d", "")];
    let layers = vec![plain(&tar_of(LOWER)), plain(&tar_of(upper))];
    let dir = apply_all(layers, &Limits::STANDARD).unwrap();
    assert_eq!(fs::read_to_string(dir.path().join("d/a")).unwrap(), "22");
    assert_eq!(fs::read_to_string(dir.path().join("d/b")).unwrap(), "1");
    let metadata = fs::metadata(dir.path().join("d")).unwrap();
    assert_eq!(
        (metadata.mode() & 0o7777, metadata.uid(), metadata.gid(), metadata.mtime()),
        (0o750, 7, 8, 1000)
    );
}

#[test]
fn a_replaced_file_does_not_change_its_hard_links() {
    let lower: &[Entry<'_>] = &[(Regular, "a", "1"), (Link, "b", "a")];
    let layers = vec![plain(&tar_of(lower)), plain(&tar_of(&[(Regular, "a", "2")]))];
    let dir = apply_all(layers, &Limits::STANDARD).unwrap();
    assert_eq!(fs::read_to_string(dir.path().join("b")).unwrap(), "1");
}

#[test]
fn a_file_or_link_replaces_a_whole_directory_and_back() {
    assert_eq!(paths(&[LOWER, &[(Regular, "d", "x")]]), ["d"]);
    assert_eq!(paths(&[LOWER, &[(Symlink, "d", "/")]]), ["d"]);
    assert_eq!(paths(&[&[(Symlink, "d", "/")], &[(Directory, "d", ""), (Regular, "d/x", "")]]), ["d", "d/x"]);
}

#[test]
fn a_whiteout_hides_a_file_or_a_directory_of_lower_layers() {
    assert_eq!(paths(&[LOWER, &[(Regular, "d/.wh.a", "")]]), ["d", "d/b", "d/sub", "d/sub/c"]);
    assert_eq!(paths(&[LOWER, &[(Regular, "d/.wh.sub", "")]]), ["d", "d/a", "d/b"]);
    assert_eq!(paths(&[LOWER, &[(Regular, ".wh.d", "")]]), Vec::<String>::new());
    assert_eq!(paths(&[LOWER, &[(Regular, "d/.wh.none", ""), (Regular, "no/.wh.x", "")]]).len(), 5);
}

#[test]
fn a_whiteout_keeps_what_its_own_layer_puts() {
    for upper in [
        [(Regular, "d/.wh.a", ""), (Regular, "d/a", "new")],
        [(Regular, "d/a", "new"), (Regular, "d/.wh.a", "")],
    ] {
        assert_eq!(paths(&[LOWER, &upper]), ["d", "d/a", "d/b", "d/sub", "d/sub/c"]);
    }
}

#[test]
fn a_whiteout_below_what_its_own_layer_replaced_hides_nothing() {
    for upper in [
        [(Regular, "d", "now a file"), (Regular, "d/.wh.a", ""), (Regular, "d/sub/.wh.c", "")],
        [(Symlink, "d", "/"), (Regular, "d/.wh.a", ""), (Regular, "d/sub/.wh..wh..opq", "")],
        [(Regular, "d/.wh.a", ""), (Regular, "d/.wh.b", ""), (Symlink, "d", "..")],
    ] {
        assert_eq!(paths(&[LOWER, &upper]), ["d"]);
    }
    // A file of a lower layer has nothing below it either.
    assert_eq!(paths(&[&[(Regular, "d", "x")], &[(Regular, "d/.wh.a", "")]]), ["d"]);
}

#[test]
fn an_opaque_directory_hides_all_lower_children_but_not_its_own() {
    for upper in [
        [(Regular, "d/.wh..wh..opq", ""), (Regular, "d/sub/new", "")],
        [(Regular, "d/sub/new", ""), (Regular, "d/.wh..wh..opq", "")],
    ] {
        assert_eq!(paths(&[LOWER, &upper]), ["d", "d/sub", "d/sub/new"]);
    }
}

#[test]
fn a_whiteout_does_not_reach_through_a_symbolic_link() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("victim"), "x").unwrap();
    let target = outside.path().to_str().unwrap();
    for name in ["link/.wh.victim", "link/.wh..wh..opq"] {
        let layers =
            vec![plain(&tar_of(&[(Symlink, "link", target)])), plain(&tar_of(&[(Regular, name, "")]))];
        let result = apply_all(layers, &Limits::STANDARD).map(drop);
        if name.ends_with("victim") {
            let problem = EntryProblem::ThroughSymlink;
            assert_eq!(result, Err(ImageError::Entry { entry: name.to_owned(), problem }));
        }
        assert!(outside.path().join("victim").exists());
    }
}

#[test]
fn entries_and_bytes_are_counted_over_all_layers() {
    let layers = || vec![plain(&tar_of(LOWER)), plain(&tar_of(LOWER))];
    let limits = Limits { entries_max: 7, ..Limits::STANDARD };
    let expected = ImageError::Limit { what: "entries", limit: 7 };
    assert_eq!(apply_all(layers(), &limits).unwrap_err(), expected);
    let limits = Limits { unpacked_bytes_max: 5, ..Limits::STANDARD };
    let expected = ImageError::Limit { what: "bytes of files", limit: 5 };
    assert_eq!(apply_all(layers(), &limits).unwrap_err(), expected);
}

#[test]
fn gzip_layers_unpack_and_both_digests_are_compared() {
    let tar = tar_of(LOWER);
    apply_all(vec![gzip_layer(&tar)], &Limits::STANDARD).unwrap();

    let wrong = Layer { diff_id: Sha256::ZERO, ..gzip_layer(&tar) };
    let expected = Refusal::new("image.layer.diff-id", Sha256::ZERO, Sha256::of(&tar));
    assert_eq!(apply_all(vec![wrong], &Limits::STANDARD).unwrap_err(), ImageError::Refused(expected));

    let wrong = Layer { digest: Sha256::ZERO, ..gzip_layer(&tar) };
    let expected = Refusal::new("image.layer.digest", Sha256::ZERO, Sha256::of(&gzip(&tar)));
    assert_eq!(apply_all(vec![wrong], &Limits::STANDARD).unwrap_err(), ImageError::Refused(expected));
}

#[test]
fn a_changed_byte_anywhere_in_a_layer_is_refused_by_its_digest() {
    let tar = tar_of(LOWER);
    for (bytes, compression) in [(tar.clone(), Compression::None), (gzip(&tar), Compression::Gzip)] {
        for at in (0..bytes.len()).step_by(if compression == Compression::None { 97 } else { 3 }) {
            let mut changed = bytes.clone();
            changed[at] ^= 0x11;
            let (digest, diff_id) = (Sha256::of(&bytes), Sha256::of(&tar));
            let layer = Layer { file: file_of(&changed), compression, digest, diff_id };
            let expected = Refusal::new("image.layer.digest", digest, Sha256::of(&changed));
            assert_eq!(
                apply_all(vec![layer], &Limits::STANDARD).unwrap_err(),
                ImageError::Refused(expected),
                "{at}"
            );
        }
    }
}

#[test]
fn a_layer_that_expands_too_far_is_refused() {
    let tar = tar_of(&[(Regular, "zeros", &"\0".repeat(1 << 20))]);
    let limits = Limits { expansion_free_bytes: 1000, expansion_ratio_max: 10, ..Limits::STANDARD };
    let limit = 1000 + 10 * gzip(&tar).len() as u64;
    let expected = ImageError::Limit { what: "unpacked bytes of a layer", limit };
    assert_eq!(apply_all(vec![gzip_layer(&tar)], &limits).unwrap_err(), expected);
}

#[test]
fn bytes_after_the_end_marker_are_part_of_the_digest_and_of_the_limit() {
    let mut tar = tar_of(LOWER);
    tar.extend([9; 10_000]);
    apply_all(vec![gzip_layer(&tar)], &Limits::STANDARD).unwrap();
    let limits = Limits { layer_bytes_max: tar.len() as u64 - 1, ..Limits::STANDARD };
    assert!(matches!(apply_all(vec![gzip_layer(&tar)], &limits), Err(ImageError::Limit { .. })));
}

#[test]
fn no_changed_header_byte_reaches_outside_or_panics() {
    let tar =
        tar_of(&[(Directory, "d", ""), (Regular, "d/a", "1"), (Symlink, "s", "../.."), (Link, "h", "d/a")]);
    let outer = tempfile::tempdir().unwrap();
    for header in [0, 512, 1536, 2048] {
        for at in (0..512).filter(|at| !(148..156).contains(at) && (*at < 20 || (100..360).contains(at))) {
            for change in [0x01, 0x2f, 0xff] {
                let mut changed = tar.clone();
                changed[header + at] ^= change;
                let block = &mut changed[header..header + 512];
                block[148..156].fill(b' ');
                let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
                block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
                let inner = outer.path().join("inner");
                fs::create_dir(&inner).unwrap();
                let mut unpacker = Unpacker::new(&inner, &Limits::STANDARD).unwrap();
                let _ = unpacker.apply(plain(&changed), &mut Meter::silent());
                drop(unpacker);
                fs::remove_dir_all(&inner).unwrap();
                assert_eq!(fs::read_dir(outer.path()).unwrap().count(), 0);
            }
        }
    }
}

#[test]
fn hiding_the_same_again_and_again_costs_no_more() {
    // Each of these looked at all the files of the directory: 87 s here, and days for half a million.
    const EACH: usize = 6000;
    let files: Vec<String> = (0..EACH).map(|i| format!("d/{i}")).collect();
    let mut entries: Vec<Entry<'_>> = files.iter().map(|path| (Regular, path.as_str(), "")).collect();
    for i in 0..EACH {
        entries.push((Regular, if i % 2 == 0 { "d/.wh..wh..opq" } else { ".wh.d" }, ""));
    }
    let started = std::time::Instant::now();
    let dir = apply_all(vec![plain(&tar_of(LOWER)), plain(&tar_of(&entries))], &Limits::STANDARD).unwrap();
    assert!(started.elapsed().as_secs() < 40, "{:?}", started.elapsed());
    assert_eq!(fs::read_dir(dir.path().join("d")).unwrap().count(), EACH);
}

#[test]
fn what_was_hidden_with_its_directory_is_not_hidden_again() {
    // `d` is hidden, and then filled by this layer: its own whiteouts leave that alone, as before.
    let upper: &[Entry<'_>] = &[
        (Regular, ".wh.d", ""),
        (Regular, "d/sub/new", "2"),
        (Regular, "d/.wh..wh..opq", ""),
        (Regular, "d/sub/.wh.c", ""),
        (Regular, "d/.wh.sub", ""),
    ];
    assert_eq!(paths(&[LOWER, upper]), ["d", "d/sub", "d/sub/new"]);
    // The next layer begins anew.
    assert_eq!(paths(&[LOWER, upper, LOWER, &[(Regular, ".wh.d", "")]]), Vec::<String>::new());
}
