//! Builds lease objects.

use environment_operator::api::EnvironmentLease;
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// A lease object that is to be made.
#[derive(Clone, Debug)]
pub struct Claim {
    name: String,
    spec: Map<String, Value>,
}

/// A lease object of this name: no environment, no run, all defaults.
pub fn lease(name: &str) -> Claim {
    Claim {
        name: name.to_owned(),
        spec: Map::new(),
    }
}

impl Claim {
    /// Names its environment.
    pub fn environment(self, name: &str) -> Self {
        self.set("environmentRef", json!({ "name": name }))
    }

    /// Its run is a row.
    pub fn heartbeat_run(self, id: Uuid) -> Self {
        self.set("run", json!({ "heartbeatRunId": id }))
    }

    /// Its run is a Job.
    pub fn job(self, name: &str) -> Self {
        self.run_object("batch/v1", "Job", name)
    }

    /// Its run is an object of any kind.
    pub fn run_object(self, api_version: &str, kind: &str, name: &str) -> Self {
        self.set(
            "run",
            json!({ "objectRef": { "apiVersion": api_version, "kind": kind, "name": name } }),
        )
    }

    /// Its run, as another claim may name it too.
    pub fn run(&self) -> Value {
        self.spec["run"].clone()
    }

    /// Sets any field of the spec, as YAML spells it.
    pub fn set(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.spec.insert(field.to_owned(), value.into());
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its spec, to the letter.
    pub fn spec(&self) -> Value {
        Value::Object(self.spec.clone())
    }

    /// The object.
    pub fn object(&self) -> EnvironmentLease {
        EnvironmentLease::new(
            &self.name,
            serde_json::from_value(Value::Object(self.spec.clone())).unwrap(),
        )
    }
}
