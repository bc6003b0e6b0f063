//! What an operator has answered to a claim: its status and its Events, word for word, and without what can't be the same.

use environment_operator::api::EnvironmentLease;
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use serde_json::{Value, json};

use super::{LIMIT, TestEnvironment};
use harness::wait::eventually;

impl TestEnvironment<'_> {
    /// The status of a claim and its Events, of which it waits for the one that its reason asks for. Moments, ids that each
    /// lease has for itself, and what the author of the claim has written there (`written`) are replaced.
    pub async fn answer(&self, lease: &EnvironmentLease, written: &[String]) -> Value {
        let (name, status) = (lease.name_any(), json!(lease.status));
        let events = eventually(&format!("an Event tells why {name} is so"), LIMIT, async || {
            let events = self.all_events().await;
            let mut mine: Vec<Value> = events
                .into_iter()
                .filter(|event| event["regarding"]["name"] == *name)
                .map(|event| json!([event["type"], event["reason"], event["action"], event["note"]]))
                .collect();
            mine.sort_by_key(Value::to_string);
            if mine.iter().any(|event| event[1] == status["reason"]) {
                Ok(mine)
            } else {
                Err(json!(mine))
            }
        })
        .await;
        let mut own = written.to_vec();
        // A run is shown by the beginning of its id.
        own.extend(
            written
                .iter()
                .filter(|word| word.len() == 36)
                .map(|id| id[..8].to_owned()),
        );
        own.extend([lease.uid().unwrap(), name]);
        plain(json!({ "status": status, "events": events }), &own)
    }

    /// All Events of the namespace.
    pub async fn all_events(&self) -> Vec<Value> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), self.namespace.name());
        let list = events.list(&ListParams::default()).await.unwrap();
        list.items.into_iter().map(|event| json!(event)).collect()
    }
}

fn plain(value: Value, own: &[String]) -> Value {
    match value {
        Value::String(text) if text.parse::<jiff::Timestamp>().is_ok() => json!("<moment>"),
        Value::String(text) => json!(own.iter().fold(text, |text, word| text.replace(word, "<own>"))),
        Value::Array(items) => items.into_iter().map(|item| plain(item, own)).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(key, value)| match key.as_str() {
                "fencingToken" => (key, json!("<rising>")),
                _ => (key, plain(value, own)),
            })
            .collect(),
        other => other,
    }
}
