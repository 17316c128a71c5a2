//! What a result looks like.

use casemate_protocol::Refusal;

use super::*;

fn policy() -> Policy {
    let zero = "0".repeat(96);
    let text = format!(
        "version = 1\n[platform]\ntee = [\"tdx\"]\nroots = \"production\"\ncollateral-age-max-days = 30\n\
         [platform.tdx]\ntcb-status = [\"UpToDate\"]\nrequire-sept-ve-disable = true\ntcb-evaluation-min = 18\nmrtd = [\"{zero}\"]\n\
         rtmr0 = [\"{zero}\"]\nrtmr1 = [\"{zero}\"]\nrtmr2 = [\"{zero}\"]\n\
         [composition]\ndigest = \"sha384:{zero}\"\n[agents]\n"
    );
    Policy::parse(&text).unwrap()
}

fn claim(part: &'static str, name: &str, value: &str, voucher: Voucher) -> Claim {
    Claim { part, name: name.into(), value: value.into(), voucher }
}

fn report<'a>(claims: &'a [Claim], rules: &'a [RuleResult]) -> Report<'a> {
    Report {
        file: "e.json".into(),
        what: "evidence",
        subject: Subject::Agent,
        verdict: "warning",
        claims,
        rules,
        boot_log: &[],
        trust_vectors: std::collections::BTreeMap::new(),
    }
}

#[test]
fn every_claim_is_shown_with_its_voucher_and_every_failed_rule_with_its_parts() {
    let claims = [
        claim("platform", "simulated", "true", Voucher::Simulated),
        claim("platform", "mrtd", "aa\u{1b}[2J", Voucher::Simulated),
        claim("agent", "name", "planner", Voucher::Simulated),
    ];
    let rules = [
        RuleResult { passed: true, detail: Refusal::new("tdx.mrtd", "aa", "aa") },
        RuleResult { passed: false, detail: Refusal::new("agent.taint", "clean", "tainted") },
    ];
    let policy = policy();
    let context = Context { policy: &policy, now: UnixTime(0), collateral: Vec::new() };
    let lines = report(&claims, &rules).lines(&context, Colour::None);
    let at = |text: &str| {
        lines.iter().position(|line| line == text).unwrap_or_else(|| panic!("{text}\n{lines:#?}"))
    };
    assert_eq!(at("e.json: evidence"), 0);
    assert!(lines[1].starts_with("SIMULATED: "));
    let order = ["hardware", "\u{251c} \u{b7} simulated  true  [simulated]", "firmware"];
    assert!(order.windows(2).all(|pair| at(pair[0]) < at(pair[1])));
    at("\u{2514} \u{2713} mrtd       aa\u{fffd}[2J  [simulated]");
    at("\u{251c} \u{b7} name       planner  [simulated]");
    at("rules: 1 hold, 1 do not");
    at("\u{2717} agent.taint");
    at("    expected  clean");
    at("    found     tainted");
    assert!(lines.iter().any(|line| line.contains("not covered: the other agents")));
    assert_eq!(at("verdict: warning (SIMULATED: worth nothing outside development)"), lines.len() - 1);
}

#[test]
fn colour_is_in_marks_and_nowhere_else() {
    let claims = [claim("platform", "simulated", "false", Voucher::Hardware)];
    let policy = policy();
    let context = Context { policy: &policy, now: UnixTime(0), collateral: Vec::new() };
    let plain = report(&claims, &[]).lines(&context, Colour::None);
    let coloured = report(&claims, &[]).lines(&context, Colour::Marks);
    assert!(plain.iter().all(|line| !line.contains('\u{1b}')));
    assert!(coloured.iter().any(|line| line.contains("\u{1b}[33mnot covered:\u{1b}[0m")));
    let strip = |line: &String| line.replace("\u{1b}[33m", "").replace("\u{1b}[0m", "");
    assert_eq!(coloured.iter().map(strip).collect::<Vec<_>>(), plain);
}

#[test]
fn the_json_form_says_whether_it_is_simulated_and_null_where_nobody_can_tell() {
    let policy = policy();
    let context = Context { policy: &policy, now: UnixTime(0), collateral: Vec::new() };
    let simulated = |claims: &[Claim]| report(claims, &[]).json(&context)["simulated"].clone();
    let claim = |name: &str, value: &str, voucher| claim("platform", name, value, voucher);
    assert_eq!(simulated(&[claim("simulated", "true", Voucher::Simulated)]), json!(true));
    assert_eq!(simulated(&[claim("simulated", "false", Voucher::Hardware)]), json!(false));
    assert_eq!(simulated(&[]), Value::Null);
    assert_eq!(simulated(&[claim("tee", "tdx", Voucher::HostClaimed)]), Value::Null);
    assert_eq!(simulated(&[claim("simulated", "false", Voucher::HostClaimed)]), Value::Null);
}

#[test]
fn the_json_form_has_the_layers_with_what_is_covered_and_what_is_not() {
    let claims = [
        claim("platform", "simulated", "false", Voucher::Hardware),
        claim("platform", "mrtd", "aa", Voucher::Hardware),
    ];
    let rules = [RuleResult { passed: true, detail: Refusal::new("tdx.mrtd", "aa", "aa") }];
    let policy = policy();
    let context = Context { policy: &policy, now: UnixTime(0), collateral: Vec::new() };
    let json = report(&claims, &rules).json(&context);
    assert_eq!(json["layers"][1]["layer"], "firmware");
    let expected = json!([{
        "part": "platform", "name": "mrtd", "value": "aa", "vouched-by": "hardware", "compared": "holds",
    }]);
    assert_eq!(json["layers"][1]["covered"], expected);
    assert!(json["layers"][0]["not-covered"].as_array().is_some_and(|gaps| !gaps.is_empty()));
    assert_eq!((&json["file"], &json["what"]), (&json!("e.json"), &json!("evidence")));
    assert_eq!(json["policy"]["roots"], "production");
}

#[test]
fn the_last_line_says_what_simulated_evidence_is_worth() {
    let simulated = last_line("warning", Some(true), Colour::None);
    assert_eq!(simulated, "verdict: warning (SIMULATED: worth nothing outside development)");
    assert_eq!(last_line("affirming", Some(false), Colour::None), "verdict: affirming");
}

#[test]
fn policy_time_and_dates_of_collateral_stand_above_the_tree() {
    let policy = policy();
    let sha256 = casemate_canon::Sha256::of(b"");
    let part = CollateralPart { name: "snp.crl", sha256, dates: Ok((UnixTime(0), UnixTime(86_400))) };
    let context = Context { policy: &policy, now: UnixTime(86_400), collateral: vec![part] };
    assert_eq!(
        context.lines(),
        [
            format!("policy      {} with production roots", policy.id()),
            "time        1970-01-02T00:00:00Z".to_owned(),
            "collateral  snp.crl                1970-01-01T00:00:00Z to 1970-01-02T00:00:00Z".to_owned(),
        ]
    );
}
