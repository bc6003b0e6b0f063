//! The table from image names to programs of this machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::control_plane::binaries;

/// What stands for an image: what runs when a container names no command, and where its programs are.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// Runs when the container has no `command`.
    pub entrypoint: Vec<String>,
    /// Follows the entrypoint when the container has no `args` either.
    pub arguments: Vec<String>,
    /// Folders of programs that are found by name, before the machine's own.
    pub programs: Vec<PathBuf>,
}

/// Images by the last part of their name, without tag or digest: `docker.io/library/busybox:1.37` is `busybox`.
///
/// A Pod with any other image stays in ImagePullBackOff.
#[derive(Clone, Debug, Default)]
pub struct Images(BTreeMap<String, Image>);

impl Images {
    /// `busybox`, `alpine` and `debian` (a shell and the machine's tools) and `kubectl`.
    ///
    /// # Errors
    /// When kubectl cannot be built.
    pub async fn usual() -> Result<Self> {
        let shell = Image {
            entrypoint: vec!["/bin/sh".to_owned()],
            ..Image::default()
        };
        let mut images = Self::default();
        for name in ["busybox", "alpine", "debian"] {
            images = images.with(name, shell.clone());
        }
        let kubectl = binaries::find("kubectl").await?;
        Ok(images.with_program("kubectl", &kubectl))
    }

    /// Adds an image, or takes another one's place.
    #[must_use]
    pub fn with(mut self, name: &str, image: Image) -> Self {
        self.0.insert(name.to_owned(), image);
        self
    }

    /// Adds an image whose entrypoint is one program of this machine.
    #[must_use]
    pub fn with_program(self, name: &str, program: &Path) -> Self {
        let image = Image {
            entrypoint: vec![program.display().to_string()],
            arguments: Vec::new(),
            programs: program.parent().map(Path::to_owned).into_iter().collect(),
        };
        self.with(name, image)
    }

    /// The image that a container names, if the table has it.
    pub(super) fn find(&self, name: &str) -> Option<&Image> {
        let without_digest = name.split('@').next().unwrap_or(name);
        let last = without_digest.rsplit('/').next().unwrap_or(without_digest);
        self.0.get(last.split(':').next().unwrap_or(last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_found_by_the_last_part_of_its_name() {
        let images = Images::default().with("busybox", Image::default());
        for name in [
            "busybox",
            "busybox:1.37",
            "docker.io/library/busybox:1",
            "host:5000/busybox@sha256:00",
        ] {
            assert!(images.find(name).is_some(), "{name}");
        }
        assert!(images.find("busybox-like").is_none());
    }
}
