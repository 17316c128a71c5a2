//! What must work: two agents on each platform, a secret, an edge, evidence and its appraisal.

use casemate_protocol::agent_token::Control;
use casemate_protocol::controls::Need;

use crate::project::{Project, agent};

/// The secret's content.
const TOKEN: &str = "tok-5ae1-0c77";

fn pair() -> String {
    let server = agent(
        "server",
        &["secret api_token", "serve 8080 answer-of-the-server", "wait"],
        "expose: [\"8080\"]\nsecrets: [api_token]\nhealthcheck:\n  test: [\"CMD\", \"/agent\", \"reach 8080\"]\n  interval: 1s\n  timeout: 5s\n  retries: 5",
    );
    let caller = agent(
        "caller",
        &["call server:8080", "wait"],
        "depends_on:\n  server: { condition: service_healthy }\nx-casemate:\n  talks-to: [\"server:8080\"]",
    );
    format!("{server}{caller}")
}

fn works_on(platform: &str) {
    let project = Project::new(&format!("happy-{platform}"), &pair(), &["api_token"]);
    project.put_secret("api_token", TOKEN);
    project.write_policy(&["--platform", platform]);
    project.up_with(&["--platform", platform]);

    let reversed: String = TOKEN.chars().rev().collect();
    let server = project.logs_with("server", "serving on 8080");
    assert!(
        server.contains(&format!("secret api_token mode 0400 owner 1000:1000 reversed {reversed}")),
        "{server}"
    );
    project.logs_with("caller", "call server:8080 answered answer-of-the-server");

    let status = project.ps();
    for name in ["server", "caller"] {
        let agent = &status["agents"][name];
        assert_eq!(agent["state"], "done", "{agent}");
        let controls = agent["controls"].as_object().unwrap();
        assert_eq!(controls.len(), Control::ALL.len(), "{agent}");
        for control in Control::ALL.into_iter().filter(|control| control.need() == Need::Always) {
            assert_eq!(controls[control.name()], "enforced", "{agent}");
        }
    }
    assert_eq!(status["agents"]["server"]["health"], "healthy", "{status}");
    assert_eq!(status["agents"]["server"]["secrets"], serde_json::json!(["api_token"]), "{status}");
    assert_eq!(status["agents"]["caller"]["secrets"], serde_json::json!([]), "{status}");

    for name in ["server", "caller"] {
        project.attest(name, "nonce-of-the-test", "e.json").assert_ok();
        let verdict = project.run(&["verify", "e.json", "--nonce", "nonce-of-the-test"]);
        verdict.assert_ok();
        assert!(verdict.stdout.contains("SIMULATED"), "{}", verdict.stdout);
        let last = "verdict: warning (SIMULATED: worth nothing outside development)";
        assert!(verdict.stdout.contains(last), "{}", verdict.stdout);
        let verdict = |more: &[&str]| -> serde_json::Value {
            let args = [&["--json", "verify", "e.json", "--nonce", "nonce-of-the-test"], more].concat();
            serde_json::from_str(&project.run(&args).stdout).unwrap()
        };
        let own = verdict(&[]);
        assert_eq!((&own["verdict"], &own["simulated"]), (&"warning".into(), &true.into()), "{own}");
        assert!(own["collateral"].as_array().is_some_and(|parts| parts.len() >= 3), "{own}");
        // Nobody vouches for it, so nobody can say what it is.
        let strict = verdict(&["--roots", "production"]);
        assert_eq!(strict["verdict"], "contraindicated", "{strict}");
        assert!(strict["simulated"].is_null(), "{strict}");
        assert_eq!(strict["policy"]["roots"], "production", "{strict}");
    }
    let written = project.run(&["policy", "write", "--force", "--platform", platform]);
    written.assert_ok();
    assert!(written.stderr.contains("warning: this policy trusts SIMULATED hardware"), "{}", written.stderr);
    let census = project.census();
    assert!(
        census.processes.len() >= 8 && !census.cgroups.is_empty() && !census.run.is_empty(),
        "{census:?}"
    );
    project.down();
}

#[test]
fn two_agents_work_on_simulated_tdx() {
    works_on("tdx");
}

#[test]
fn two_agents_work_on_simulated_snp() {
    works_on("snp");
}

#[test]
fn a_second_up_while_it_runs_harms_nothing() {
    let project = Project::ready("happy-twice", &agent("one", &["say here", "wait"], ""), &[]);
    project.up();
    project.try_up(&[]).assert_ok();
    project.wait_for_agent("one", "running", |one| one["pid"].is_number() && one["instance"] == 1);
    project.down();
    project.up();
    project.down();
}
