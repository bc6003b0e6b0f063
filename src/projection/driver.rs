//! What is particular to each driver: how a spec becomes the row's `config`, and what a lease takes from it.
//!
//! The Paperclip server reads `config` by a strict schema per driver (DOMAIN: "config per driver"): not a key more, not a key less.

use serde_json::{Map, Value, json};

use crate::api::{CompactObject, Driver, EnvironmentSpec};

/// The row's `config` for a spec; `{}` for a Local and for a spec whose member is missing (the schema refuses those).
///
/// A reference to a Secret stays in Kubernetes: the Paperclip server's `privateKeySecretRef` names a secret of its own.
pub fn config(spec: &EnvironmentSpec) -> Value {
    match spec.driver {
        Driver::Local => json!({}),
        Driver::Ssh => spec.ssh.as_ref().map_or_else(
            || json!({}),
            |ssh| {
                json!({
                    "host": ssh.host,
                    "port": ssh.port,
                    "username": ssh.username,
                    "remoteWorkspacePath": ssh.remote_workspace_path,
                    "privateKey": null,
                    "privateKeySecretRef": null,
                    "knownHosts": ssh.known_hosts,
                    "strictHostKeyChecking": ssh.strict_host_key_checking,
                })
            },
        ),
        Driver::Sandbox => spec.sandbox.as_ref().map_or_else(
            || json!({}),
            |sandbox| {
                // Flat: the provider's own keys stand beside `provider`, which they can't replace.
                let mut config = sandbox.config.as_ref().map(CompactObject::members).unwrap_or_default();
                config.insert("provider".to_owned(), json!(sandbox.provider));
                Value::Object(config)
            },
        ),
        Driver::Plugin => spec.plugin.as_ref().map_or_else(
            || json!({}),
            |plugin| {
                json!({
                    "pluginKey": plugin.plugin_key,
                    "driverKey": plugin.driver_key,
                    "driverConfig": plugin.driver_config.as_ref().map(CompactObject::members).unwrap_or_default(),
                })
            },
        ),
    }
}

/// What a lease's row says of where it is held.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Provision {
    /// `environment_leases.provider`.
    pub provider: Option<String>,
    /// `environment_leases.provider_lease_id`.
    pub provider_lease_id: Option<String>,
    /// Keys that the run's `paperclipEnvironment` has besides id, name, driver and lease.
    pub context: Map<String, Value>,
}

/// What a lease takes from its environment's row. The row may be anybody's, so every key may be missing.
pub fn provision(driver: Driver, config: &Value) -> Provision {
    let text = |key: &str| config.get(key).and_then(Value::as_str);
    match driver {
        Driver::Local => Provision {
            provider: Some("local".to_owned()),
            ..Provision::default()
        },
        Driver::Ssh => {
            let port = config.get("port").and_then(Value::as_i64).unwrap_or(22);
            let (host, username, path) = (text("host"), text("username"), text("remoteWorkspacePath"));
            let provider_lease_id = match (host, username, path) {
                (Some(host), Some(username), Some(path)) => Some(format!("ssh://{username}@{host}:{port}{path}")),
                _ => None,
            };
            let context = [
                ("remoteCwd", json!(path)),
                ("host", json!(host)),
                ("port", json!(port)),
                ("username", json!(username)),
            ];
            Provision {
                provider: Some("ssh".to_owned()),
                provider_lease_id,
                context: context
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value))
                    .collect(),
            }
        }
        Driver::Sandbox => Provision {
            provider: text("provider").map(str::to_owned),
            ..Provision::default()
        },
        Driver::Plugin => {
            let provider = text("pluginKey")
                .zip(text("driverKey"))
                .map(|(plugin, key)| format!("plugin:{plugin}:{key}"));
            Provision {
                provider,
                ..Provision::default()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(value: Value) -> EnvironmentSpec {
        serde_json::from_value(value).unwrap()
    }

    /// A golden file: a spec, and the config that the Paperclip server reads strictly.
    macro_rules! golden {
        ($name:literal) => {
            include_str!(concat!("../../tests/fixtures/config/", $name, ".json"))
        };
    }

    #[test]
    fn each_driver_gives_the_origin_s_config_to_the_letter() {
        for golden in [
            golden!("local"),
            golden!("ssh"),
            golden!("ssh-defaults"),
            golden!("sandbox"),
            golden!("plugin"),
            golden!("plugin-defaults"),
        ] {
            let golden: Value = serde_json::from_str(golden).unwrap();
            assert_eq!(config(&spec(golden["spec"].clone())), golden["config"]);
        }
    }

    #[test]
    fn a_provider_s_own_keys_can_not_replace_the_provider() {
        let sandbox = spec(json!({ "driver": "Sandbox", "sandbox": {
            "provider": "kubernetes", "config": { "provider": "other" },
        } }));
        assert_eq!(config(&sandbox), json!({ "provider": "kubernetes" }));
    }

    #[test]
    fn a_lease_takes_its_provider_from_the_row() {
        let ssh = json!({ "host": "h", "port": 2222, "username": "u", "remoteWorkspacePath": "/w" });
        let provision_of_ssh = provision(Driver::Ssh, &ssh);
        assert_eq!(provision_of_ssh.provider_lease_id.as_deref(), Some("ssh://u@h:2222/w"));
        assert_eq!(
            Value::Object(provision_of_ssh.context),
            json!({ "remoteCwd": "/w", "host": "h", "port": 2222, "username": "u" })
        );
        let provider = |driver, config| provision(driver, &config).provider;
        assert_eq!(provider(Driver::Local, json!({})).as_deref(), Some("local"));
        assert_eq!(
            provider(Driver::Sandbox, json!({ "provider": "e2b" })).as_deref(),
            Some("e2b")
        );
        assert_eq!(
            provider(Driver::Plugin, json!({ "pluginKey": "p", "driverKey": "d" })).as_deref(),
            Some("plugin:p:d")
        );
        assert_eq!(provider(Driver::Sandbox, json!(null)), None);
    }
}
