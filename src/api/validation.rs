//! What must hold for a spec to be stored and a schema cannot say: sizes in bytes, depth, the NUL character.
//!
//! Each refusal is one sentence that says what to change; it becomes the message of the reason `InvalidSpec`. What the
//! schema and its rules hold already is not asked again. Numbers beyond 64-bit floats need no check: the API server refuses
//! them, and the types cannot hold them.

use super::{
    CompactObject, EnvironmentLeaseSpec, EnvironmentSpec, FREE_OBJECT_BYTES, FREE_OBJECT_DEPTH, SshSpec, Unfit,
};

/// The most bytes of a text that stands in an index of the database.
pub const INDEXED_TEXT_BYTES: usize = 512;

/// Whether an Environment can be stored.
///
/// # Errors
///
/// The sentence that says what to change.
pub fn validate(spec: &EnvironmentSpec) -> Result<(), String> {
    if let Some(name) = &spec.display_name {
        text("spec.displayName", name)?;
        indexed("spec.displayName", name.len())?;
    }
    optional_text("spec.description", spec.description.as_ref())?;
    if let Some(ssh) = &spec.ssh {
        validate_ssh(ssh)?;
    }
    if let Some(sandbox) = &spec.sandbox {
        free_object("spec.sandbox.config", sandbox.config.as_ref())?;
        // The database keeps both in one flat object.
        if sandbox.config.as_ref().is_some_and(|config| config.has("provider")) {
            return Err(
                "spec.sandbox.config has the key provider: remove it, spec.sandbox.provider says it".to_owned(),
            );
        }
    }
    if let Some(plugin) = &spec.plugin {
        free_object("spec.plugin.driverConfig", plugin.driver_config.as_ref())?;
    }
    free_object("spec.metadata", spec.metadata.as_ref())?;
    unreserved(spec.metadata.as_ref(), &RESERVED_OF_ENVIRONMENTS)
}

/// Whether a lease can be stored.
///
/// # Errors
///
/// The sentence that says what to change.
pub fn validate_lease(spec: &EnvironmentLeaseSpec) -> Result<(), String> {
    free_object("spec.metadata", spec.metadata.as_ref())?;
    unreserved(spec.metadata.as_ref(), &["driver"])
}

/// By these keys of an environment's metadata a Paperclip server knows the environments that it manages itself.
const RESERVED_OF_ENVIRONMENTS: [&str; 5] = [
    "managedByPaperclip",
    "managedKubernetesSandbox",
    "managedSandboxProvider",
    "defaultForCompany",
    "defaultForInstance",
];

/// Keys that begin so are a Paperclip server's own, wherever they stand.
const RESERVED_PREFIX: &str = "_paperclip";

/// Refuses metadata with a key that is not the user's to set.
fn unreserved(metadata: Option<&CompactObject>, keys: &[&str]) -> Result<(), String> {
    let Some(metadata) = metadata else { return Ok(()) };
    let members = metadata.members();
    let reserved = |key: &&String| keys.contains(&key.as_str()) || key.starts_with(RESERVED_PREFIX);
    match members.keys().find(reserved) {
        None => Ok(()),
        Some(key) => Err(format!(
            "spec.metadata has the key {key}, which the operator or the Paperclip server sets: remove it"
        )),
    }
}

fn validate_ssh(ssh: &SshSpec) -> Result<(), String> {
    text("spec.ssh.remoteWorkspacePath", &ssh.remote_workspace_path)?;
    optional_text("spec.ssh.knownHosts", ssh.known_hosts.as_ref())?;
    // Leases are found by this text (`provider_lease_id`), which joins the four.
    let identity = format!(
        "ssh://{}@{}:{}{}",
        ssh.username, ssh.host, ssh.port, ssh.remote_workspace_path
    );
    indexed(
        "spec.ssh as ssh://username@host:port/remoteWorkspacePath",
        identity.len(),
    )
}

