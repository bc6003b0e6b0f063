//! Jobs as runs. The real Job controller makes and counts their Pods; what a kubelet would write, the test writes: a Pod's
//! status. (A Job's own status cannot be written by hand, for the controller writes it again.)

use harness::wait::eventually;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::{LIMIT, World};

impl World<'_> {
    /// The Jobs of the namespace.
    pub fn jobs(&self) -> Api<Job> {
        Api::namespaced(self.client.clone(), self.namespace.name())
    }

    /// Makes a Job that fails with its first Pod; `more` goes into its spec.
    pub async fn job(&self, name: &str, more: Value) -> Job {
        let pod = json!({
            "restartPolicy": "Never",
            // No node takes it, in any test: its status is the test's own.
            "schedulerName": "by-hand",
            "containers": [{ "name": "run", "image": "run" }],
        });
        let mut spec = json!({ "backoffLimit": 0, "template": { "spec": pod } });
        for (key, value) in more.as_object().unwrap() {
            spec[key] = value.clone();
        }
        let job = serde_json::from_value(json!({ "metadata": { "name": name }, "spec": spec })).unwrap();
        self.jobs().create(&PostParams::default(), &job).await.unwrap()
    }

    /// Ends the Job's Pod with a phase, `Succeeded` or `Failed`; the Job follows.
    pub async fn end_job(&self, name: &str, phase: &str) {
        // By uid: Pods of an earlier Job of this name may still be there.
        let job = self.jobs().get(name).await.unwrap();
        let of_job = format!("batch.kubernetes.io/controller-uid={}", job.metadata.uid.unwrap());
        let of_job = ListParams::default().labels(&of_job);
        let pod = eventually(&format!("job {name} has a Pod"), LIMIT, async || {
            let list = self.pods().list(&of_job).await.map_err(|error| error.to_string())?;
            list.items.into_iter().next().ok_or_else(|| "none".to_owned())
        })
        .await;
        self.end_pod(pod.metadata.name.as_deref().unwrap(), phase).await;
    }

    /// Ends a Pod with a phase, `Succeeded` or `Failed`.
    pub async fn end_pod(&self, name: &str, phase: &str) {
        let status = Patch::Merge(json!({ "status": { "phase": phase } }));
        self.pods()
            .patch_status(name, &PatchParams::default(), &status)
            .await
            .unwrap();
    }

    /// Waits until the Job's own status says that it is over.
    pub async fn job_finished(&self, name: &str) {
        eventually(&format!("job {name} is over"), LIMIT, async || {
            let job = self.jobs().get(name).await.map_err(|error| error.to_string())?;
            let conditions = job.status.and_then(|status| status.conditions).unwrap_or_default();
            let over = |type_: &str| type_ == "Complete" || type_ == "Failed";
            match conditions.iter().any(|one| over(&one.type_) && one.status == "True") {
                true => Ok(()),
                false => Err(format!("{conditions:?}")),
            }
        })
        .await;
    }

    /// Deletes a Job with its Pods and waits until it is gone.
    pub async fn delete_job(&self, name: &str) {
        self.jobs().delete(name, &DeleteParams::background()).await.unwrap();
        self.job_gone(name).await;
    }

    /// Waits until there is no such Job.
    pub async fn job_gone(&self, name: &str) {
        eventually(&format!("job {name} is gone"), LIMIT, async || {
            match self.jobs().get_opt(name).await {
                Ok(None) => Ok(()),
                Ok(Some(job)) => Err(format!("{:?}", job.status)),
                Err(error) => Err(error.to_string()),
            }
        })
        .await;
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), self.namespace.name())
    }
}
