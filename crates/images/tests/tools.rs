//! Images that `umoci`, `skopeo` and `buildah` made, in every form: recognised, and unpacked as
//! `umoci` unpacks them.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

mod common;

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use casemate_composition::lock::User;
use casemate_images::{Format, ImageError, ImportRequest, Imported, Store};
use common::files_below;
use common::mounted::{look, mount, path_in, run};

/// A command with a time limit; its arguments are split at blanks.
fn tool(dir: &Path, line: &str) {
    let mut command = Command::new("timeout");
    // Debian's skopeo and umoci want a policy or a home directory; neither may come from this machine.
    run(command.arg("60").args(line.split(' ')).current_dir(dir).env("HOME", dir));
}

/// A directory with an OCI layout `layout` of the image `v1`, made by umoci in three layers, and what
/// umoci unpacks it to in `unpacked/rootfs`.
fn made_by_umoci() -> &'static Path {
    static MADE: OnceLock<tempfile::TempDir> = OnceLock::new();
    MADE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let (at, root) = (dir.path(), dir.path().join("bundle/rootfs"));
        let write = |path: &str, content: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        };
        let at_time = |path: &str, seconds: u64| {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            File::open(root.join(path)).unwrap().set_modified(time).unwrap();
        };
        tool(at, "umoci init --layout layout");
        tool(at, "umoci new --image layout:v1");
        tool(at, "umoci unpack --image layout:v1 bundle");
        // Layer 1: owners, modes, links, times, long names, accounts.
        write("etc/passwd", "root:x:0:0::/root:/bin/sh\nagent:x:1000:1001::/home/agent:/bin/sh\n");
        write("etc/group", "root:x:0:\nstaff:x:50:agent\n");
        write("opt/a/one", "one");
        write("opt/a/gone", "gone");
        write("opt/hidden/below/file", "hidden");
        write("opt/becomes-file/inside", "inside");
        write("opt/becomes-directory", "file");
        write(&format!("opt/{}/{}", "d".repeat(120), "f".repeat(200)), "long");
        write("home/agent/empty", "");
        fs::write(root.join("opt/large"), vec![0x5a; 3 << 20]).unwrap();
        fs::hard_link(root.join("opt/a/one"), root.join("opt/second-name")).unwrap();
        symlink("../etc/passwd", root.join("opt/link")).unwrap();
        symlink("/nowhere/at/all", root.join("opt/dangling")).unwrap();
        chown(root.join("home/agent"), Some(1000), Some(1001)).unwrap();
        chown(root.join("opt/a/one"), Some(65_534), Some(65_535)).unwrap();
        fs::set_permissions(root.join("opt/a/one"), fs::Permissions::from_mode(0o4751)).unwrap();
        fs::set_permissions(root.join("home/agent"), fs::Permissions::from_mode(0o1770)).unwrap();
        at_time("opt/a/one", 1_234_567);
        at_time("opt/a", 7_654_321);
        tool(at, "umoci repack --refresh-bundle --image layout:v1 bundle");
        // Layer 2: what is hidden, replaced and changed.
        fs::remove_file(root.join("opt/a/gone")).unwrap();
        fs::remove_dir_all(root.join("opt/hidden")).unwrap();
        fs::remove_dir_all(root.join("opt/becomes-file")).unwrap();
        write("opt/becomes-file", "now a file");
        fs::remove_file(root.join("opt/becomes-directory")).unwrap();
        write("opt/becomes-directory/inside", "now inside");
        write("opt/a/two", "two");
        fs::set_permissions(root.join("home/agent/empty"), fs::Permissions::from_mode(0o600)).unwrap();
        tool(at, "umoci repack --refresh-bundle --image layout:v1 bundle");
        // Layer 3: what was hidden is there again.
        write("opt/hidden/anew", "anew");
        tool(at, "umoci repack --refresh-bundle --image layout:v1 bundle");
        tool(at, "umoci config --image layout:v1 --config.user agent:staff --config.entrypoint /bin/agent");
        tool(at, "umoci config --image layout:v1 --config.env KEY=value --config.workingdir /home/agent");
        tool(at, "umoci unpack --image layout:v1 unpacked");
        dir
    })
    .path()
}

fn named(name: &str) -> ImportRequest {
    ImportRequest { name: Some(name.to_owned()), ..ImportRequest::default() }
}

