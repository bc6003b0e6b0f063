//! The kinds of run objects.

use std::fmt;
use std::str::FromStr;

/// A kind of objects that may be the run of a lease, as in `batch/v1/Job` or `v1/Pod`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RunKind {
    /// API group; empty for the core group.
    pub group: String,
    /// API version without the group.
    pub version: String,
    /// Kind, as in a manifest.
    pub kind: String,
}

impl RunKind {
    /// `apiVersion` as in a manifest.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// Whether this is the kind of that group, whatever the version: through each of them the same objects are read.
    pub fn is(&self, group: &str, kind: &str) -> bool {
        self.group == group && self.kind == kind
    }
}

impl fmt::Display for RunKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.api_version(), self.kind)
    }
}

impl FromStr for RunKind {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<&str> = text.split('/').collect();
        let (group, version, kind) = match parts[..] {
            [version, kind] => ("", version, kind),
            [group, version, kind] if !group.is_empty() => (group, version, kind),
            _ => return Err(SENTENCE),
        };
        let is_label = |part: &str| {
            part.chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c))
        };
        let is_version = version.starts_with('v') && version.len() > 1 && is_label(version);
        let is_kind =
            kind.starts_with(|c: char| c.is_ascii_uppercase()) && kind.chars().all(|c| c.is_ascii_alphanumeric());
        if !is_label(group) || !is_version || !is_kind {
            return Err(SENTENCE);
        }
        Ok(Self {
            group: group.into(),
            version: version.into(),
            kind: kind.into(),
        })
    }
}

const SENTENCE: &str = "write group/version/Kind, or version/Kind for the core group, as in batch/v1/Job or v1/Pod";
