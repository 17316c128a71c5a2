//! What a registry or the user says as text: names of images, challenges, addresses.

use casemate_registry::{Mirror, Reference, hostile, parse_host};

use super::{outcome, require};
use crate::{Bound, Outcome, Target, Violation};

const BOUND: Bound = Bound {
    input_bytes_max: 20 << 10,
    allocation_bytes: 64 << 10,
    allocation_bytes_per_input_byte: 32,
    time_us: 5_000,
    time_ns_per_input_byte: 1_000,
};
/// Challenges of one header, and parameters of one challenge, that are kept.
const CHALLENGES_MAX: usize = 9;
const PARAMETERS_MAX: usize = 16;

pub(super) fn all() -> Vec<Target> {
    vec![Target {
        name: "registry",
        what: "casemate_registry: references, challenges, URLs and redirects, mirrors, hosts (by first byte)",
        seeds,
        words: &[
            b"://",
            b"[::1]",
            b":5000",
            b"@sha256:",
            b"\"",
            b"\\",
            b"=",
            b", ",
            b"..",
            b"%2f",
            b"#",
            b"?",
            b"@",
            b"//",
            b"Bearer ",
            b"realm=",
            b"\n",
            b"\xff",
            b"\xc3\xa9",
        ],
        run,
        bound: BOUND,
    }]
}

fn seeds() -> Vec<Vec<u8>> {
    let digest = "ab".repeat(32);
    [
        "\0python:3.12".to_owned(),
        format!("\0localhost:5000/team/app:1.0@sha256:{digest}"),
        format!("\0[::1]:5000/a/b@sha256:{digest}"),
        "\u{1}Basic realm=\"a, b\", Bearer realm=\"https://a.example/t\",service=r,scope=\"repository:a:pull\"".to_owned(),
        "\u{2}https://A.example:5000/v2/x?y=z#f\n//b.example/\"q\"".to_owned(),
        "\u{2}http://[::1]/\n/x?y".to_owned(),
        "\u{3}docker.io=https://mirror.example/hub".to_owned(),
        "\u{4}Registry.Example:5000".to_owned(),
    ]
    .map(String::into_bytes)
    .into()
}

fn run(input: &[u8]) -> Result<Outcome, Violation> {
    let (kind, rest) = input.split_first().unwrap_or((&0, &[]));
    let text = String::from_utf8_lossy(rest);
    match kind % 5 {
        0 => reference(&text),
        1 => challenges(&text),
        2 => urls(&text),
        3 => Ok(outcome(text.parse::<Mirror>(), |_| "mirror".to_owned())),
        _ => {
            let host = parse_host(&text);
            if let Ok(host) = &host {
                require(parse_host(host).as_ref() == Ok(host), "a host is read as another")?;
            }
            Ok(outcome(host, |_| "host".to_owned()))
        }
    }
}

fn reference(text: &str) -> Result<Outcome, Violation> {
    let reference = text.parse::<Reference>();
    if let Ok(reference) = &reference {
        // What is not written down is: `latest`. So the texts are compared.
        let written = reference.to_string();
        let again = written.parse::<Reference>();
        let same =
            again.is_ok_and(|again| again.wanted() == reference.wanted() && again.to_string() == written);
        require(same, "a reference is read as another")?;
        let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        require(plain(&written), "a reference has what no URL may have")?;
        let climbs = reference.repository().split('/').any(|part| matches!(part, "" | "." | ".."));
        require(!climbs, "a repository climbs")?;
    }
    Ok(outcome(reference, |found| {
        format!("reference tag {} digest {}", found.tag().is_some(), found.digest().is_some())
    }))
}

fn challenges(text: &str) -> Result<Outcome, Violation> {
    let found = hostile::challenges(text);
    require(found.len() <= CHALLENGES_MAX, "too many challenges")?;
    let few = found.iter().all(|(_, parameters)| parameters.len() <= PARAMETERS_MAX);
    require(few, "too many parameters")?;
    let parameters = || found.iter().flat_map(|(_, parameters)| parameters);
    let bytes: usize = found.iter().map(|(scheme, _)| scheme.len()).sum();
    let values: usize = parameters().map(|(name, value)| name.len() + value.len()).sum();
    require(bytes + values <= text.len(), "more was read than there is")?;
    let letters = |count: usize| "x".repeat(count);
    Ok(Outcome(format!("read {} {}", letters(found.len()), letters(parameters().count()))))
}

fn urls(text: &str) -> Result<Outcome, Violation> {
    let (url, location) = text.split_once('\n').unwrap_or((text, ""));
    let found = hostile::urls(url, location);
    if let Ok((written, joined)) = &found {
        for written in std::iter::once(written).chain(joined) {
            let again = hostile::urls(written, "");
            require(again.is_ok_and(|(again, _)| again == *written), "a URL is read as another")?;
            let breaks = written.bytes().any(|byte| byte.is_ascii_control() || byte == b' ');
            require(!breaks, "a URL breaks a request line")?;
        }
    }
    Ok(outcome(found, |(_, joined)| format!("url and location {}", joined.is_some())))
}
