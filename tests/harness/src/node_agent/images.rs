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
    /// Programs of this machine that are found by name, before the machine's own: a container has them in [`FOLDER`].
    pub programs: Vec<PathBuf>,
    /// Variables that the image sets; a container's own win. `$(POD_IP)` is the address that its processes listen on.
    pub environment: BTreeMap<String, String>,
}

/// Where a container has its image's programs.
pub(super) const FOLDER: &str = "/image";

/// Images by the last part of their name, without tag or digest: `docker.io/library/busybox:1.37` is `busybox`.
///
/// A Pod with any other image stays in ImagePullBackOff.
#[derive(Clone, Debug, Default)]
pub struct Images(BTreeMap<String, Image>);

impl Image {
    fn of_program(program: &Path) -> Self {
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        Self {
            entrypoint: vec![format!("{FOLDER}/{name}")],
            programs: vec![program.to_owned()],
            ..Self::default()
        }
    }
}

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
        self.with(name, Image::of_program(program))
    }

    /// Adds the operator's image: its binary, told to listen on its Pod's address alone, for the machine's are all Pods'.
    #[must_use]
    pub fn with_operator(self, program: &Path) -> Self {
        let mut image = Image::of_program(program);
        image.arguments = vec!["run".to_owned()];
        let listen = ("ENVIRONMENT_OPERATOR_LISTEN".to_owned(), "$(POD_IP):8080".to_owned());
        image.environment.extend([listen]);
        self.with("environment-operator", image)
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
