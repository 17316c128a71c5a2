//! Four times the input may take some four times as long: parsers with the shapes that make others quadratic.

#![expect(clippy::unwrap_used, reason = "a test that cannot make its input fails")]

use std::time::Duration;

use casemate_fuzz::targets;
use rustix::time::{ClockId, clock_gettime};

/// Of four times the input: linear is 4, quadratic 16.
const RATIO_MAX: u32 = 9;
/// Times below this are noise.
const NOISE: Duration = Duration::from_millis(4);
/// The best of so many runs counts: others use the machine too.
const RUNS: usize = 5;

/// Target, what is long, an input of about so many bytes, and how many.
type Shape = (&'static str, &'static str, fn(usize) -> Vec<u8>, usize);

const SHAPES: [Shape; 31] = [
    ("policy", "keys", |n| (0..n / 10).map(|i| format!("k{i:06}=1\n")).collect::<String>().into(), 60_000),
    ("policy", "tables", |n| (0..n / 10).map(|i| format!("[t{i:06}]\n")).collect::<String>().into(), 60_000),
    ("policy", "one list", |n| format!("a = [{}]", "1,".repeat(n / 2)).into(), 60_000),
    ("policy", "opened lists", |n| format!("a = {}", "[".repeat(n)).into(), 60_000),
    ("policy", "dotted key", |n| format!("{}z = 1", "a.".repeat(n / 2)).into(), 60_000),
    ("policy", "tables of tables", |n| "[[a]]\n".repeat(n / 6).into(), 60_000),
    (
        "bundle",
        "opened objects",
        |n| format!("{{\"version\":1,\"tdx\":{}", "{\"a\":".repeat(n / 5)).into(),
        250_000,
    ),
    ("bundle", "members", |n| format!("{{{}\"version\":1}}", members(n)).into(), 250_000),
    ("cmw", "members", |n| format!("{{{}\"z\":1}}", members(n)).into(), 250_000),
    ("cmw", "escapes", |n| format!("{{\"box\":[\"{}\"]}}", "\\u0041".repeat(n / 6)).into(), 250_000),
    ("canonical-json", "members", |n| format!("{{{}\"z\":1}}", members(n)).into(), 100_000),
    ("canonical-json", "list", |n| format!("[{}0]", "0,".repeat(n / 2)).into(), 100_000),
    ("canonical-json", "long number", |n| "1".repeat(n).into(), 250_000),
    ("lock", "agents", |n| format!("{{\"agents\":{{{}\"z\":1}}}}", members(n)).into(), 100_000),
    ("jws", "dots", |n| ".".repeat(n).into(), 60_000),
    ("pem", "white space", |n| format!("{BEGIN}{}{END}", "A \n".repeat(n / 3)).into(), 30_000),
    ("crl", "entries", crl, 200_000),
    ("compose", "opened lists", |n| format!("a: {}", "[".repeat(n)).into(), 60_000),
    (
        "compose",
        "flow members",
        |n| format!("name: t\nx-a: {{{}}}\n{ONE}", yaml_members(n, ", ")).into(),
        60_000,
    ),
    ("compose", "unknown keys", |n| format!("{}{ONE}", yaml_members(n, "\n")).into(), 60_000),
    (
        "compose",
        "dollar signs",
        |n| format!("name: t\nx-a: \"{}\"\n{ONE}", "$$".repeat(n / 2)).into(),
        60_000,
    ),
    (
        "compose",
        "defaults",
        |n| format!("name: t\nx-a: [{}]\n{ONE}", "\"${Z:-${Y:-x}}\",".repeat(n / 18)).into(),
        60_000,
    ),
    (
        "compose",
        "labels of two files",
        |n| two(n, |n| format!("labels: {{{}}}", yaml_members(n, ", "))),
        60_000,
    ),
    ("compose", "labels in both forms", |n| two(n, |n| format!("labels: [{}]", yaml_items(n, "=x"))), 60_000),
    (
        "compose",
        "volumes of two files",
        |n| two(n, |n| format!("volumes: [{}]", yaml_items(n, ":/x"))),
        60_000,
    ),
    (
        "compose",
        "services that extend one",
        |n| {
            (0..n / 25)
                .fold(format!("name: t\n{ONE}"), |all, i| all + &format!("  s{i:06}: {{extends: a}}\n"))
                .into()
        },
        60_000,
    ),
    (
        "compose",
        "variables of a file",
        |n| {
            let main = format!("name: t\n{ONE}    env_file: a.env\n");
            let variables: String = (0..n / 14).map(|i| format!("V{i:06}=\"x\"\n")).collect();
            format!("{main}\u{1e}services: {{}}\u{1e}\u{1e}\u{1e}{variables}").into()
        },
        50_000,
    ),
    ("image-document", "members", |n| format!("\0{{{}\"schemaVersion\":2}}", members(n)).into(), 60_000),
    (
        "image-document",
        "layers",
        |n| format!("\u{3}[{{\"Config\":\"c\",\"Layers\":[{}\"x\"]}}]", "\"x\",".repeat(n / 4)).into(),
        60_000,
    ),
    ("registry", "parameters", |n| format!("\u{1}Bearer {}", "a=\"\\b\",".repeat(n / 7)).into(), 60_000),
    ("corim", "opened lists", |n| [vec![0xd9, 1, 0xf5], vec![0x81; n]].concat(), 200_000),
];

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

