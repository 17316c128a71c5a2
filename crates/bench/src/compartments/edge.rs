//! `edge`: traffic from one agent to another through the gateway, against two plain processes over loopback, a proxy that
//! copies, and Docker's ways from one container to another and to a published port.

use std::any::Any;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::docker::{Docker, Published};
use super::project::{IMAGE, Process, Project, small_image};
use super::report::{Asked, not_run};
use super::{Outcome, Setup};
use crate::statistics::quantile;

const PORT: u16 = 9000;
/// Ports of the plain processes: below those that the kernel gives out.
const PLAIN_PORT: u16 = 19_071;
const PROXY_PORT: u16 = 19_072;
const DOCKER_IMAGE: &str = "casemate-bench-edge:1";
/// Time for an answer, and for a client to be ready.
const ANSWER_BOUND: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(2);
const RAW: &str = "two processes, loopback";
const OURS: &str = "casemate, through the gateway";
const ASKED: Asked = Asked::AtLeast(0.8);
/// What is asked of a client, and how much of it.
const TRIPS: &str = "trips";
const TRIP_COUNT: u32 = 1000;
const STREAM: &str = "stream";
const STREAM_MEGABYTES: u32 = 300;
const CONNECT: &str = "connect";
const CONNECT_COUNT: u32 = 300;

/// A client, where its server is for it, and what must live meanwhile.
struct Line {
    name: &'static str,
    folder: PathBuf,
    host: String,
    port: u16,
    _keep: Vec<Box<dyn Any>>,
}

#[derive(Default)]
struct Series {
    p50: Vec<f64>,
    p99: Vec<f64>,
    megabytes: Vec<f64>,
    connections: Vec<f64>,
}

pub(super) fn run(setup: &Setup) -> Outcome<()> {
    let dir = tempfile::Builder::new().prefix("cbe").tempdir_in("/tmp")?;
    let tree = dir.path().join("tree");
    let tar = small_image(&tree, &[&Setup::inside()?])?;
    let mut lines = plain(dir.path())?;
    let more: [(&str, Outcome<Vec<Line>>); 3] = [
        (OURS, ours(setup, &tar).map(|line| vec![line])),
        ("Docker, port by proxy and bridge", docker(setup, &tree, dir.path(), Published::ByProxy)),
        ("Docker, port by kernel", docker(setup, &tree, dir.path(), Published::ByKernel)),
    ];
    for (name, found) in more {
        match found {
            Ok(found) => lines.extend(found),
            Err(error) => not_run(name, error),
        }
    }
    let mut all: Vec<Series> = lines.iter().map(|_| Series::default()).collect();
    for _ in 0..setup.rounds {
        for (line, series) in lines.iter().zip(&mut all) {
            if let Err(error) = round(line, series) {
                not_run(line.name, error);
            }
        }
    }
    table(&lines, &all);
    Ok(())
}

fn table(lines: &[Line], all: &[Series]) {
    let at = |times: &[f64]| quantile(times, 0.5).unwrap_or(f64::NAN);
    let of = |name: &str| lines.iter().zip(all).find(|(line, _)| line.name == name).map(|(_, series)| series);
    let raw = of(RAW).map_or(f64::NAN, |series| at(&series.megabytes));
    println!("one connection at a time; trips of 1 KiB there and back, us; streams of {STREAM_MEGABYTES} MB");
    println!("{:<34} {:>8} {:>8} {:>8} {:>10}   MB/s against raw", "", "p50", "p99", "MB/s", "connects/s");
    for (line, series) in lines.iter().zip(all) {
        let megabytes = at(&series.megabytes);
        let ratio = megabytes / raw;
        let verdict = if line.name == OURS { ASKED.judge(ratio) } else { format!("{ratio:>7.3}") };
        println!(
            "{:<34} {:>8.1} {:>8.1} {megabytes:>8.0} {:>10.0}  {verdict}",
            line.name,
            at(&series.p50),
            at(&series.p99),
            at(&series.connections)
        );
    }
}

fn round(line: &Line, series: &mut Series) -> Outcome<()> {
    let trips: Vec<f64> = line.ask(TRIPS, TRIP_COUNT)?;
    series.p50.extend(quantile(&trips, 0.5));
    series.p99.extend(quantile(&trips, 0.99));
    series.megabytes.extend(line.ask(STREAM, STREAM_MEGABYTES)?);
    series.connections.extend(line.ask(CONNECT, CONNECT_COUNT)?);
    Ok(())
}

impl Line {
    fn ask(&self, what: &str, count: u32) -> Outcome<Vec<f64>> {
        let (beside, ask, told) =
            (self.folder.join("asking"), self.folder.join("ask"), self.folder.join("told"));
        fs::write(&beside, format!("{what} {} {} {count}", self.host, self.port))?;
        fs::rename(beside, ask)?;
        wait_for(&told)?;
        let text = fs::read_to_string(&told)?;
        fs::remove_file(told)?;
        let numbers = text.split_whitespace().map(str::parse).collect::<Result<Vec<f64>, _>>();
        numbers.map_err(|_| text.into())
    }
}

