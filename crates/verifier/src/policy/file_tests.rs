//! Policy files: what is read, and where each mistake is said to be.

use casemate_canon::Sha256;

use super::super::{AddedEdges, POLICY_BYTES_MAX, Policy, PolicyError, SeptVeDisable, Smt, Taint};
use crate::roots::Roots;
use crate::snp::SnpProduct;
use crate::tdx::{TcbStatus, TdAttributes};

/// A file with every key. `H96` and `H64` stand for that many digits.
const GOOD: &str = r#"version = 1
[platform]
tee = ["tdx", "snp"]
roots = "development"
development-roots = ["sha256:H64"]
collateral-age-max-days = 30
[platform.tdx]
tcb-status = ["UpToDate"]
tcb-evaluation-min = 18
mrtd = ["H96"]
rtmr0 = ["H96"]
rtmr1 = ["H96"]
rtmr2 = ["H96"]
require-sept-ve-disable = true
[platform.snp]
measurement = ["H96"]
vmpl = 0
allow-smt = true
crl-age-max-days = 400
[platform.snp.products.Genoa]
tcb-min = { bootloader = 1, tee = 2, snp = 3, microcode = 4 }
[composition]
digest = "sha384:H96"
[agents.researcher]
measurement = "sha384:H96"
backends = ["native", "gvisor"]
secrets = ["research-desk/secret/api_token"]
allow-weaker = ["landlock"]
allow-tainted = false
"#;

fn filled(text: &str) -> String {
    text.replace("H96", &"a1".repeat(48)).replace("H64", &"b2".repeat(32))
}

/// The error of the good file with one piece of text replaced.
fn error(from: &str, to: &str) -> PolicyError {
    assert!(GOOD.contains(from), "{from}");
    Policy::parse(&filled(&GOOD.replacen(from, to, 1))).expect_err(to)
}

#[test]
fn added_edges_are_refused_where_the_file_does_not_allow_them() {
    let read = |text: &str| {
        let policy = Policy::parse(&filled(text)).unwrap();
        policy.values().composition.as_ref().unwrap().agents.values().next().unwrap().added_edges
    };
    assert_eq!(read(GOOD), AddedEdges::Refused);
    assert_eq!(read(&format!("{GOOD}allow-added-edges = false\n")), AddedEdges::Refused);
    assert_eq!(read(&format!("{GOOD}allow-added-edges = true\n")), AddedEdges::Allowed);
}

#[test]
fn reads_every_key() {
    let policy = Policy::parse(&filled(GOOD)).unwrap();
    let values = policy.values();
    assert!(matches!(&values.roots, Roots::Development(keys) if keys.len() == 1));
    assert_eq!(values.collateral_age_max_days, 30);
    let tdx = values.tdx.as_ref().unwrap();
    assert_eq!(tdx.tcb_status, [TcbStatus::UpToDate]);
    assert_eq!(tdx.mrtd[0].0, [0xa1; 48]);
    let snp = values.snp.as_ref().unwrap();
    assert_eq!((snp.vmpl, snp.smt), (0, Smt::Allowed));
    let (product, min) = snp.products.first_key_value().unwrap();
    assert_eq!((*product, min.fmc, min.bootloader, min.microcode), (SnpProduct::Genoa, 0, 1, 4));
    assert_eq!(snp.crl_age_max_days, 400);
    assert_eq!(tdx.sept_ve_disable, SeptVeDisable::Required);
    let (name, agent) = values.composition.as_ref().unwrap().agents.iter().next().unwrap();
    assert_eq!(name.as_str(), "researcher");
    assert!(agent.secrets.contains("research-desk/secret/api_token"));
    assert_eq!((agent.allow_weaker.len(), agent.taint), (1, Taint::Refused));
}

#[test]
fn takes_several_development_roots() {
    let two = filled(&GOOD.replacen(
        r#"development-roots = ["sha256:H64"]"#,
        r#"development-roots = ["sha256:H64", "sha256:H64"]"#,
        1,
    ));
    let policy = Policy::parse(&two).unwrap();
    assert!(matches!(&policy.values().roots, Roots::Development(keys) if keys.len() == 2));
    assert_eq!(policy.with_production_roots().values().roots, Roots::Production);
}

#[test]
fn every_key_is_mandatory() {
    for line in GOOD.lines().filter(|line| line.contains(" = ")) {
        let without = filled(&GOOD.replacen(&format!("{line}\n"), "", 1));
        Policy::parse(&without).expect_err(line);
    }
    for table in ["[composition]", "[agents.researcher]"] {
        let at = GOOD.find(table).unwrap();
        let after = GOOD[at + 1..].find('[').map_or(GOOD.len(), |next| at + 1 + next);
        let without =
            filled(&[&GOOD[..at], if table == "[composition]" { &GOOD[after..] } else { "" }].concat());
        Policy::parse(&without).expect_err(table);
    }
}

