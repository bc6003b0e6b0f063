//! The volumes of a Pod, as folders of this machine.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::{Container, DownwardAPIVolumeFile, KeyToPath, Pod, Volume, VolumeProjection};

use super::source::Source;

/// How long the tokens in the volumes of the Pod are used before they are replaced; `None` where it has none. A kubelet waits
/// for four fifths of their time; half of it leaves time for another try.
pub(super) fn token_age(pod: &Pod) -> Option<Duration> {
    let spec = pod.spec.as_ref()?;
    let projected = spec
        .volumes
        .iter()
        .flatten()
        .filter_map(|volume| volume.projected.as_ref());
    let tokens = projected
        .flat_map(|projected| projected.sources.iter().flatten())
        .filter_map(|source| source.service_account_token.as_ref());
    let seconds = tokens.map(|token| token.expiration_seconds.unwrap_or(3600)).min()?;
    Some(Duration::from_secs(seconds.try_into().ok()?) / 2)
}

/// Makes every volume of the Pod in `directory`, or brings it up to date, and hands back their folders by name.
pub(super) async fn make(source: &Source<'_>, directory: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut folders = BTreeMap::new();
    let spec = source.pod.spec.clone().unwrap_or_default();
    let group = spec.security_context.and_then(|security| security.fs_group);
    for volume in spec.volumes.iter().flatten() {
        let folder = directory.join(&volume.name);
        let made = async {
            std::fs::create_dir_all(&folder)?;
            if volume.empty_dir.is_some() {
                allow(&folder, 0o2777, group)?;
            }
            for (path, content) in files(volume, source).await? {
                write(&folder, &path, &content, mode(volume), group)?;
            }
            anyhow::Ok(())
        };
        made.await.with_context(|| format!("volume {}", volume.name))?;
        folders.insert(volume.name.clone(), folder);
    }
    Ok(folders)
}

/// The mode of a volume's files, where no file has its own (which is not known to this node).
fn mode(volume: &Volume) -> u32 {
    let modes = [
        volume.secret.as_ref().and_then(|secret| secret.default_mode),
        volume.config_map.as_ref().and_then(|map| map.default_mode),
        volume.downward_api.as_ref().and_then(|downward| downward.default_mode),
        volume.projected.as_ref().and_then(|projected| projected.default_mode),
    ];
    let mode = modes.into_iter().flatten().next();
    mode.and_then(|mode| mode.try_into().ok()).unwrap_or(0o644)
}

/// Gives a file or a folder its mode and, to an agent that may, its group.
fn allow(path: &Path, mode: u32, group: Option<i64>) -> Result<()> {
    if let Some(group) = group
        && nix::unistd::Uid::effective().is_root()
    {
        std::os::unix::fs::chown(path, None, Some(group.try_into()?))?;
    }
    // After the owner, for a change of that takes bits away.
    Ok(std::fs::set_permissions(path, Permissions::from_mode(mode))?)
}

/// What the container sees where: pairs of a path on this machine and one in the container.
pub(super) fn mounts(container: &Container, folders: &BTreeMap<String, PathBuf>) -> Result<Vec<(PathBuf, String)>> {
    let mut mounts = Vec::new();
    for mount in container.volume_mounts.iter().flatten() {
        let folder = folders
            .get(&mount.name)
            .with_context(|| format!("volume {} is not there", mount.name))?;
        let path = match &mount.sub_path {
            Some(path) => folder.join(path),
            None => folder.clone(),
        };
        mounts.push((path, mount.mount_path.clone()));
    }
    Ok(mounts)
}

/// The files of a volume by their paths in it.
async fn files(volume: &Volume, source: &Source<'_>) -> Result<BTreeMap<String, Vec<u8>>> {
    if volume.empty_dir.is_some() {
        Ok(BTreeMap::new())
    } else if let Some(secret) = &volume.secret {
        let name = secret.secret_name.as_deref().unwrap_or_default();
        chosen(
            source.secret(name, secret.optional == Some(true)).await?,
            secret.items.as_deref(),
        )
    } else if let Some(map) = &volume.config_map {
        chosen(
            source.config_map(&map.name, map.optional == Some(true)).await?,
            map.items.as_deref(),
        )
    } else if let Some(downward) = &volume.downward_api {
        fields(source, downward.items.as_deref())
    } else if let Some(projected) = &volume.projected {
        let mut files = BTreeMap::new();
        for projection in projected.sources.iter().flatten() {
            files.extend(projected_files(projection, source).await?);
        }
        Ok(files)
    } else {
        bail!("its kind is not known to this node")
    }
}

async fn projected_files(projection: &VolumeProjection, source: &Source<'_>) -> Result<BTreeMap<String, Vec<u8>>> {
    if let Some(secret) = &projection.secret {
        chosen(
            source.secret(&secret.name, secret.optional == Some(true)).await?,
            secret.items.as_deref(),
        )
    } else if let Some(map) = &projection.config_map {
        chosen(
            source.config_map(&map.name, map.optional == Some(true)).await?,
            map.items.as_deref(),
        )
    } else if let Some(downward) = &projection.downward_api {
        fields(source, downward.items.as_deref())
    } else if let Some(token) = &projection.service_account_token {
        Ok(BTreeMap::from([(token.path.clone(), source.token(token).await?)]))
    } else {
        bail!("a projection's kind is not known to this node")
    }
}

/// The entries that `items` names, at their paths; all, where there are no items.
fn chosen(mut entries: BTreeMap<String, Vec<u8>>, items: Option<&[KeyToPath]>) -> Result<BTreeMap<String, Vec<u8>>> {
    let Some(items) = items else { return Ok(entries) };
    let mut files = BTreeMap::new();
    for item in items {
        let content = entries
            .remove(&item.key)
            .with_context(|| format!("references non-existent key: {}", item.key))?;
        files.insert(item.path.clone(), content);
    }
    Ok(files)
}

fn fields(source: &Source<'_>, items: Option<&[DownwardAPIVolumeFile]>) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for item in items.unwrap_or_default() {
        let field = item
            .field_ref
            .as_ref()
            .context("only fields of the Pod are known to this node")?;
        files.insert(item.path.clone(), source.field(&field.field_path)?.into_bytes());
    }
    Ok(files)
}

/// Writes beside and renames: a running container never sees half of a file.
fn write(folder: &Path, path: &str, content: &[u8], mode: u32, group: Option<i64>) -> Result<()> {
    // The API server refuses such paths too.
    ensure!(
        !path.starts_with('/') && !path.split('/').any(|part| part == ".."),
        "{path} leads out of its volume"
    );
    let path = folder.join(path);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let unfinished = path.with_added_extension("unfinished");
    std::fs::write(&unfinished, content).with_context(|| format!("write {}", unfinished.display()))?;
    allow(&unfinished, mode, group)?;
    std::fs::rename(&unfinished, &path).with_context(|| format!("write {}", path.display()))
}
