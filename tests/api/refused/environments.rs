//! Bad Environments.

use serde_json::{Value, json};

use super::Case;
use crate::support::{Attempt, Kind};

fn create(spec: Value, refusal: &'static str) -> Case {
    Case {
        kind: Kind::Environment,
        attempt: Attempt::Create(spec),
        refusal,
    }
}

fn change(before: Value, after: Value, refusal: &'static str) -> Case {
    Case {
        kind: Kind::Environment,
        attempt: Attempt::Change(before, after),
        refusal,
    }
}

/// An SSH environment with some members replaced (null: removed).
fn ssh(changes: Value) -> Value {
    let mut ssh = json!({ "host": "box.example", "username": "agent", "remoteWorkspacePath": "/work" });
    for (key, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(ssh.as_object_mut().unwrap().remove(key)),
            value => ssh[key] = value.clone(),
        }
    }
    json!({ "driver": "SSH", "ssh": ssh })
}

fn key_ref(name: &str, key: &str) -> Value {
    ssh(json!({ "privateKeySecretRef": { "name": name, "key": key } }))
}

fn sandbox(provider: &str) -> Value {
    json!({ "driver": "Sandbox", "sandbox": { "provider": provider } })
}

fn plugin(plugin_key: &str, driver_key: &str) -> Value {
    json!({ "driver": "Plugin", "plugin": { "pluginKey": plugin_key, "driverKey": driver_key } })
}

