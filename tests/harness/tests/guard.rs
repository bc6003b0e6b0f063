//! Children end with their parent, whatever ends the parent.

use std::io::BufRead;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use harness::guard;
use harness::process::Process;
use harness::wait::eventually;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Set for the copy of this test binary that plays the parent.
const PARENT: &str = "HARNESS_TEST_PARENT";

#[tokio::test]
async fn a_child_and_the_run_directory_go_when_the_parent_is_killed() {
    let mut parent = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "guard::parent_of_a_child_that_never_ends"])
        .env(PARENT, "1")
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    let lines = std::io::BufReader::new(parent.stdout.take().unwrap()).lines();
    let told = lines
        .map_while(Result::ok)
        .find_map(|line| Some(line.split_once("child ")?.1.to_owned()))
        .unwrap();
    let (child, directory) = told.split_once(' ').unwrap();
    let child = Pid::from_raw(child.parse().unwrap());
    assert!(is_alive(child) && Path::new(directory).exists());
    kill(Pid::from_raw(parent.id().cast_signed()), Signal::SIGKILL).unwrap();
    parent.wait().unwrap();
    eventually("child and folder are gone", Duration::from_secs(10), async || {
        let (alive, there) = (is_alive(child), Path::new(directory).exists());
        if alive || there {
            Err(format!("child alive: {alive}, folder there: {there}"))
        } else {
            Ok(())
        }
    })
    .await;
}

/// Whether it runs or is stopped; one that has ended and that nobody has waited for yet does not count.
fn is_alive(process: Pid) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    status
        .rsplit_once(')')
        .is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

/// Plays the parent when it is asked to, and proves nothing by itself otherwise.
#[tokio::test]
async fn parent_of_a_child_that_never_ends() {
    if std::env::var_os(PARENT).is_none() {
        return;
    }
    let mut command = Process::command("/bin/sh");
    command.args(["-c", "trap '' HUP INT QUIT TERM; while :; do sleep 0.1; done"]);
    let mut process = Process::start("stubborn child", command, &guard::run_directory().join("child.log")).unwrap();
    process.signal(Signal::SIGSTOP).unwrap();
    println!("child {} {}", process.id(), guard::run_directory().display());
    process.wait(Duration::from_secs(60)).await;
}

#[tokio::test]
async fn a_stopped_process_tells_how_it_ended() {
    let log = guard::fresh_directory("process").unwrap().join("log");
    let mut command = Process::command("/bin/sh");
    command.args([
        "-c",
        "trap 'echo asked to end; exit 7' TERM; echo started; while :; do sleep 0.05; done",
    ]);
    let mut process = Process::start("polite child", command, &log).unwrap();
    eventually("it has started", Duration::from_secs(5), async || {
        match process.last_lines(1).as_str() {
            "started" => Ok(()),
            other => Err(other.to_owned()),
        }
    })
    .await;
    assert_eq!(process.stop(Duration::from_secs(5)).await.unwrap().code(), Some(7));
    assert_eq!(process.last_lines(1), "asked to end");
}