fn import(store: &Store, source: &Path, request: &ImportRequest) -> Result<Imported, ImageError> {
    store.import(source, request, &mut |_| {})
}

/// The image as an agent would see it is what umoci unpacked, but for the mount points.
fn assert_unpacked_like_umoci(store: &Store, imported: &Imported) {
    let root = mount(store, &imported.info);
    let mut found = look(&path_in(&root, ""));
    let mut expected = look(&made_by_umoci().join("unpacked/rootfs"));
    let added = ["proc", "dev", "sys", "tmp", "run", "data", "etc/resolv.conf", "etc/hosts", "etc/hostname"];
    for path in added {
        assert!(found.remove(Path::new(path)).is_some(), "{path} is missing");
    }
    // No layer names the root itself in a way that all tools keep.
    found.remove(Path::new(""));
    expected.remove(Path::new(""));
    assert!(expected.len() > 20);
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (path, seen) in &found {
        let same = seen == &expected[path];
        assert!(same, "{}: {:?}, not {:?}", path.display(), seen.metadata(), expected[path].metadata());
    }
}

#[test]
fn every_form_of_one_image_gives_one_root_file_system() {
    let at = made_by_umoci();
    let out = tempfile::tempdir().unwrap();
    let path = |name: &str| out.path().join(name);
    let skopeo = |options: &str, to: &str| {
        let from = format!("oci:{}:v1", at.join("layout").display());
        let to = to.replace('@', &out.path().display().to_string());
        let options = if options.is_empty() { String::new() } else { format!("{options} ") };
        tool(at, &format!("skopeo copy --insecure-policy {options}{from} {to}"));
    };
    skopeo("--dest-compress --dest-compress-format zstd", "oci:@/zstd:v1");
    skopeo("--dest-compress --dest-compress-format zstd --dest-compress-level 19", "oci:@/zstd19:v1");
    skopeo("--dest-oci-accept-uncompressed-layers --dest-decompress", "oci:@/plain:v1");
    skopeo("", "oci-archive:@/layout.tar:v1");
    skopeo("", "docker-archive:@/docker.tar:demo/app:1");
    run(Command::new("sh").arg("-c").arg("gzip -k layout.tar && gzip -k docker.tar").current_dir(out.path()));

    let mut infos = Vec::new();
    for (source, format) in [
        (at.join("layout"), Format::OciLayout),
        (path("zstd"), Format::OciLayout),
        (path("zstd19"), Format::OciLayout),
        (path("plain"), Format::OciLayout),
        (path("layout.tar"), Format::OciLayout),
        (path("layout.tar.gz"), Format::OciLayout),
        (path("docker.tar"), Format::DockerArchive),
        (path("docker.tar.gz"), Format::DockerArchive),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let imported = import(&store, &source, &named("demo/app:1")).unwrap();
        assert_eq!((imported.format, imported.reference.as_str()), (format, "demo/app:1"));
        let info = &imported.info;
        assert_eq!(info.user, User { uid: 1000, gid: 50 }, "{}", source.display());
        assert_eq!(info.entrypoint, ["/bin/agent"]);
        assert_eq!(info.environment["KEY"], "value");
        assert_eq!(info.working_dir, "/home/agent");
        assert_unpacked_like_umoci(&store, &imported);
        assert!(fs::read_dir(dir.path().join("tmp")).unwrap().next().is_none());
        infos.push(imported.info);
    }
    // Each in a store of its own: the same layers give the same bytes everywhere.
    let rootfs: Vec<_> = infos.iter().map(|info| info.rootfs).collect();
    assert!(rootfs.iter().all(|digest| *digest == rootfs[0]), "{rootfs:?}");
    assert_eq!(infos[6].manifest, infos[7].manifest);
}

