//! What must hold in a world whatever has happened to it, as soon as an operator has had time to settle it.

use std::collections::{HashMap, HashSet};

use environment_operator::api::{Driver, Environment, EnvironmentLease, EnvironmentPhase, LeasePhase};
use environment_operator::store::sweep::LEAKED;
use harness::wait::eventually;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{LIMIT, TestEnvironment};

/// Everything that is known of the world's leases at one moment.
struct Picture {
    objects: HashMap<Uuid, EnvironmentLease>,
    rows: HashMap<Uuid, Value>,
    records: HashMap<Uuid, Value>,
    /// How often the activity log tells something of a lease.
    activity: HashMap<(Uuid, String), i64>,
    /// The runs that are over.
    over: HashSet<Uuid>,
}

impl TestEnvironment<'_> {
    /// Waits until objects and rows tell the same story, once each:
    ///
    /// - every object ever granted has exactly one row, with the same ending and reason, and shows its token and context;
    /// - every active row of the operator's has its object, and of every other it is known whether its object is gone;
    /// - claims that were never granted have neither row nor activity;
    /// - no lease of an object's has leaked, as the gauge counts;
    /// - no lease is held whose run is over, that was released, or whose object is gone;
    /// - each Environment has one row, the company at most one Local, and each Local object shows whether it was chosen;
    /// - a grant and an ending stand in the activity log once; no token was given twice; nothing carries a finalizer.
    pub async fn settles(&self) {
        self.settles_beside(&HashSet::new()).await;
    }

    /// The same where another writer has ended or deleted rows of these leases: the row may be missing, and the activity
    /// log does not tell the end that the operator did not make.
    pub async fn settles_beside(&self, others: &HashSet<Uuid>) {
        eventually("objects and rows tell the same story", LIMIT, async || {
            let mut faults = self.picture().await.faults(others);
            faults.extend(self.environment_faults().await);
            faults.extend(self.leaks().await);
            if faults.is_empty() {
                Ok(())
            } else {
                Err(faults.join("; "))
            }
        })
        .await;
    }

    /// Waits until the lease's row has this status.
    pub async fn lease_row_is(&self, id: Uuid, status: &str) {
        eventually(&format!("the row is {status}"), LIMIT, async || {
            match self.lease_row(id).await {
                Some(row) if row["status"] == status => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }

    async fn picture(&self) -> Picture {
        let by_id = |rows: Vec<Value>| rows.into_iter().map(|row| (id(&row["id"]), row)).collect();
        // Objects last: a row that is older than its object's absence is a fault, not the other way round.
        let rows = self.all("SELECT to_jsonb(l) FROM environment_leases AS l").await;
        // Other worlds may share the database: their objects are not this one's to see.
        let records =
            sqlx::query_scalar("SELECT to_jsonb(o) FROM environment_operator.lease_object AS o WHERE namespace = $1")
                .bind(self.namespace.name())
                .fetch_all(&self.pool)
                .await
                .unwrap();
        let activity = self
            .all(
                // What was retained ends once more.
                "SELECT jsonb_build_object('id', entity_id, 'action', action, 'times', count(DISTINCT id) - count(*) FILTER (
                   WHERE details ->> 'status' = 'retained' AND retained.ends
                 )) FROM activity_log
                 CROSS JOIN LATERAL (SELECT EXISTS (
                   SELECT FROM environment_leases AS l WHERE l.id::text = entity_id AND l.status <> 'retained'
                 ) AS ends) AS retained
                 WHERE entity_type = 'environment_lease' GROUP BY entity_id, action",
            )
            .await;
        let over = self
            .all(
                "SELECT to_jsonb(id) FROM heartbeat_runs
                 WHERE status IN ('succeeded', 'failed', 'cancelled', 'timed_out', 'interrupted')",
            )
            .await;
        let objects = self.leases().list(&ListParams::default()).await.unwrap().items;
        let action = |row: &Value| row["action"].as_str().unwrap().to_owned();
        Picture {
            objects: objects.into_iter().map(|object| (id_of(&object), object)).collect(),
            rows: by_id(rows),
            records: by_id(records),
            activity: activity
                .iter()
                .map(|row| ((id(&row["id"]), action(row)), row["times"].as_i64().unwrap()))
                .collect(),
            over: over.iter().map(id).collect(),
        }
    }

    async fn environment_faults(&self) -> Vec<String> {
        let rows: HashMap<Uuid, Value> = self
            .all("SELECT to_jsonb(e) FROM environments AS e")
            .await
            .into_iter()
            .map(|row| (id(&row["id"]), row))
            .collect();
        let objects = self.environments().list(&ListParams::default()).await.unwrap().items;
        let canonical: HashSet<Uuid> =
            sqlx::query_scalar("SELECT object_id FROM environment_operator.local WHERE object_id IS NOT NULL")
                .fetch_all(&self.pool)
                .await
                .unwrap()
                .into_iter()
                .collect();
        let mut faults = Vec::new();
        for object in &objects {
            faults.extend(fault_of_part(object, &canonical));
            let row = object.status.as_ref().and_then(|status| status.environment_id);
            if !row.is_some_and(|row| rows.contains_key(&row)) {
                faults.push(format!("environment {} has no row", object.name_any()));
            }
            if !object.finalizers().is_empty() {
                faults.push(format!("environment {} has a finalizer", object.name_any()));
            }
        }
        let locals: Vec<&Value> = rows.values().filter(|row| row["driver"] == "local").collect();
        let companies: HashSet<&str> = locals.iter().filter_map(|row| row["company_id"].as_str()).collect();
        if locals.len() > companies.len() {
            faults.push(format!(
                "{} rows of {} companies are Local",
                locals.len(),
                companies.len()
            ));
        }
        faults
    }

    /// The leak gauge, by the operator's own statement.
    async fn leaks(&self) -> Option<String> {
        let (leaked, _unmanaged): (i64, i64) = sqlx::query_as(LEAKED).fetch_one(&self.pool).await.unwrap();
        (leaked > 0).then(|| format!("{leaked} leases have leaked"))
    }

    async fn all(&self, statement: &'static str) -> Vec<Value> {
        sqlx::query_scalar(statement).fetch_all(&self.pool).await.unwrap()
    }
}