fn free_object(path: &str, object: Option<&CompactObject>) -> Result<(), String> {
    match object.and_then(CompactObject::unfit) {
        None => Ok(()),
        Some(Unfit::Deep) => Err(format!(
            "{path} is nested deeper than {FREE_OBJECT_DEPTH} levels: make it flatter"
        )),
        Some(Unfit::Nul) => Err(nul(path)),
        Some(Unfit::Large(bytes)) => Err(format!(
            "{path} has {bytes} bytes as JSON, and {FREE_OBJECT_BYTES} (32 KiB) are the most: keep less in it, or a reference"
        )),
    }
}

fn optional_text(path: &str, value: Option<&String>) -> Result<(), String> {
    value.map_or(Ok(()), |value| text(path, value))
}

fn text(path: &str, text: &str) -> Result<(), String> {
    if text.contains('\0') { Err(nul(path)) } else { Ok(()) }
}

fn indexed(path: &str, bytes: usize) -> Result<(), String> {
    if bytes > INDEXED_TEXT_BYTES {
        return Err(format!(
            "{path} has {bytes} bytes, and {INDEXED_TEXT_BYTES} are the most: shorten it"
        ));
    }
    Ok(())
}

fn nul(path: &str) -> String {
    format!("{path} holds the character \\u0000, which the database cannot store: remove it")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn environment(spec: Value) -> Result<(), String> {
        validate(&serde_json::from_value(spec).unwrap())
    }

    fn lease(metadata: Value) -> Result<(), String> {
        validate_lease(&serde_json::from_value(json!({ "metadata": metadata })).unwrap())
    }

    fn ssh(changes: Value) -> Result<(), String> {
        let mut ssh = json!({ "host": "box", "username": "agent", "remoteWorkspacePath": "/work" });
        ssh.as_object_mut()
            .unwrap()
            .extend(changes.as_object().unwrap().clone());
        environment(json!({ "driver": "SSH", "ssh": ssh }))
    }

    fn nested(levels: usize) -> Value {
        (1..levels).fold(json!({ "leaf": 1 }), |inner, _| json!({ "inner": inner }))
    }

    #[test]
    fn ordinary_specs_are_stored() {
        assert_eq!(environment(json!({ "driver": "Local" })), Ok(()));
        assert_eq!(ssh(json!({ "knownHosts": "box ssh-ed25519 AAAA\n" })), Ok(()));
        assert_eq!(lease(json!({ "any": { "thing": [1, null, "two"] } })), Ok(()));
    }

    #[test]
    fn a_key_that_is_not_the_user_s_to_set_is_refused_by_name() {
        let refusal = |key: &str| {
            Err(format!(
                "spec.metadata has the key {key}, which the operator or the Paperclip server sets: remove it"
            ))
        };
        let keys = RESERVED_OF_ENVIRONMENTS
            .into_iter()
            .chain(["_paperclip", "_paperclipSlot"]);
        for key in keys {
            for driver in [
                json!({ "driver": "Local" }),
                json!({ "driver": "Sandbox", "sandbox": { "provider": "p" } }),
            ] {
                let mut spec = driver;
                spec["metadata"] = json!({ "mine": 1, key: false });
                assert_eq!(environment(spec), refusal(key));
            }
        }
        for key in ["driver", "_paperclipSlot"] {
            assert_eq!(lease(json!({ "mine": 1, key: "ssh" })), refusal(key));
        }
        assert_eq!(
            lease(json!({ "nested": { "driver": 1 }, "managedByPaperclip": true })),
            Ok(())
        );
        assert_eq!(
            environment(json!({ "driver": "Local", "metadata": { "driver": 1, "paperclip": 2 } })),
            Ok(())
        );
    }

    #[test]
    fn nul_is_refused_wherever_it_stands() {
        let refusal = |path: &str| {
            Err(format!(
                "{path} holds the character \\u0000, which the database cannot store: remove it"
            ))
        };
        assert_eq!(
            environment(json!({ "driver": "Local", "displayName": "a\0b" })),
            refusal("spec.displayName")
        );
        assert_eq!(
            environment(json!({ "driver": "Local", "description": "\0" })),
            refusal("spec.description")
        );
        assert_eq!(
            ssh(json!({ "remoteWorkspacePath": "/a\0" })),
            refusal("spec.ssh.remoteWorkspacePath")
        );
        assert_eq!(ssh(json!({ "knownHosts": "\0" })), refusal("spec.ssh.knownHosts"));
        assert_eq!(lease(json!({ "text": "\0" })), refusal("spec.metadata"));
        assert_eq!(lease(json!({ "list": [{ "deep": ["\0"] }] })), refusal("spec.metadata"));
        assert_eq!(lease(json!({ "key\0": 1 })), refusal("spec.metadata"));
        assert_eq!(lease(json!({ "outer": { "key\0": 1 } })), refusal("spec.metadata"));
        assert_eq!(
            environment(json!({ "driver": "Sandbox", "sandbox": { "provider": "p", "config": { "a": "\0" } } })),
            refusal("spec.sandbox.config")
        );
        assert_eq!(
            environment(json!({
                "driver": "Plugin",
                "plugin": { "pluginKey": "p", "driverKey": "d", "driverConfig": { "a": "\0" } },
            })),
            refusal("spec.plugin.driverConfig")
        );
    }

    #[test]
    fn a_free_object_has_at_most_32_kib_as_json() {
        let filled = |bytes: usize| json!({ "text": "x".repeat(bytes - r#"{"text":""}"#.len()) });
        assert_eq!(lease(filled(32 * 1024)), Ok(()));
        assert_eq!(
            lease(filled(32 * 1024 + 1)),
            Err("spec.metadata has 32769 bytes as JSON, and 32768 (32 KiB) are the most: keep less in it, or a reference"
                .to_owned())
        );
    }

    #[test]
    fn a_free_object_is_nested_at_most_64_levels_deep() {
        assert_eq!(lease(nested(64)), Ok(()));
        assert_eq!(
            lease(nested(65)),
            Err("spec.metadata is nested deeper than 64 levels: make it flatter".to_owned())
        );
        let lists = |levels: usize| json!({ "list": (1..levels - 1).fold(json!([]), |inner, _| json!([inner])) });
        assert_eq!(lease(lists(64)), Ok(()));
        assert!(lease(lists(65)).is_err());
    }

    #[test]
    fn indexed_texts_are_counted_in_bytes() {
        let named = |name: String| environment(json!({ "driver": "Local", "displayName": name }));
        assert_eq!(named("ä".repeat(256)), Ok(()));
        assert_eq!(
            named("ä".repeat(257)),
            Err("spec.displayName has 514 bytes, and 512 are the most: shorten it".to_owned())
        );
        let path = |bytes: usize| ssh(json!({ "remoteWorkspacePath": format!("/{}", "x".repeat(bytes - 1)) }));
        let rest = "ssh://agent@box:22".len();
        assert_eq!(path(512 - rest), Ok(()));
        assert_eq!(
            path(513 - rest),
            Err("spec.ssh as ssh://username@host:port/remoteWorkspacePath has 513 bytes, and 512 are the most: shorten it"
                .to_owned())
        );
    }

    #[test]
    fn a_sandbox_names_its_provider_once() {
        assert_eq!(
            environment(json!({ "driver": "Sandbox", "sandbox": { "provider": "p", "config": { "provider": "q" } } })),
            Err("spec.sandbox.config has the key provider: remove it, spec.sandbox.provider says it".to_owned())
        );
    }

    #[test]
    fn a_number_beyond_64_bit_floats_does_not_decode() {
        assert!(serde_json::from_str::<EnvironmentLeaseSpec>(r#"{"metadata":{"number":1e400}}"#).is_err());
    }
}