fn members(bytes: usize) -> String {
    (0..bytes / 11).map(|number| format!("\"{number:06}\":1,")).collect()
}

/// A service that is whole.
const ONE: &str = "services:\n  a:\n    image: i:1\n";

fn yaml_members(bytes: usize, between: &str) -> String {
    (0..bytes / 11).map(|number| format!("k{number:06}: x{between}")).collect()
}

fn yaml_items(bytes: usize, after: &str) -> String {
    (0..bytes / 14).map(|number| format!("\"k{number:06}{after}{number}\", ")).collect()
}

/// Two files with this key of their one service.
fn two(bytes: usize, key: impl Fn(usize) -> String) -> Vec<u8> {
    let file = format!("name: t\n{ONE}    {}\n", key(bytes / 2));
    format!("{file}\u{1e}{file}").into()
}

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    match length {
        [0, 0, 0, short] if short < 0x80 => [&[tag, short], content].concat(),
        [0, 0, 0, long] => [&[tag, 0x81, long], content].concat(),
        [0, 0, high, low] => [&[tag, 0x82, high, low], content].concat(),
        [_, high, middle, low] => [&[tag, 0x83, high, middle, low], content].concat(),
    }
}

/// A CRL that names many certificates.
fn crl(bytes: usize) -> Vec<u8> {
    const ECDSA: &[u8] = &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
    let time = tlv(0x17, b"260601000000Z");
    let serial = |number: usize| tlv(2, &[&[0x40], number.to_be_bytes().as_slice()].concat());
    let entry = |number: usize| tlv(0x30, &[serial(number), time.clone()].concat());
    let entries: Vec<u8> = (0..bytes / entry(0).len()).flat_map(entry).collect();
    let fields =
        [vec![2, 1, 1], ECDSA.to_vec(), tlv(0x30, &[]), time.clone(), time.clone(), tlv(0x30, &entries)];
    tlv(0x30, &[tlv(0x30, &fields.concat()), ECDSA.to_vec(), tlv(3, &[0])].concat())
}

fn spent() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap(), u32::try_from(time.tv_nsec).unwrap())
}

fn best(run: impl Fn()) -> Duration {
    let once = |_| {
        let before = spent();
        run();
        spent() - before
    };
    (0..RUNS).map(once).min().unwrap()
}

#[test]
fn four_times_the_input_takes_about_four_times_as_long() {
    let known = targets();
    let mut slow = Vec::new();
    for (target, what, shape, bytes) in SHAPES {
        let target = known.iter().find(|known| known.name == target).unwrap();
        let [short, long] = [bytes, 4 * bytes].map(|bytes| {
            let input = shape(bytes);
            best(|| assert!((target.run)(&input).is_ok()))
        });
        eprintln!("{} {what}: {short:?}, {long:?}", target.name);
        if long > short * RATIO_MAX + NOISE {
            slow.push(format!("{} {what}: {short:?}, {long:?}", target.name));
        }
    }
    assert!(slow.is_empty(), "{slow:?}");
}
