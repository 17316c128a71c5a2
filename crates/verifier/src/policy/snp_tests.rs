//! The table `[platform.snp]`: every key, what weakens by name only, and where each mistake is said to be.

use super::super::{Policy, PolicyError};
use super::*;

const GOOD: &str = r#"version = 1
[platform]
tee = ["snp"]
roots = "production"
collateral-age-max-days = 30
[platform.snp]
measurement = ["H96"]
vmpl = 1
allow-smt = false
crl-age-max-days = 60
MORE
[platform.snp.products.Genoa]
tcb-min = { bootloader = 1, tee = 2, snp = 3, microcode = 4 }
"#;

const EVERY_KEY: &str = r#"allow-debug = true
allow-migration-agent = true
allow-cxl = true
allow-provisional-firmware = true
allow-masked-chip-id = true
allow-reserved-bytes = true
allow-policy-bits = [26, 63]
vlek-clouds = ["CN=cc-us-east-2.amazonaws.com"]
report-version-max = 6
require-policy = ["single-socket", "mem-aes-256-xts", "rapl-dis", "ciphertext-hiding", "page-swap-disable"]
require-platform = ["ecc", "tsme", "alias-check-complete"]
require-mitigations = [0, 63]
report-version-min = 3
firmware-min = { major = 1, minor = 55, build = 39 }
guest-svn-min = 2
chips = ["H128", "1e550a8ee5cf9f4d"]
id-key-digest = ["H96"]
author-key-digest = ["H96"]
family-id = ["H32"]
image-id = ["H32"]
host-data = ["H64"]"#;

fn parse(more: &str) -> Result<Policy, PolicyError> {
    let text = GOOD.replace("MORE", more);
    let digits = |count: usize| "a1".repeat(count / 2);
    let text = text.replace("H128", &digits(128)).replace("H96", &digits(96));
    Policy::parse(&text.replace("H64", &digits(64)).replace("H32", &digits(32)))
}

fn read(more: &str) -> SnpExpectations {
    parse(more).unwrap().values().snp.clone().unwrap()
}

#[test]
fn without_a_key_the_strict_rule_holds_and_nothing_more_is_asked() {
    let snp = read("");
    assert_eq!(snp.allow, SnpAllowances::none());
    assert_eq!(snp.require, SnpRequirements::none());
    assert_eq!((snp.allow.report_version_max, snp.require.report_version_min), (5, 2));
    for flag in SnpAllowance::ALL {
        assert_eq!(read(&format!("{} = false", flag.key())).allow, SnpAllowances::none());
        assert_eq!(read(&format!("{} = true", flag.key())).allow.flags, BTreeSet::from([flag]));
    }
}

#[test]
fn reads_every_key_and_writes_the_same_again() {
    let snp = read(EVERY_KEY);
    assert_eq!(snp.allow.flags, BTreeSet::from(SnpAllowance::ALL));
    assert_eq!(snp.allow.policy_bits, 1 << 26 | 1 << 63);
    assert_eq!(snp.allow.report_version_max, 6);
    assert_eq!(snp.require.policy.len(), 5);
    assert!(snp.require.platform.contains(&PlatformBit::AliasCheckComplete));
    assert_eq!(snp.require.mitigations, 1 | 1 << 63);
    assert_eq!(snp.require.firmware_min, Some(SnpFirmware { major: 1, minor: 55, build: 39 }));
    let turin = snp.require.chips[1].0;
    assert_eq!((turin[0], turin[7], &turin[8..]), (0x1e, 0x4d, &[0; 56][..]));
    let policy = parse(EVERY_KEY).unwrap();
    let again = Policy::parse(&Policy::render(policy.values())).unwrap();
    assert_eq!(again.values(), policy.values());
    let strict = parse("").unwrap();
    assert_eq!(Policy::parse(&Policy::render(strict.values())).unwrap().values(), strict.values());
}

