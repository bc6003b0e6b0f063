//! The end of all children, whatever happens to their parent.
//!
//! A test binary ends without running destructors of statics, and a killed one runs nothing at all. So a small shell
//! script, one per process, reads from a pipe whose only other end this process holds: end of file is the one signal that
//! cannot be missed. Then it ends every process group that it was told of, and removes the folder of this run.
//! (The parent-death signal of Linux is no help: it follows the *thread* that started the child.)

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{LazyLock, Mutex, PoisonError};

/// The guard of this process: its pipe and the folder that it removes.
struct Guard {
    pipe: Mutex<ChildStdin>,
    directory: PathBuf,
}

static GUARD: LazyLock<Guard> = LazyLock::new(|| {
    // Nothing of the harness may start without its guard, so there is no error to hand on: the test run ends here.
    start().unwrap_or_else(|error| panic!("the guard of the harness did not start: {error}"))
});

fn start() -> std::io::Result<Guard> {
    // Short, because the path of a Unix socket has room for 107 bytes.
    let name = format!(
        "penv-{}-{}",
        std::process::id(),
        &uuid::Uuid::new_v4().simple().to_string()[..8]
    );
    let directory = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&directory)?;
    // Postgres runs as another user where the tests run as root, and has to reach its own folder in here.
    std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o755))?;
    let mut child = Command::new("/bin/sh")
        .args(["-c", include_str!("guard.sh"), "guard"])
        .arg(&directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // A group of its own: an interrupt from the terminal reaches the tests and must not reach their guard.
        .process_group(0)
        .spawn()?;
    let pipe = child
        .stdin
        .take()
        .ok_or_else(|| std::io::Error::other("its standard input is missing"))?;
    Ok(Guard {
        pipe: Mutex::new(pipe),
        directory,
    })
}

/// The folder of this process's run: everything that the harness writes lies in it, and it goes with the process.
pub fn run_directory() -> &'static Path {
    &GUARD.directory
}

/// Makes a fresh folder in [`run_directory`], named after what it is for.
///
/// # Errors
/// When the folder cannot be made.
pub fn fresh_directory(purpose: &str) -> std::io::Result<PathBuf> {
    let name = format!("{purpose}-{}", &uuid::Uuid::new_v4().simple().to_string()[..6]);
    let directory = run_directory().join(name);
    std::fs::create_dir_all(&directory)?;
    Ok(directory)
}

/// Has the process group ended when this process ends.
pub(crate) fn watch(group: u32) -> std::io::Result<()> {
    tell('+', group)
}

/// The process group has ended and was waited for; its number may be another's from now on.
pub(crate) fn forget(group: u32) {
    // A guard that is gone has nothing to forget.
    let _ = tell('-', group);
}

fn tell(verb: char, group: u32) -> std::io::Result<()> {
    let mut pipe = GUARD.pipe.lock().unwrap_or_else(PoisonError::into_inner);
    pipe.write_all(format!("{verb} {group}\n").as_bytes())
}
