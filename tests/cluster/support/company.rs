//! The company of a Namespace: its label, and its row as the Paperclip server ends it.

use environment_operator::api::{COMPANY_LABEL, ConditionStatus, Environment, Reason};
use harness::wait::eventually;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use serde_json::json;
use uuid::Uuid;

use super::{LIMIT, TestEnvironment};

impl TestEnvironment<'_> {
    fn namespaces(&self) -> Api<Namespace> {
        Api::all(self.client.clone())
    }

    /// Writes the label that names the company of the world's namespace; `None` removes it.
    pub async fn label_company(&self, label: Option<&str>) {
        let patch = Patch::Merge(json!({ "metadata": { "labels": { COMPANY_LABEL: label } } }));
        self.namespaces()
            .patch(self.namespace.name(), &PatchParams::default(), &patch)
            .await
            .unwrap();
    }

    /// Deletes the world's namespace, waits until it is gone, and makes one of the same name, with the operators'
    /// rights anew. Its uid is another one.
    pub async fn make_namespace_again(&self, label: Option<&str>) -> Uuid {
        self.delete_namespace().await;
        let metadata = ObjectMeta {
            name: Some(self.namespace.name().to_owned()),
            labels: label.map(|label| [(COMPANY_LABEL.to_owned(), label.to_owned())].into()),
            ..ObjectMeta::default()
        };
        let object = Namespace {
            metadata,
            ..Namespace::default()
        };
        let made = self.namespaces().create(&PostParams::default(), &object).await.unwrap();
        self.give_rights().await;
        made.metadata.uid.unwrap().parse().unwrap()
    }

    /// How many rows of companies there are.
    pub async fn companies(&self) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM companies")
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    /// Deletes a company as the Paperclip server does: what does not go by cascade first, in one transaction.
    pub async fn delete_company(&self, company: Uuid) {
        let mut transaction = self.pool.begin().await.unwrap();
        for statement in [
            "DELETE FROM activity_log WHERE company_id = $1",
            "DELETE FROM heartbeat_runs WHERE company_id = $1",
            "DELETE FROM agents WHERE company_id = $1",
            "DELETE FROM companies WHERE id = $1",
        ] {
            sqlx::query(statement)
                .bind(company)
                .execute(&mut *transaction)
                .await
                .unwrap();
        }
        transaction.commit().await.unwrap();
    }

    /// Waits until the Environment is not ready for this reason; returns it with the message.
    pub async fn environment_not_ready(&self, name: &str, reason: Reason) -> (Environment, String) {
        eventually(
            &format!("environment {name} says {}", reason.into_str()),
            LIMIT,
            async || {
                let object = self.environments().get(name).await.map_err(|error| error.to_string())?;
                let status = object.status.clone().unwrap_or_default();
                let ready = status
                    .conditions
                    .first()
                    .filter(|ready| (ready.status, ready.reason) == (ConditionStatus::False, reason));
                match ready {
                    Some(ready) => Ok((object, ready.message.clone())),
                    None => Err(json!(status).to_string()),
                }
            },
        )
        .await
    }
}