pub fn cases() -> Vec<Case> {
    let local = json!({ "driver": "Local" });
    vec![
        // The driver and its member.
        create(json!({}), "[spec.driver: Required value, {unchecked}]"),
        create(
            json!({ "driver": "local" }),
            r#"[spec.driver: Unsupported value: "local": supported values: "Local", "SSH", "Sandbox", "Plugin", {unchecked}]"#,
        ),
        create(
            json!({ "driver": "Kubernetes" }),
            r#"[spec.driver: Unsupported value: "Kubernetes": supported values: "Local", "SSH", "Sandbox", "Plugin", {unchecked}]"#,
        ),
        create(
            json!({ "driver": "SSH" }),
            "spec.ssh: Invalid value: ssh belongs to driver SSH: write it for driver SSH, leave it out for any other",
        ),
        create(
            json!({ "driver": "Sandbox" }),
            "spec.sandbox: Invalid value: sandbox belongs to driver Sandbox: write it for driver Sandbox, leave it out for any other",
        ),
        create(
            json!({ "driver": "Plugin" }),
            "spec.plugin: Invalid value: plugin belongs to driver Plugin: write it for driver Plugin, leave it out for any other",
        ),
        create(
            json!({ "driver": "Local", "ssh": ssh(json!({}))["ssh"] }),
            "spec.ssh: Invalid value: ssh belongs to driver SSH: write it for driver SSH, leave it out for any other",
        ),
        create(
            json!({ "driver": "Local", "sandbox": { "provider": "kubernetes" } }),
            "spec.sandbox: Invalid value: sandbox belongs to driver Sandbox: write it for driver Sandbox, leave it out for any other",
        ),
        create(
            json!({ "driver": "SSH", "sandbox": { "provider": "kubernetes" } }),
            "[spec.ssh: Invalid value: ssh belongs to driver SSH: write it for driver SSH, leave it out for any other, spec.sandbox: Invalid value: sandbox belongs to driver Sandbox: write it for driver Sandbox, leave it out for any other]",
        ),
        create(
            json!({ "driver": "Local", "plugin": plugin("p", "d")["plugin"] }),
            "spec.plugin: Invalid value: plugin belongs to driver Plugin: write it for driver Plugin, leave it out for any other",
        ),
        change(
            local.clone(),
            sandbox("kubernetes"),
            "spec.driver: Invalid value: driver cannot change: create another Environment for another driver",
        ),
        change(local.clone(), json!({}), "[spec.driver: Required value, {unchecked}]"),
        Case {
            kind: Kind::Environment,
            attempt: Attempt::CreateNamed("local", sandbox("kubernetes")),
            refusal: "spec.driver: Invalid value: the name local belongs to driver Local: choose another name, or set spec.driver to Local",
        },
        // What every driver has.
        create(
            json!({ "driver": "Local", "displayName": "" }),
            r#"spec.displayName: Invalid value: "": spec.displayName in body should be at least 1 chars long"#,
        ),
        create(
            json!({ "driver": "Local", "displayName": "x".repeat(513) }),
            "[spec.displayName: Too long: may not be more than 512 bytes, {unchecked}]",
        ),
        create(
            json!({ "driver": "Local", "description": "x".repeat(4097) }),
            "[spec.description: Too long: may not be more than 4096 bytes, {unchecked}]",
        ),
        create(
            json!({ "driver": "Local", "archived": "yes" }),
            r#"[spec.archived: Invalid value: "string": spec.archived in body must be of type boolean: "string", {unchecked}]"#,
        ),
        create(
            json!({ "driver": "Local", "maxActiveLeases": 0 }),
            "spec.maxActiveLeases: Invalid value: 0: spec.maxActiveLeases in body should be greater than or equal to 1",
        ),
        create(
            json!({ "driver": "Local", "maxActiveLeases": 1.5 }),
            r#"[spec.maxActiveLeases: Invalid value: "number": spec.maxActiveLeases in body must be of type integer: "number", <nil>: Invalid value: "": Checked value must be of type integer (default format) in spec.maxActiveLeases, {unchecked}]"#,
        ),
        create(
            json!({ "driver": "Local", "maxActiveLeases": 3_000_000_000_u32 }),
            "spec.maxActiveLeases: Invalid value: 3000000000: spec.maxActiveLeases in body should be less than or equal to 2147483647",
        ),
        create(
            json!({ "driver": "Local", "metadata": "text" }),
            r#"[spec.metadata: Invalid value: "string": spec.metadata in body must be of type object: "string", {unchecked}]"#,
        ),
        create(
            json!({ "driver": "Local", "metadata": (0..65).map(|n| (n.to_string(), json!(n))).collect::<serde_json::Map<_, _>>() }),
            "[spec.metadata: Too many: 65: must have at most 64 items, {unchecked}]",
        ),
        // SSH.
        create(
            ssh(json!({ "host": null })),
            "[spec.ssh.host: Required value, {unchecked}]",
        ),
        create(
            ssh(json!({ "host": "" })),
            r#"spec.ssh.host: Invalid value: "": SSH environments require a host."#,
        ),
        create(
            ssh(json!({ "host": "agent@box" })),
            r#"spec.ssh.host: Invalid value: "agent@box": a host is a host name or an IP address: user and port have fields of their own"#,
        ),
        create(
            ssh(json!({ "host": "-oProxyCommand=true" })),
            r#"spec.ssh.host: Invalid value: "-oProxyCommand=true": a host is a host name or an IP address: user and port have fields of their own"#,
        ),
        create(
            ssh(json!({ "host": "box:22" })),
            r#"spec.ssh.host: Invalid value: "box:22": a host is a host name or an IP address: user and port have fields of their own"#,
        ),
        create(
            ssh(json!({ "host": "ssh://box" })),
            r#"spec.ssh.host: Invalid value: "ssh://box": a host is a host name or an IP address: user and port have fields of their own"#,
        ),
        create(
            ssh(json!({ "port": 0 })),
            "spec.ssh.port: Invalid value: 0: spec.ssh.port in body should be greater than or equal to 1",
        ),
        create(
            ssh(json!({ "port": 65536 })),
            "spec.ssh.port: Invalid value: 65536: spec.ssh.port in body should be less than or equal to 65535",
        ),
        create(
            ssh(json!({ "port": "22" })),
            r#"[spec.ssh.port: Invalid value: "string": spec.ssh.port in body must be of type integer: "string", {unchecked}]"#,
        ),
        create(
            ssh(json!({ "username": null })),
            "[spec.ssh.username: Required value, {unchecked}]",
        ),
        create(
            ssh(json!({ "username": "" })),
            r#"spec.ssh.username: Invalid value: "": a username has letters, digits, '.', '_' and '-' and begins with a letter, a digit or '_'"#,
        ),
        create(
            ssh(json!({ "username": "-l" })),
            r#"spec.ssh.username: Invalid value: "-l": a username has letters, digits, '.', '_' and '-' and begins with a letter, a digit or '_'"#,
        ),
        create(
            ssh(json!({ "remoteWorkspacePath": null })),
            "[spec.ssh.remoteWorkspacePath: Required value, {unchecked}]",
        ),
        create(
            ssh(json!({ "remoteWorkspacePath": "work" })),
            r#"spec.ssh.remoteWorkspacePath: Invalid value: "work": SSH remote workspace path must be absolute."#,
        ),
        create(
            ssh(json!({ "remoteWorkspacePath": "~/work" })),
            r#"spec.ssh.remoteWorkspacePath: Invalid value: "~/work": SSH remote workspace path must be absolute."#,
        ),
        create(
            ssh(json!({ "privateKeySecretRef": { "name": "keys" } })),
            "[spec.ssh.privateKeySecretRef.key: Required value, {unchecked}]",
        ),
        create(
            key_ref("Keys", "id_ed25519"),
            r#"spec.ssh.privateKeySecretRef.name: Invalid value: "Keys": the name of a Secret has lower-case letters, digits, '-' and '.', as metadata.name has"#,
        ),
        create(
            key_ref("keys", "id/ed25519"),
            r#"spec.ssh.privateKeySecretRef.key: Invalid value: "id/ed25519": a key of a Secret has letters, digits, '-', '_' and '.'"#,
        ),
        create(
            ssh(json!({ "strictHostKeyChecking": "no" })),
            r#"[spec.ssh.strictHostKeyChecking: Invalid value: "string": spec.ssh.strictHostKeyChecking in body must be of type boolean: "string", {unchecked}]"#,
        ),
        create(
            ssh(json!({ "knownHosts": ["box ssh-ed25519 AAAA"] })),
            r#"[spec.ssh.knownHosts: Invalid value: "array": spec.ssh.knownHosts in body must be of type string: "array", {unchecked}]"#,
        ),
        // Sandbox and plugin.
        create(
            json!({ "driver": "Sandbox", "sandbox": {} }),
            "[spec.sandbox.provider: Required value, {unchecked}]",
        ),
        create(
            sandbox(""),
            r#"spec.sandbox.provider: Invalid value: "": a provider is one word, for instance kubernetes: letters, digits, '.', '_', '/', '@' and '-'"#,
        ),
        create(
            sandbox("a provider"),
            r#"spec.sandbox.provider: Invalid value: "a provider": a provider is one word, for instance kubernetes: letters, digits, '.', '_', '/', '@' and '-'"#,
        ),
        create(
            json!({ "driver": "Sandbox", "sandbox": { "provider": "kubernetes", "config": [1] } }),
            r#"[spec.sandbox.config: Invalid value: "array": spec.sandbox.config in body must be of type object: "array", {unchecked}]"#,
        ),
        create(
            json!({ "driver": "Plugin", "plugin": { "pluginKey": "acme" } }),
            "[spec.plugin.driverKey: Required value, {unchecked}]",
        ),
        create(
            plugin("acme:boxes", "box"),
            r#"spec.plugin.pluginKey: Invalid value: "acme:boxes": pluginKey is one word: letters, digits, '.', '_', '/', '@' and '-'"#,
        ),
        create(
            plugin("acme", ""),
            r#"spec.plugin.driverKey: Invalid value: "": driverKey is one word: letters, digits, '.', '_', '/', '@' and '-'"#,
        ),
    ]
}
