//! Jobs as runs. The real Job controller makes and counts their Pods; what a kubelet would write, the test writes: a Pod's
//! status. (A Job's own status cannot be written by hand, for the controller writes it again.)

use harness::wait::eventually;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::{LIMIT, TestEnvironment};

impl TestEnvironment<'_> {
    /// The Jobs of the namespace.
    pub fn jobs(&self) -> Api<Job> {
        Api::namespaced(self.client.clone(), self.namespace.name())
    }

    /// Makes a Job that fails with its first Pod; `more` goes into its spec.
    pub async fn job(&self, name: &str, more: Value) -> Job {
        self.make_job(name, more, json!({})).await
    }

    /// Makes a Job whose Pods are on a node: one that is deleted has to be let go, as by its kubelet.
    pub async fn job_on_node(&self, name: &str, more: Value) -> Job {
        self.make_job(name, more, json!({ "nodeName": "by-hand" })).await
    }

    async fn make_job(&self, name: &str, more: Value, more_of_pod: Value) -> Job {
        let mut pod = json!({
            "restartPolicy": "Never",
            // No node takes it, in any test: its status is the test's own.
            "schedulerName": "by-hand",
            "containers": [{ "name": "run", "image": "run" }],
        });
        let mut spec = json!({ "backoffLimit": 0 });
        for (target, more) in [(&mut pod, more_of_pod), (&mut spec, more)] {
            for (key, value) in more.as_object().unwrap() {
                target[key] = value.clone();
            }
        }
        spec["template"] = json!({ "spec": pod });
        let job = serde_json::from_value(json!({ "metadata": { "name": name }, "spec": spec })).unwrap();
        self.jobs().create(&PostParams::default(), &job).await.unwrap()
    }

    /// Ends a Pod of the Job with a phase, `Succeeded` or `Failed`; the Job follows.
    pub async fn end_job(&self, name: &str, phase: &str) {
        self.end_job_with(name, json!({ "phase": phase })).await;
    }

    /// Ends a Pod of the Job with a status.
    pub async fn end_job_with(&self, name: &str, status: Value) {
        let pod = self.live_pod_of_job(name).await;
        self.set_pod_status(&pod, status).await;
    }

    /// The name of a Pod of the Job that is not over; waits for one.
    pub async fn live_pod_of_job(&self, name: &str) -> String {
        // By uid: Pods of an earlier Job of this name may still be there.
        let job = self.jobs().get(name).await.unwrap();
        let of_job = format!("batch.kubernetes.io/controller-uid={}", job.metadata.uid.unwrap());
        let of_job = ListParams::default().labels(&of_job);
        let live = |pod: &Pod| {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            pod.metadata.deletion_timestamp.is_none() && !matches!(phase, Some("Succeeded" | "Failed"))
        };
        eventually(&format!("job {name} has a live Pod"), LIMIT, async || {
            let list = self.pods().list(&of_job).await.map_err(|error| error.to_string())?;
            let mut pods = list.items.into_iter();
            pods.find(live).map(|pod| pod.name_any()).ok_or("none".to_owned())
        })
        .await
    }

    /// Writes a Pod's status, as its kubelet would.
    pub async fn set_pod_status(&self, name: &str, status: Value) {
        let status = Patch::Merge(json!({ "status": status }));
        self.pods()
            .patch_status(name, &PatchParams::default(), &status)
            .await
            .unwrap();
    }

    /// Lets Pods that are being deleted go, as their kubelets do when everything in them has ended.
    pub async fn remove_terminating_pods(&self) {
        let pods = self.pods().list(&ListParams::default()).await.unwrap().items;
        for pod in pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_some()) {
            match self
                .pods()
                .delete(&pod.name_any(), &DeleteParams::default().grace_period(0))
                .await
            {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Waits until a container of the Pod was restarted and is ready.
    pub async fn pod_is_ready_after_restart(&self, name: &str) {
        eventually(&format!("pod {name} is ready after a restart"), LIMIT, async || {
            let pod = self.pods().get(name).await.map_err(|error| error.to_string())?;
            let containers = pod
                .status
                .and_then(|status| status.container_statuses)
                .unwrap_or_default();
            match containers.iter().any(|one| one.ready && one.restart_count > 0) {
                true => Ok(()),
                false => Err(format!("{containers:?}")),
            }
        })
        .await;
    }

    /// Waits until the Job's own status has this condition.
    pub async fn job_condition(&self, name: &str, type_: &str) {
        self.job_that(name, |condition| condition == type_).await;
    }

    /// Waits until the Job's own status says that it is over.
    pub async fn job_finished(&self, name: &str) {
        self.job_that(name, |condition| condition == "Complete" || condition == "Failed")
            .await;
    }

    /// Waits until one of the Job's conditions that are True is of such a type.
    async fn job_that(&self, name: &str, is: impl Fn(&str) -> bool) {
        eventually(&format!("job {name} says so"), LIMIT, async || {
            let job = self.jobs().get(name).await.map_err(|error| error.to_string())?;
            let conditions = job.status.and_then(|status| status.conditions).unwrap_or_default();
            match conditions.iter().any(|one| is(&one.type_) && one.status == "True") {
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

    /// Makes a Pod; `more` goes into its spec. No node takes it by itself: its status is the test's own.
    pub async fn pod(&self, name: &str, more: Value) {
        let mut spec = json!({ "schedulerName": "by-hand", "containers": [{ "name": "run", "image": "run" }] });
        for (key, value) in more.as_object().unwrap() {
            spec[key] = value.clone();
        }
        let pod: Pod = serde_json::from_value(json!({ "metadata": { "name": name }, "spec": spec })).unwrap();
        self.pods().create(&PostParams::default(), &pod).await.unwrap();
    }

    /// The Pods of the namespace.
    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), self.namespace.name())
    }
}
