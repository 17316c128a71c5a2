//! The JSON documents of images.

use casemate_images::Limits;
use casemate_images::hostile::{Again, Kind, read_document};

use super::{outcome, require};
use crate::{Bound, Outcome, Target, Violation};

const BOUND: Bound = Bound {
    input_bytes_max: 64 << 10,
    allocation_bytes: 64 << 10,
    allocation_bytes_per_input_byte: 96,
    time_us: 5_000,
    time_ns_per_input_byte: 2_000,
};
const KINDS: [Kind; 4] = [Kind::Manifest, Kind::Index, Kind::Config, Kind::Archive];

pub(super) fn all() -> Vec<Target> {
    vec![Target {
        name: "image-document",
        what: "casemate_images: manifest, index, configuration, manifest.json (by first byte)",
        seeds,
        words: &[
            b"\"schemaVersion\":2,",
            b"\"manifests\":[]",
            b"\"layers\":[",
            b"\"annotations\":null,",
            b"\"platform\":{\"os\":\"linux\",\"architecture\":\"amd64\"}",
            b"application/vnd.docker.distribution.manifest.list.v2+json",
            b"9007199254740993",
            b"null",
            b"\\u0041",
            b"{",
            b"[",
        ],
        run,
        bound: BOUND,
    }]
}

fn seeds() -> Vec<Vec<u8>> {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let digest = format!("sha256:{}", "ab".repeat(32));
    let blob = |kind: &str| {
        format!("{{\"mediaType\":\"application/vnd.oci.image.{kind}\",\"digest\":\"{digest}\",\"size\":7}}")
    };
    let (config, layer) = (blob("config.v1+json"), blob("layer.v1.tar+gzip"));
    let entry = blob("manifest.v1+json");
    let entry = entry.trim_end_matches('}');
    let platform = format!("{{\"os\":\"linux\",\"architecture\":\"{architecture}\",\"variant\":\"\"}}");
    vec![
        format!("\0{{\"schemaVersion\":2,\"config\":{config},\"layers\":[{layer},{layer}]}}").into(),
        format!(
            "\u{1}{{\"schemaVersion\":2,\"manifests\":[{entry},\"annotations\":{{\"a\":\"b\"}},\"platform\":{platform}}}]}}"
        )
        .into(),
        format!(
            "\u{2}{{\"architecture\":\"{architecture}\",\"os\":\"linux\",\"config\":{{\"Env\":[\"A=b\"],\"Cmd\":[\"/x\"],\
             \"WorkingDir\":\"/\",\"User\":\"1000:1000\",\"Labels\":{{\"a\":\"b\"}},\"Entrypoint\":null}},\
             \"rootfs\":{{\"type\":\"layers\",\"diff_ids\":[\"{digest}\"]}}}}"
        )
        .into(),
        b"\x03[{\"Config\":\"a.json\",\"RepoTags\":[\"a:1\"],\"Layers\":[\"a/layer.tar\"]}]".to_vec(),
    ]
}

fn run(input: &[u8]) -> Result<Outcome, Violation> {
    let (first, bytes) = input.split_first().unwrap_or((&0, &[]));
    let kind = KINDS.get(usize::from(*first) % KINDS.len()).copied().unwrap_or(Kind::Manifest);
    let read = read_document(kind, bytes, &Limits::STANDARD);
    require(read != Ok(Again::Same(false)), "what was written is read as another")?;
    Ok(outcome(read, |again| format!("{kind:?} {again:?}")))
}