#[test]
fn says_where_an_unknown_key_stands() {
    let unknown = error("vmpl = 0", "vmpl = 0\n  min-vmpl = 0");
    assert_eq!((unknown.line, unknown.column), (18, 3));
    assert!(unknown.what.contains("min-vmpl"), "{unknown}");
    for (from, to, line) in [
        ("version = 1\n", "version = 1\nextra = 1\n", 2),
        ("roots = ", "extra = 1\nroots = ", 4),
        ("mrtd = ", "extra = 1\nmrtd = ", 10),
        ("digest = ", "extra = 1\ndigest = ", 23),
        ("allow-tainted", "extra = 1\nallow-tainted", 29),
        ("{ bootloader = 1,", "{ extra = 1, bootloader = 1,", 21),
    ] {
        let error = error(from, to);
        assert_eq!(error.line, line, "{error}");
        assert!(error.what.contains("extra"), "{error}");
    }
}

#[test]
fn says_where_a_wrong_value_stands() {
    for (from, to, line, column) in [
        ("version = 1", "version = 2", 1, 11),
        (r#"["tdx", "snp"]"#, r#"["tdx", "sgx"]"#, 3, 15),
        (r#"["tdx", "snp"]"#, r#"["tdx", "tdx", "snp"]"#, 3, 15),
        (r#"["tdx", "snp"]"#, "[]", 3, 7),
        ("\"development\"", "\"any\"", 4, 9),
        ("\"development\"", "\"production\"", 5, 21),
        ("sha256:H64", "sha256:H64a", 5, 22),
        ("days = 30", "days = 0", 6, 27),
        ("UpToDate", "Splendid", 8, 15),
        ("\"UpToDate\"", "\"UpToDate\", \"Revoked\"", 8, 27),
        (r#"mrtd = ["H96"]"#, "mrtd = []", 10, 8),
        (r#"rtmr1 = ["H96"]"#, r#"rtmr1 = ["H96", "*"]"#, 12, 110),
        ("vmpl = 0", "vmpl = 4", 17, 8),
        ("Genoa", "Naples", 20, 24),
        ("tee = 2", "tee = 256", 21, 35),
        ("days = 400", "days = 3661", 19, 20),
        ("disable = true", "disable = 1", 14, 27),
        (r#"digest = "sha384:H96""#, r#"digest = "any""#, 23, 10),
        ("agents.researcher", "agents.Researcher", 24, 9),
        ("research-desk/secret/api_token", "api_token", 27, 12),
        (r#"["native", "gvisor"]"#, "[]", 26, 12),
        ("gvisor", "wasm", 26, 23),
        ("landlock", "everything", 28, 17),
    ] {
        let error = error(from, to);
        assert_eq!((error.line, error.column), (line, column), "{to}: {error}");
        assert!(!error.todo.is_empty());
    }
}

#[test]
fn a_revoked_platform_cannot_be_accepted() {
    let error = error(r#"["UpToDate"]"#, r#"["Revoked"]"#);
    assert_eq!((error.line, error.column), (8, 15));
    assert!(error.what.contains("Revoked"), "{error}");
}

#[test]
fn development_roots_have_one_key_and_no_other_spelling() {
    let error = error("development-roots = [\"sha256:H64\"]", "development-root = \"sha256:H64\"");
    assert_eq!(error.line, 5);
    assert!(error.what.contains("development-root"), "{error}");
}

#[test]
fn a_tee_and_its_table_come_together() {
    assert_eq!(error(r#"["tdx", "snp"]"#, r#"["tdx"]"#).line, 15);
    let at = GOOD.find("[platform.snp]").unwrap();
    let after = GOOD.find("[composition]").unwrap();
    let without = filled(&[&GOOD[..at], &GOOD[after..]].concat());
    assert_eq!(Policy::parse(&without).unwrap_err().line, 3);
}

#[test]
fn optional_keys_of_tdx_read_back_and_refuse_what_they_do_not_know() {
    let zero = format!("\"{}\"", "0".repeat(96));
    let keys = format!(
        "tcb-date-min = \"2024-03-13T00:00:00Z\"\nallow-advisories = [\"INTEL-SA-00960\"]\n\
         allow-attributes = [\"debug\", \"bit-62\"]\nallow-xfam = \"0x40000\"\nrtmr3 = [\"H96\"]\n\
         mrconfigid = [\"H96\", {zero}]\nmrowner = [\"H96\"]\nmrownerconfig = [\"H96\"]\nmrservicetd = [\"H96\"]\n\
         mrseam = [\"H96\"]\nfmspc = [\"00806f050000\"]\nppid = [\"00112233445566778899aabbccddeeff\"]\n\
         refuse-platform = [\"dynamic-platform\", \"cached-keys\", \"smt\"]\n"
    );
    let text = filled(&GOOD.replacen("mrtd = ", &format!("{keys}mrtd = "), 1));
    let values = Policy::parse(&text).unwrap().values().clone();
    assert_eq!(Policy::parse(&Policy::render(&values)).unwrap().values(), &values);
    let tdx = values.tdx.unwrap();
    assert_eq!(tdx.allow_attributes, TdAttributes(1 | 1 << 62));
    assert_eq!((tdx.allow_xfam, tdx.mrconfigid.len(), tdx.refuse_platform.len()), (0x4_0000, 2, 3));
    for (bad, column) in [
        ("tcb-date-min = \"2024-03-13\"", 16),
        ("allow-advisories = [\"*\"]", 21),
        ("allow-advisories = []", 20),
        ("allow-attributes = [\"all\"]", 21),
        ("allow-xfam = \"7\"", 14),
        ("fmspc = [\"00806F050000\"]", 10),
        ("ppid = [\"any\"]", 9),
        ("refuse-platform = [\"all\"]", 20),
        ("mrservicetd = [\"any\"]", 16),
    ] {
        let error = error("mrtd = ", &format!("{bad}\nmrtd = "));
        assert_eq!((error.line, error.column), (10, column), "{bad}: {error}");
    }
}

#[test]
fn a_policy_without_composition_and_agents_is_for_platforms_alone() {
    let at = GOOD.find("[composition]").unwrap();
    let values = Policy::parse(&filled(&GOOD[..at])).unwrap().values().clone();
    assert_eq!(values.composition, None);
    assert_eq!(Policy::parse(&Policy::render(&values)).unwrap().values(), &values);
    let half = GOOD.find("[agents.").unwrap();
    let error = Policy::parse(&filled(&GOOD[..half])).unwrap_err();
    assert!(error.what.contains("no [agents]"), "{error}");
    let error = Policy::parse(&filled(&[&GOOD[..at], &GOOD[half..]].concat())).unwrap_err();
    assert!(error.what.contains("no [composition]"), "{error}");
}

#[test]
fn repeated_keys_and_text_that_is_not_toml_are_refused() {
    assert_eq!(error("vmpl = 0", "vmpl = 0\nvmpl = 1").line, 18);
    assert_eq!(error("vmpl = 0", "vmpl = ").line, 17);
    let long = format!("{}#{}", filled(GOOD), "x".repeat(super::super::POLICY_BYTES_MAX));
    assert_eq!(Policy::parse(&long).unwrap_err().line, 1);
}

#[test]
fn the_age_of_endorsements_can_be_narrowed_and_not_widened() {
    let policy = || Policy::parse(&filled(GOOD)).unwrap();
    let narrowed = policy().with_collateral_age_max(7).unwrap();
    let values = narrowed.values();
    assert_eq!(values.collateral_age_max_days, 7);
    assert_eq!(values.snp.as_ref().unwrap().crl_age_max_days, 7);
    assert_eq!(narrowed.id(), policy().id());
    assert!(policy().with_collateral_age_max(30).is_ok());
    let wider = crate::policy::WiderAge { found: 31, expected: 30 };
    assert_eq!(policy().with_collateral_age_max(31).err(), Some(wider));
}

#[test]
fn a_policy_has_at_most_so_many_bytes() {
    let padded = |bytes: usize| {
        let good = filled(GOOD);
        format!("{good}#{}", " ".repeat(bytes - good.len() - 1))
    };
    assert!(Policy::parse(&padded(POLICY_BYTES_MAX)).is_ok());
    let error = Policy::parse(&padded(POLICY_BYTES_MAX + 1)).unwrap_err();
    assert_eq!(error.what, "policy of 1048577 bytes, at most 1048576 allowed");
}

#[test]
fn a_policy_cut_anywhere_gives_no_agent_anything() {
    let good = filled(GOOD);
    let agents = good.find("[composition]").unwrap();
    // The last line may end without its line break.
    for length in 0..good.len() - 1 {
        match Policy::parse(&good[..length]) {
            // Nothing but a number's last digits, or all agents, can be missing without a trace.
            Ok(policy) => assert!(length <= agents && policy.values().composition.is_none(), "{length}"),
            Err(error) => assert!(!error.what.is_empty(), "{length}"),
        }
    }
    assert!(Policy::parse(good.trim_end()).is_ok());
}

#[test]
fn deep_nesting_is_refused_and_not_followed() {
    for open in ["[", "{a=", "[[", "a.", "(", "\"\"\""] {
        let error = Policy::parse(&format!("version = {}", open.repeat(100_000))).unwrap_err();
        assert!(!error.what.is_empty(), "{open}");
        assert!(Policy::parse(&format!("{}= 1", open.repeat(100_000))).is_err(), "{open}");
    }
}

#[test]
fn signers_of_bundles_are_named_by_key_and_never_by_an_empty_list() {
    let age = "collateral-age-max-days = 30";
    let with = |list: &str| {
        Policy::parse(&filled(&GOOD.replacen(age, &format!("{age}\nbundle-signers = {list}"), 1)))
    };
    assert!(Policy::parse(&filled(GOOD)).unwrap().values().bundle_signers.is_empty());
    let signer = Sha256::of(b"key");
    let policy = with(&format!("[\"{signer}\"]")).unwrap();
    assert_eq!(policy.values().bundle_signers, [signer]);
    let again = Policy::parse(&Policy::render(policy.values())).unwrap();
    assert_eq!(again.values(), policy.values());
    assert_eq!(with("[]").unwrap_err().what, "no value is named, so nothing could pass");
    assert!(with("[\"sha256:00\"]").unwrap_err().todo.contains("SubjectPublicKeyInfo"));
    assert!(with("\"any\"").is_err());
}
