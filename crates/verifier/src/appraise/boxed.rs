//! The box: its claims, bound into the hardware's statement, for this nonce and this composition.

use casemate_canon::{Sha256, Sha384, Sha512, to_canonical_json};
use casemate_protocol::Nonce;
use casemate_protocol::box_claims::{BOX_CLAIMS_TAG, BoxClaims};

use crate::hex_text::Hex;
use crate::ledger::{Failed, Ledger};
use crate::platform::{LaunchBinding, PlatformView};

/// Largest box claims in bytes; real ones have some 500.
const BOX_CLAIMS_BYTES_MAX: usize = 4096;

/// Box claims as far as they can be read. Rules that do not hold are in the ledger.
pub(super) fn appraise(
    ledger: &mut Ledger,
    bytes: &[u8],
    platform: &PlatformView,
    nonce: &Nonce,
    composition: &Sha384,
) -> Option<BoxClaims> {
    let _recorded = ledger.equal("box.report-data", &Hex(Sha512::of(bytes).0), &Hex(platform.report_data));
    let claims = read(ledger, bytes).ok()?;
    let results = [
        ledger.equal("nonce", nonce, &claims.nonce),
        require_launch_binding(ledger, &claims.composition, platform),
        ledger.equal("composition.digest", composition, &claims.composition),
    ];
    let _recorded: Result<(), Failed> = results.into_iter().collect();
    ledger.claim("box", "composition", claims.composition, platform.standing.hardware());
    ledger.claim("box", "log-head", claims.log_head, platform.standing.runtime());
    ledger.claim("box", "nonce", &claims.nonce, platform.standing.runtime());
    Some(claims)
}

fn read(ledger: &mut Ledger, bytes: &[u8]) -> Result<BoxClaims, Failed> {
    const RULE: &str = "box.claims";
    const EXPECTED: &str = "box claims in RFC 8785 form";
    if bytes.len() > BOX_CLAIMS_BYTES_MAX {
        let found = format!("{} bytes, at most {BOX_CLAIMS_BYTES_MAX} allowed", bytes.len());
        return Err(ledger.fail(RULE, EXPECTED, found));
    }
    let claims: BoxClaims = ledger.accept(RULE, EXPECTED, serde_json::from_slice(bytes))?;
    let canonical = ledger.accept(RULE, EXPECTED, to_canonical_json(&claims))?;
    ledger.require(
        RULE,
        canonical == bytes && claims.casemate == BOX_CLAIMS_TAG,
        format_args!("{EXPECTED} with tag {BOX_CLAIMS_TAG}"),
        String::from_utf8_lossy(bytes),
    )?;
    Ok(claims)
}

/// The host chose the composition before the box started, and cannot choose another one since.
fn require_launch_binding(
    ledger: &mut Ledger,
    composition: &Sha384,
    platform: &PlatformView,
) -> Result<(), Failed> {
    const RULE: &str = "composition.launch-binding";
    match platform.launch {
        LaunchBinding::MrConfigId(found) => ledger.equal(RULE, &Hex(composition.0), &Hex(found)),
        LaunchBinding::HostData(found) => ledger.equal(RULE, &Hex(Sha256::of(&composition.0).0), &Hex(found)),
    }
}
