//! `casemate bundle` as a user runs it, with services on loopback that speak as Intel's and AMD's do: real TLS, data of a
//! development PKI.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]
#![expect(clippy::panic, reason = "helpers of tests fail by panicking")]

mod create;
mod hostile;
mod service;
mod show;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use casemate_testkit::{DevPki, Tee};

/// A time at which everything of the development PKI holds.
const NOW: u64 = 1_780_272_000;
const NOW_TEXT: &str = "2026-06-01T00:00:00Z";

/// What a command said and how it ended.
struct Output {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Output {
    fn assert_ok(&self) {
        assert_eq!(self.code, Some(0), "{}{}", self.stdout, self.stderr);
    }

    /// That it failed with this code, and said this.
    fn assert_fails(&self, code: i32, says: &str) {
        assert_eq!(self.code, Some(code), "{}{}", self.stdout, self.stderr);
        assert!(self.stderr.starts_with("error: ") && self.stderr.contains("\nto do: "), "{}", self.stderr);
        assert!(self.stderr.contains(says), "`{says}` is not in {}", self.stderr);
    }

    fn json(&self) -> serde_json::Value {
        self.assert_ok();
        serde_json::from_str(&self.stdout).unwrap()
    }
}

/// A folder to run the command in.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        std::fs::write(self.path(name), bytes).unwrap();
        name.to_owned()
    }

    fn run(&self, args: &[&str]) -> Output {
        run_in(self.0.path(), args)
    }

    /// `bundle create` at a time when the development PKI holds, into `b.json`, up to its root.
    fn create(&self, pki: &DevPki, args: &[&str]) -> Output {
        let root = pki.root_spki_sha256().to_string();
        let fixed =
            ["bundle", "create", "-o", "b.json", "--now", NOW_TEXT, "--development-root", root.as_str()];
        self.run(&[&fixed, args].concat())
    }

    fn bundle(&self) -> casemate_endorsements::Bundle {
        casemate_endorsements::read(&std::fs::read(self.path("b.json")).unwrap()).unwrap()
    }

    fn assert_nothing_written(&self) {
        assert!(!self.path("b.json").exists());
    }
}

fn run_in(folder: &Path, args: &[&str]) -> Output {
    let output = Command::new("timeout")
        .args(["100", env!("CARGO_BIN_EXE_casemate")])
        .args(args)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    Output {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn tdx_pki() -> DevPki {
    DevPki::generate(Tee::Tdx, NOW).unwrap()
}