impl Picture {
    /// What does not fit together, a sentence each.
    fn faults(&self, others: &HashSet<Uuid>) -> Vec<String> {
        let objects = self.objects.iter();
        let mut faults: Vec<String> = objects
            .flat_map(|(id, object)| self.faults_of_object(object, others.contains(id)))
            .collect();
        let records = self.records.iter();
        faults.extend(records.flat_map(|(id, record)| self.faults_of_record(*id, record, others.contains(id))));
        let tokens: HashSet<i64> = self
            .records
            .values()
            .filter_map(|record| record["fencing_token"].as_i64())
            .collect();
        if tokens.len() != self.records.len() {
            faults.push("a fencing token was given twice".to_owned());
        }
        faults
    }

    fn faults_of_object(&self, object: &EnvironmentLease, beside: bool) -> Vec<String> {
        let (name, id) = (object.name_any(), id_of(object));
        let status = object.status.clone().unwrap_or_default();
        let mut faults = Vec::new();
        if !object.finalizers().is_empty() {
            faults.push(format!("lease {name} has a finalizer"));
        }
        if status.acquired_at.is_none() {
            let told = self.activity.keys().any(|(lease, _)| *lease == id);
            // Where the row went before the grant was shown, only the record tells of it.
            if (self.rows.contains_key(&id) || self.records.contains_key(&id) || told) && !beside {
                faults.push(format!(
                    "lease {name} shows no grant but has a row, a record or activity: {}",
                    json!(status)
                ));
            }
            return faults;
        }
        let (Some(row), Some(record)) = (self.rows.get(&id), self.records.get(&id)) else {
            if !(beside && self.records.contains_key(&id)) {
                faults.push(format!("lease {name} was granted and has no row or no record"));
            }
            return faults;
        };
        let phase = status.phase.map(|phase| phase.into_str().to_lowercase());
        if json!(phase) != row["status"] {
            faults.push(format!("lease {name} is {phase:?}, its row {}", row["status"]));
        }
        let ended = status.phase != Some(LeasePhase::Active);
        if ended
            && (json!(status.reason), json!(status.message)) != (record["reason"].clone(), record["message"].clone())
        {
            faults.push(format!(
                "lease {name} shows another reason than its record: {} {record}",
                json!(status)
            ));
        }
        if json!(status.fencing_token) != record["fencing_token"] || json!(status.context) != record["context"] {
            faults.push(format!("lease {name} shows another token or context than its record"));
        }
        if !ended && object.spec.release {
            faults.push(format!("lease {name} is held although it was released"));
        }
        faults
    }

    fn faults_of_record(&self, id: Uuid, record: &Value, beside: bool) -> Vec<String> {
        let (name, mut faults) = (record["name"].clone(), Vec::new());
        let Some(row) = self.rows.get(&id) else {
            return match beside {
                true => Vec::new(),
                false => vec![format!("lease {name} has a record and no row")],
            };
        };
        let active = row["status"] == "active";
        let gone = !self.objects.contains_key(&id);
        if active && gone {
            faults.push(format!("the row of lease {name} is active and its object is gone"));
        }
        let ended = !record["ended_status"].is_null() && record["ended_status"] != "retained";
        if ended && gone == record["deleted_at"].is_null() {
            faults.push(format!(
                "lease {name} has ended, its object is gone: {gone}, its record says {record}"
            ));
        }
        let run = row["heartbeat_run_id"].as_str().map(|run| run.parse().unwrap());
        if active && run.is_some_and(|run: Uuid| self.over.contains(&run)) {
            faults.push(format!("lease {name} has outlived its run"));
        }
        // Whoever deletes a run deletes its activity.
        if record["run_id"].is_null() == run.is_none() {
            let times = |action: &str| self.activity.get(&(id, action.to_owned())).copied().unwrap_or_default();
            let told = (times("environment.lease_acquired"), times("environment.lease_released"));
            if told != (1, i64::from(!active)) && !beside {
                faults.push(format!(
                    "lease {name} is {}, and the activity log tells {told:?}",
                    row["status"]
                ));
            }
        }
        faults
    }
}

/// What is wrong with the part that a mirrored Local shows.
fn fault_of_part(object: &Environment, canonical: &HashSet<Uuid>) -> Option<String> {
    let status = object.status.clone().unwrap_or_default();
    if object.spec.driver != Driver::Local || status.environment_id.is_none() {
        return None;
    }
    let chosen = canonical.contains(&object.uid().unwrap().parse().unwrap());
    let shown = status.phase != Some(EnvironmentPhase::Duplicate) && status.canonical_ref.is_none();
    (chosen != shown).then(|| {
        format!(
            "Local {} shows another part than was chosen: {}",
            object.name_any(),
            json!(status)
        )
    })
}

/// The uid of a lease object, which is the id of its row.
pub fn id_of(object: &EnvironmentLease) -> Uuid {
    object.uid().unwrap().parse().unwrap()
}

fn id(value: &Value) -> Uuid {
    value.as_str().unwrap().parse().unwrap()
}