#[test]
fn says_where_a_wrong_value_stands() {
    for (key, value, column) in [
        ("allow-policy-bits", "[25]", 22),
        ("allow-policy-bits", "[26, 64]", 26),
        ("allow-policy-bits", "[]", 21),
        ("vlek-clouds", "[]", 15),
        ("vlek-clouds", r#"[""]"#, 16),
        ("vlek-clouds", r#"["CN=\u00e9"]"#, 16),
        ("report-version-max", "1", 22),
        ("report-version-min", "6", 22),
        ("require-policy", r#"["single-sockets"]"#, 19),
        ("require-platform", r#"["ecc", "bit-6"]"#, 28),
        ("require-platform", "[]", 20),
        ("require-mitigations", "[64]", 24),
        ("chips", r#"["00"]"#, 10),
        ("chips", r#"["0000000000000000"]"#, 10),
        ("chips", r#"["1E550A8EE5CF9F4D"]"#, 10),
        ("id-key-digest", r#"["a1"]"#, 18),
        ("author-key-digest", "[]", 21),
        ("family-id", r#"["a1"]"#, 14),
        ("image-id", "[]", 12),
        ("host-data", r#"["a1"]"#, 14),
        ("allow-debug", "1", 15),
        ("allow-everything", "true", 1),
    ] {
        let error = parse(&format!("{key} = {value}")).expect_err(key);
        assert_eq!((error.line, error.column), (11, column), "{key} = {value}: {error}");
        assert!(!error.todo.is_empty());
    }
}

/// The error of the good file with another product.
fn product_error(table: &str) -> PolicyError {
    let at = GOOD.find("[platform.snp.products").unwrap();
    let text = [&GOOD.replace("MORE", "")[..at - 4], table].concat().replace("H96", &"a1".repeat(48));
    Policy::parse(&text).expect_err(table)
}

#[test]
fn milan_is_refused_with_the_reason_unless_its_own_key_accepts_it() {
    let milan =
        "[platform.snp.products.Milan]\ntcb-min = { bootloader = 1, tee = 2, snp = 3, microcode = 4 }\n";
    for more in ["", "allow-extractable-seed = false\n"] {
        let error = product_error(&format!("{milan}{more}"));
        assert!(error.what.starts_with("Milan is refused: published attacks"), "{error}");
        assert!(error.todo.contains("allow-extractable-seed = true"), "{}", error.todo);
    }
    let accepted = GOOD.replace(
        "[platform.snp.products.Genoa]",
        "[platform.snp.products.Milan]\nallow-extractable-seed = true",
    );
    let policy = Policy::parse(&accepted.replace("MORE", "").replace("H96", &"a1".repeat(48))).unwrap();
    assert!(policy.values().snp.as_ref().unwrap().products.contains_key(&SnpProduct::Milan));
    let text = Policy::render(policy.values());
    assert!(text.contains("allow-extractable-seed = true"), "{text}");
    assert_eq!(Policy::parse(&text).unwrap().values(), policy.values());
    let genoa = product_error(
        "[platform.snp.products.Genoa]\nallow-extractable-seed = true\ntcb-min = { bootloader = 1, tee = 2, snp = 3, microcode = 4 }\n",
    );
    assert!(genoa.what.contains("has no meaning for Genoa"), "{genoa}");
}

#[test]
fn turin_has_a_component_that_the_others_do_not_have() {
    let table = |product: &str, fmc: &str| {
        format!(
            "[platform.snp.products.{product}]\ntcb-min = {{ {fmc}bootloader = 1, tee = 2, snp = 3, microcode = 4 }}\n"
        )
    };
    assert_eq!(product_error(&table("Turin", "")).what, "fmc is missing, which Turin has");
    assert_eq!(product_error(&table("Genoa", "fmc = 0, ")).what, "Genoa has no fmc");
    assert_eq!(product_error("").what, "missing field `products`");
    let none = product_error("products = {}\n");
    assert_eq!(none.what, "no product is named, so nothing could pass");
}
