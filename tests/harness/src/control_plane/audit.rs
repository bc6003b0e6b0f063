//! The API server's audit log: who wrote what, so that a test can count writes.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

/// One request that was answered, as the API server recorded it (level Metadata).
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditEvent {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete` or `deletecollection`.
    pub verb: String,
    /// The path and query of the request.
    #[serde(rename = "requestURI")]
    pub request_uri: String,
    /// The client's own name for itself; empty if it sent none.
    #[serde(default)]
    pub user_agent: String,
    /// What it was about; absent for a request outside of the API's resources.
    pub object_ref: Option<AuditObject>,
    /// How it was answered.
    pub response_status: Option<AuditStatus>,
    /// When it came, in RFC 3339 with microseconds: texts compare like the moments.
    #[serde(rename = "requestReceivedTimestamp", default)]
    pub received: String,
    user: AuditUser,
    impersonated_user: Option<AuditUser>,
    /// What authorization and admission have noted.
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// The resource that a request was about.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AuditObject {
    /// Empty for the core group.
    pub api_group: String,
    /// Lower-case plural.
    pub resource: String,
    /// `status`, for example; empty for the object itself.
    pub subresource: String,
    /// Empty where the resource has no namespace.
    pub namespace: String,
    /// Empty for a list, and for a creation with `generateName`.
    pub name: String,
}

/// The HTTP status of an answer.
#[derive(Clone, Debug, Deserialize)]
pub struct AuditStatus {
    /// For example 200, 201, 404, 409.
    pub code: u16,
}

#[derive(Clone, Debug, Deserialize)]
struct AuditUser {
    username: String,
    #[serde(default)]
    extra: BTreeMap<String, Vec<String>>,
}

impl AuditEvent {
    /// The user whose rights counted: the impersonated one, where there is one.
    pub fn user(&self) -> &str {
        &self.impersonated_user.as_ref().unwrap_or(&self.user).username
    }

    /// The Pod that the token of the request is bound to.
    pub fn pod(&self) -> Option<&str> {
        let names = self.user.extra.get("authentication.kubernetes.io/pod-name")?;
        names.first().map(String::as_str)
    }

    /// Whether nobody speaks in the user's place.
    pub fn is_genuine(&self) -> bool {
        self.impersonated_user.is_none()
    }

    /// Whether the user lacked the right.
    pub fn is_forbidden(&self) -> bool {
        self.annotations
            .get("authorization.k8s.io/decision")
            .is_some_and(|decision| decision == "forbid")
    }

    /// Whether it asked for a change (refused ones and dry runs included).
    pub fn is_write(&self) -> bool {
        !matches!(self.verb.as_str(), "get" | "list" | "watch" | "head" | "options")
    }
}

/// The log of one control plane.
///
/// The API server writes an event before it completes the answer (blocking mode), so what a client has seen answered
/// stands in the log.
#[derive(Clone, Debug)]
pub struct AuditLog {
    path: PathBuf,
}

/// Names a folder for the logs of all API servers: for a check of whole runs, after the control planes have gone.
pub const FOLDER_VARIABLE: &str = "TEST_AUDIT_LOGS";

/// Begins the names of the Pods whose operators lack rights on purpose: what is refused to them is no fault.
pub const LACKING: &str = "lacking";

impl AuditLog {
    /// The log of the control plane in a folder. It lies there, or in the folder that the environment names for all logs.
    pub(super) fn of(directory: &Path) -> Self {
        let path = match std::env::var_os(FOLDER_VARIABLE) {
            None => directory.join("audit.log"),
            Some(folder) => {
                // The last two folders are a run and a control plane of it.
                let names = directory
                    .components()
                    .rev()
                    .take(2)
                    .map(|part| part.as_os_str().to_string_lossy());
                let mut names: Vec<_> = names.collect();
                names.reverse();
                Path::new(&folder).join(format!("{}.log", names.join("-")))
            }
        };
        Self { path }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// All logs in a folder.
///
/// # Errors
/// When the folder cannot be read.
pub fn in_folder(folder: &Path) -> Result<Vec<AuditLog>> {
    let files = std::fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    files.map(|file| Ok(AuditLog { path: file?.path() })).collect()
}

/// A place in the log: events before it do not count.
#[derive(Clone, Copy, Debug)]
pub struct Mark(u64);

impl AuditLog {
    /// The end of the log as it is now.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn mark(&self) -> Result<Mark> {
        let length = std::fs::metadata(&self.path)
            .with_context(|| format!("read {}", self.path.display()))?
            .len();
        Ok(Mark(length))
    }

    /// All events after `mark`, in the order of their answers.
    ///
    /// # Errors
    /// When the log cannot be read or a complete line of it is no event.
    pub fn since(&self, mark: Mark) -> Result<Vec<AuditEvent>> {
        use std::io::{Read, Seek, SeekFrom};
        let mut file = std::fs::File::open(&self.path).with_context(|| format!("open {}", self.path.display()))?;
        file.seek(SeekFrom::Start(mark.0))?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        // The last line may still be on its way.
        let complete = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
        complete
            .lines()
            .map(|line| serde_json::from_str(line).with_context(|| format!("read the audit event {line}")))
            .collect()
    }

    /// The events whose line `counts` says yes to; other lines are not read any further.
    ///
    /// # Errors
    /// When the log cannot be read or a line that counts is no event.
    pub fn lines_that(&self, counts: impl Fn(&str) -> bool) -> Result<Vec<AuditEvent>> {
        let log = std::fs::File::open(&self.path).with_context(|| format!("open {}", self.path.display()))?;
        let mut events = Vec::new();
        for line in BufReader::new(log).split(b'\n') {
            let line = String::from_utf8(line?)?;
            // A killed API server may have left half a line.
            if line.ends_with('}') && counts(&line) {
                events.push(serde_json::from_str(&line).with_context(|| format!("read the audit event {line}"))?);
            }
        }
        Ok(events)
    }

    /// The writes after `mark` that `counts` says yes to.
    ///
    /// ```no_run
    /// # fn example(log: harness::control_plane::audit::AuditLog) -> anyhow::Result<()> {
    /// let mark = log.mark()?;
    /// // … the world rests …
    /// let writes = log.writes(mark, |event| event.user() == "system:serviceaccount:paperclip:environment-operator")?;
    /// assert!(writes.is_empty(), "{writes:#?}");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`AuditLog::since`].
    pub fn writes(&self, mark: Mark, counts: impl Fn(&AuditEvent) -> bool) -> Result<Vec<AuditEvent>> {
        let mut events = self.since(mark)?;
        events.retain(|event| event.is_write() && counts(event));
        Ok(events)
    }
}