#[test]
fn chooses_among_several_images_by_name() {
    let at = made_by_umoci();
    let out = tempfile::tempdir().unwrap();
    let layout = out.path().join("layout");
    run(Command::new("cp").arg("-a").arg(at.join("layout")).arg(&layout));
    tool(out.path(), "umoci tag --image layout:v1 v2");
    tool(out.path(), "umoci config --image layout:v2 --config.user 7:8");
    let store = Store::open(&out.path().join("store")).unwrap();
    let before = files_below(&out.path().join("store"));

    let request = |name: Option<&str>, select: Option<&str>| ImportRequest {
        name: name.map(str::to_owned),
        select: select.map(str::to_owned),
        ..ImportRequest::default()
    };
    for (name, select, problem) in [
        (Some("demo"), None, "the layout has several images"),
        (Some("demo"), Some("v3"), "no image in the layout has this name"),
    ] {
        let found = "`v1`, `v2`".to_owned();
        let result = import(&store, &layout, &request(name, select));
        assert_eq!(result, Err(ImageError::Choice { problem, found }));
    }
    let found = "the layout gives only the tag `v2`".to_owned();
    assert_eq!(import(&store, &layout, &request(None, Some("v2"))), Err(ImageError::NoName { found }));
    assert_eq!(files_below(&out.path().join("store")), before);

    let second = import(&store, &layout, &request(Some("demo:2"), Some("v2"))).unwrap();
    assert_eq!(second.info.user, User { uid: 7, gid: 8 });
    assert_eq!(import(&store, &layout, &request(Some("v1"), None)).unwrap().info.user.uid, 1000);
}

#[test]
fn takes_names_and_documents_of_docker_from_buildah() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    fs::create_dir_all(at.join("root/etc")).unwrap();
    fs::write(at.join("root/etc/passwd"), "app:x:33:34:::\n").unwrap();
    fs::write(at.join("root/program"), "#!/bin/true\n").unwrap();
    let buildah =
        |line: &str| tool(at, &format!("buildah --storage-driver vfs --root graph --runroot run {line}"));
    buildah("from --name work scratch");
    buildah("copy -q work root /");
    buildah("config --user app --cmd /program work");
    buildah("commit -q --format docker work docker-archive:docker.tar:demo/app:3");
    buildah("commit -q --format docker work oci-archive:oci.tar:demo/app:4");
    buildah("rm work");

    let store = Store::open(&at.join("store")).unwrap();
    for (file, format, name) in
        [("docker.tar", Format::DockerArchive, "demo/app:3"), ("oci.tar", Format::OciLayout, "demo/app:4")]
    {
        let imported = import(&store, &at.join(file), &ImportRequest::default()).unwrap();
        assert_eq!((imported.format, imported.reference.as_str()), (format, name));
        assert_eq!(imported.info.user, User { uid: 33, gid: 34 });
        assert_eq!(imported.info.command, ["/program"]);
        store.remove(name).unwrap();
    }
    store.gc().unwrap();
    assert_eq!(files_below(&at.join("store")), ["index.json", "oci-layout"]);
}

#[test]
fn recognises_a_root_file_system_and_refuses_other_directories() {
    let at = made_by_umoci();
    let out = tempfile::tempdir().unwrap();
    let store = Store::open(&out.path().join("store")).unwrap();
    let root = at.join("unpacked/rootfs");
    let tar: PathBuf = out.path().join("rootfs.tar");
    run(Command::new("timeout").args(["60", "tar", "-cf"]).arg(&tar).arg("-C").arg(&root).arg("."));
    run(Command::new("sh").arg("-c").arg("gzip -k rootfs.tar").current_dir(out.path()));
    let plain = import(&store, &tar, &named("rootfs")).unwrap();
    let gzip = import(&store, &out.path().join("rootfs.tar.gz"), &named("gzip")).unwrap();
    assert_eq!(plain.format, Format::Rootfs);
    assert_eq!(plain.info, gzip.info);
    assert_unpacked_like_umoci(&store, &plain);

    let found = "a root file system has no name of its own".to_owned();
    assert_eq!(import(&store, &tar, &ImportRequest::default()), Err(ImageError::NoName { found }));
    let expected = ImageError::Unsupported { what: "directory", found: root.display().to_string() };
    assert_eq!(import(&store, &root, &named("directory")), Err(expected));
    let as_layout = ImportRequest { format: Some(Format::OciLayout), ..named("layout") };
    assert!(matches!(import(&store, &tar, &as_layout), Err(ImageError::Malformed { .. })));
    let options = Some(casemate_images::ImportOptions::plain());
    let with_options = ImportRequest { rootfs: options, ..named("layout") };
    assert!(matches!(
        import(&store, &at.join("layout"), &with_options),
        Err(ImageError::OwnEntrypoint { .. })
    ));
    assert!(matches!(import(&store, Path::new("/nowhere"), &named("x")), Err(ImageError::Io { .. })));
}