fn wait_for(file: &Path) -> Outcome<()> {
    let end = Instant::now() + ANSWER_BOUND;
    while !file.exists() {
        if Instant::now() > end {
            return Err(format!("{} did not come", file.display()).into());
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}

fn folder(dir: &Path, name: &str) -> Outcome<PathBuf> {
    let folder = dir.join(name);
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

fn process(mut command: Command) -> Outcome<Box<dyn Any>> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(Box::new(Process(command.spawn()?)))
}

fn inside(words: &[&str]) -> Outcome<Command> {
    let mut command = Command::new(Setup::inside()?);
    command.args(words);
    Ok(command)
}

/// Two processes, once directly and once through a proxy.
fn plain(dir: &Path) -> Outcome<Vec<Line>> {
    let (server, proxy) = (format!("127.0.0.1:{PLAIN_PORT}"), format!("127.0.0.1:{PROXY_PORT}"));
    let line = |name, port, kept: Vec<Box<dyn Any>>| -> Outcome<Line> {
        let folder = folder(dir, &format!("plain-{port}"))?;
        let client = process(inside(&["drive", &folder.display().to_string()])?)?;
        wait_for(&folder.join("ready"))?;
        Ok(Line {
            name,
            folder,
            host: "127.0.0.1".into(),
            port,
            _keep: kept.into_iter().chain([client]).collect(),
        })
    };
    let served = process(inside(&["serve", &server])?)?;
    let proxied = process(inside(&["proxy", &proxy, &server])?)?;
    Ok(vec![
        line(RAW, PLAIN_PORT, vec![served])?,
        line("through a proxy that copies", PROXY_PORT, vec![proxied])?,
    ])
}

/// Two agents and an edge.
fn ours(setup: &Setup, tar: &Path) -> Outcome<Line> {
    let mut project = Project::new(setup, tar)?;
    let program = "/bin/casemate-bench-inside";
    let services = format!(
        "  server:\n    image: {IMAGE}\n    command: [{program}, serve, \"0.0.0.0:{PORT}\"]\n    expose: [\"{PORT}\"]\n    \
         stop_signal: SIGKILL\n    mem_limit: 512m\n  client:\n    image: {IMAGE}\n    command: [{program}, drive, /data]\n    \
         stop_signal: SIGKILL\n    mem_limit: 512m\n    volumes: [\"ask:/data\"]\n    x-casemate:\n      \
         talks-to: [\"server:{PORT}\"]\n"
    );
    project.services("edge", &services, "volumes:\n  ask:\n")?;
    project.up()?;
    let folder = project.state().join("volumes/ask");
    wait_for(&folder.join("ready"))?;
    Ok(Line { name: OURS, folder, host: "server".into(), port: PORT, _keep: vec![Box::new(project)] })
}

/// Two containers on a bridge, and a published port from beside the daemon.
fn docker(setup: &Setup, tree: &Path, dir: &Path, published: Published) -> Outcome<Vec<Line>> {
    let docker = Docker::start(&setup.work, published)?;
    docker.import(tree, DOCKER_IMAGE)?;
    let program = "/bin/casemate-bench-inside";
    let (listen, publish) = (format!("0.0.0.0:{PORT}"), format!("127.0.0.1:{PORT}:{PORT}"));
    let run = ["run", "-d", "--rm"];
    docker.run(
        &[&run[..], &["--name", "server", "-p", &publish, DOCKER_IMAGE, program, "serve", &listen]].concat(),
    )?;
    let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
    let address = docker.run(&["inspect", "-f", format, "server"])?.trim().to_owned();
    let near = folder(dir, &format!("near-{published:?}"))?;
    let mut client = docker.beside(&Setup::inside()?);
    client.arg("drive").arg(&near);
    let client = process(client)?;
    wait_for(&near.join("ready"))?;
    let name = match published {
        Published::ByProxy => "Docker, published, userland proxy",
        Published::ByKernel => "Docker, published, no proxy",
    };
    let mut lines = Vec::new();
    if published == Published::ByProxy {
        let folder = folder(dir, "bridge")?;
        let volume = format!("{}:/data", folder.display());
        docker.run(
            &[&run[..], &["--name", "client", "-v", &volume, DOCKER_IMAGE, program, "drive", "/data"]]
                .concat(),
        )?;
        wait_for(&folder.join("ready"))?;
        lines.push(Line {
            name: "Docker, over a bridge",
            folder,
            host: address,
            port: PORT,
            _keep: Vec::new(),
        });
    }
    // The client ends before the daemon.
    let kept: Vec<Box<dyn Any>> = vec![client, Box::new(docker)];
    lines.push(Line { name, folder: near, host: "127.0.0.1".into(), port: PORT, _keep: kept });
    Ok(lines)
}
