//! Where the server's programs are, and who they run as.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use nix::unistd::{Gid, Uid, User};

/// Where Debian keeps the programs of each major version.
const DEBIAN: &str = "/usr/lib/postgresql";

/// The folder that holds `initdb` and `postgres`: the newest version of Debian's folders, else the first in PATH.
///
/// # Errors
/// When neither has them; the message says what to do.
pub(super) fn find() -> Result<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir(DEBIAN)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, folder)| is_complete(folder))
        .collect();
    versions.sort();
    let newest = versions.pop().map(|(_, folder)| folder);
    let path = std::env::var_os("PATH").unwrap_or_default();
    newest
        .or_else(|| std::env::split_paths(&path).find(|folder| is_complete(folder)))
        .context(
            "Postgres's server is not installed: `make setup` installs it as root, else ask an administrator for the \
         Debian package `postgresql`",
        )
}

fn is_complete(folder: &Path) -> bool {
    ["initdb", "postgres"].iter().all(|name| folder.join(name).is_file())
}

/// The user that the server runs as: Postgres refuses to run as root.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner {
    user: Uid,
    group: Gid,
}

impl Owner {
    /// `None` where this process is not root and keeps its own user; else `postgres`, where there is one, or `nobody`.
    pub(super) fn find() -> Result<Option<Self>> {
        if !Uid::effective().is_root() {
            return Ok(None);
        }
        for name in ["postgres", "nobody"] {
            if let Some(user) = User::from_name(name).with_context(|| format!("look up user {name}"))? {
                return Ok(Some(Self {
                    user: user.uid,
                    group: user.gid,
                }));
            }
        }
        anyhow::bail!("Postgres cannot run as root, and there is neither a user postgres nor a user nobody")
    }

    /// Has the command run as this user.
    pub(super) fn apply(self, command: &mut Command) {
        use std::os::unix::process::CommandExt;
        command.uid(self.user.as_raw()).gid(self.group.as_raw());
    }

    /// Gives the folder to this user.
    pub(super) fn give(self, folder: &Path) -> Result<()> {
        nix::unistd::chown(folder, Some(self.user), Some(self.group))
            .with_context(|| format!("give {} to Postgres", folder.display()))
    }
}
