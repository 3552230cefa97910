//! The server of a test process goes with it, however that process ends.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use testkit::Server;

fn gone_soon(dir: &std::path::Path, pid: &str) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while dir.exists() || PathBuf::from(format!("/proc/{pid}")).exists() {
        assert!(Instant::now() < deadline, "{} or process {pid} is left behind", dir.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn pid(dir: &std::path::Path) -> String {
    let file = std::fs::read_to_string(dir.join("data/postmaster.pid")).unwrap();
    file.lines().next().unwrap().to_owned()
}

#[test]
fn a_dropped_server_is_gone() {
    let server = Server::start();
    let (dir, pid) = (server.dir().to_owned(), pid(server.dir()));
    drop(server);
    assert!(!dir.exists() && !PathBuf::from(format!("/proc/{pid}")).exists());
}

#[test]
fn a_killed_test_process_leaves_no_server_behind() {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["child", "--exact", "--ignored", "--nocapture"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut said = lines.filter_map(|l| l.split_once("server at ").map(|(_, dir)| PathBuf::from(dir)));
    let dir = said.next().unwrap();
    let pid = pid(&dir);
    assert!(PathBuf::from(format!("/proc/{pid}")).exists());
    child.kill().unwrap();
    child.wait().unwrap();
    gone_soon(&dir, &pid);
}

#[test]
#[ignore = "run by the test above, which kills it"]
fn child() {
    let server = Server::start();
    println!("server at {}", server.dir().display());
    loop {
        std::thread::park();
    }
}
