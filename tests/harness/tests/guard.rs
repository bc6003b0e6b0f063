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
async fn children_and_the_run_directory_go_when_the_parent_is_killed() {
    let mut parent = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "guard::parent_of_two_that_never_end"])
        .env(PARENT, "1")
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    let lines = std::io::BufReader::new(parent.stdout.take().unwrap()).lines();
    let told = lines
        .map_while(Result::ok)
        .find_map(|line| Some(line.split_once("children ")?.1.to_owned()))
        .unwrap();
    let words: Vec<&str> = told.split(' ').collect();
    let [stopped, running] = [words[0], words[1]].map(|id| Pid::from_raw(id.parse().unwrap()));
    let directory = words[2];
    assert!(is_alive(stopped) && is_alive(running) && Path::new(directory).exists());
    kill(Pid::from_raw(parent.id().cast_signed()), Signal::SIGKILL).unwrap();
    parent.wait().unwrap();
    eventually("children and folder are gone", Duration::from_secs(10), async || {
        let alive = (is_alive(stopped), is_alive(running));
        let there = Path::new(directory).exists();
        if alive == (false, false) && !there {
            Ok(())
        } else {
            Err(format!("alive: {alive:?}, folder there: {there}"))
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
async fn parent_of_two_that_never_end() {
    if std::env::var_os(PARENT).is_none() {
        return;
    }
    // Neither listens to anything but SIGKILL, and the kernel itself ends only the stopped one together with its parent.
    let stubborn = || {
        let mut command = Process::command("/bin/sh");
        command.args(["-c", "trap '' HUP INT QUIT TERM; while :; do sleep 0.1; done"]);
        Process::start("stubborn child", command, &guard::run_directory().join("child.log")).unwrap()
    };
    let (mut stopped, mut running) = (stubborn(), stubborn());
    stopped.signal(Signal::SIGSTOP).unwrap();
    println!(
        "children {} {} {}",
        stopped.id(),
        running.id(),
        guard::run_directory().display()
    );
    running.wait(Duration::from_secs(60)).await;
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

#[tokio::test]
async fn what_a_process_has_started_ends_with_it() {
    let directory = guard::fresh_directory("test").unwrap();
    let (log, told) = (directory.join("log"), directory.join("child"));
    let mut command = Process::command("/bin/sh");
    command
        .arg("-c")
        .arg(format!("sleep 600 & echo $! > {}; wait", told.display()));
    let mut process = Process::start("parent", command, &log).unwrap();
    let child = eventually("the child is there", Duration::from_secs(10), async || {
        let text = std::fs::read_to_string(&told).map_err(|error| error.to_string())?;
        text.trim()
            .parse()
            .map(Pid::from_raw)
            .map_err(|error| error.to_string())
    })
    .await;
    process.stop(Duration::from_secs(10)).await.unwrap();
    eventually("the child is gone", Duration::from_secs(10), async || {
        if is_alive(child) { Err("it is alive") } else { Ok(()) }
    })
    .await;
}
