//! The node agent: Jobs and Pods as real processes, their ends seen by the real controllers.

use std::time::Duration;

use harness::control_plane::ControlPlane;
use harness::namespace::Namespace;
use harness::node_agent::{Images, NodeAgent};
use harness::objects;
use harness::wait::eventually;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams};

pub const LIMIT: Duration = Duration::from_secs(60);

/// A namespace with a node of its own.
pub struct TestEnvironment {
    pub client: kube::Client,
    pub namespace: Namespace,
    agent: NodeAgent,
}

impl TestEnvironment {
    pub async fn start(prefix: &str) -> Self {
        Self::start_renewing(prefix, Duration::MAX).await
    }

    /// With tokens that are replaced after this time.
    pub async fn start_renewing(prefix: &str, token_age: Duration) -> Self {
        let cluster = ControlPlane::shared().await;
        let client = cluster.client().await.unwrap();
        let namespace = Namespace::create(&client, prefix).await.unwrap();
        let images = Images::usual().await.unwrap();
        let agent = NodeAgent::start_renewing(cluster, Some(namespace.name()), images, token_age)
            .await
            .unwrap();
        Self {
            client,
            namespace,
            agent,
        }
    }

    pub async fn apply(&self, yaml: &str) {
        objects::apply(&self.client, self.namespace.name(), yaml).await.unwrap();
    }

    /// Waits for the Job's end and says whether it succeeded; its Pods' output is the test's when it does not end so.
    pub async fn job_succeeds(&self, name: &str, expected: bool) {
        let jobs: Api<Job> = Api::namespaced(self.client.clone(), self.namespace.name());
        let wanted = if expected { "Complete" } else { "Failed" };
        eventually(&format!("Job {name} is {wanted}"), LIMIT, async || {
            let status = jobs
                .get(name)
                .await
                .map_err(|error| error.to_string())?
                .status
                .unwrap_or_default();
            let conditions = status.conditions.clone().unwrap_or_default();
            match conditions
                .iter()
                .find(|one| one.type_ == wanted && one.status == "True")
            {
                Some(_) => Ok(()),
                None => Err(format!("{status:?} {}", self.output(name).await)),
            }
        })
        .await;
    }

    /// What all Pods of a Job have printed.
    async fn output(&self, job: &str) -> String {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), self.namespace.name());
        let mine = ListParams::default().labels(&format!("job-name={job}"));
        let mut text = String::new();
        for pod in pods.list(&mine).await.unwrap().items {
            text += &self.agent.logs(self.namespace.name(), &pod.metadata.name.unwrap());
        }
        text
    }

    async fn waiting_reason(&self, pod: &str) -> Result<String, String> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), self.namespace.name());
        let status = pods
            .get(pod)
            .await
            .map_err(|error| error.to_string())?
            .status
            .unwrap_or_default();
        let containers = status.container_statuses.unwrap_or_default();
        let waiting = containers.into_iter().find_map(|one| one.state?.waiting?.reason);
        waiting.ok_or_else(|| "no container waits".to_owned())
    }
}

#[tokio::test]
async fn a_job_succeeds_with_init_containers_secrets_and_its_own_token() {
    let world = TestEnvironment::start("job").await;
    world
        .apply(
            r#"
apiVersion: v1
kind: Secret
metadata: {name: credentials}
stringData: {password: s3cret, user: me}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: green}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}
subjects: [{kind: ServiceAccount, name: default}]
---
apiVersion: batch/v1
kind: Job
metadata: {name: works}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      initContainers:
        - name: ask
          image: registry.k8s.io/kubectl:v1.37.2
          args: [get, configmap, settings, --output=name]
        - name: prepare
          image: busybox
          command: [sh, -c, 'echo "$PASSWORD" > /shared/password']
          env: [{name: PASSWORD, valueFrom: {secretKeyRef: {name: credentials, key: password}}}]
          volumeMounts: [{name: shared, mountPath: /shared}]
      containers:
        - name: main
          image: busybox:1.37
          command: [sh, -euxc]
          args:
            - |
              test "$(cat /shared/password)" = s3cret
              test "$(cat /etc/credentials/user)" = me
              test "$COLOUR" = green
              test "$GREETING" = "hello $(POD)"
              test "$(cat /var/run/secrets/kubernetes.io/serviceaccount/namespace)" = "$NAMESPACE"
              test -s /var/run/secrets/kubernetes.io/serviceaccount/token
              grep -q BEGIN /run/secrets/kubernetes.io/serviceaccount/ca.crt
              test -n "$KUBERNETES_SERVICE_PORT"
          env:
            - {name: COLOUR, valueFrom: {configMapKeyRef: {name: settings, key: colour}}}
            - {name: NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
            - {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
            - {name: GREETING, value: "hello $(POD)"}
          volumeMounts:
            - {name: shared, mountPath: /shared}
            - {name: credentials, mountPath: /etc/credentials}
      volumes:
        - {name: shared, emptyDir: {}}
        - {name: credentials, secret: {secretName: credentials}}
"#,
        )
        .await;
    world.job_succeeds("works", true).await;
    assert!(
        !std::path::Path::new("/shared").exists(),
        "a container's folder must not be left on the machine"
    );
    assert!(world.output("works").await.contains("configmap/settings"));
}

#[tokio::test]
async fn a_job_whose_process_fails_fails() {
    let world = TestEnvironment::start("failing").await;
    world
        .apply(
            "{apiVersion: batch/v1, kind: Job, metadata: {name: fails}, spec: {backoffLimit: 0, template: {spec: \
             {restartPolicy: Never, containers: [{name: main, image: busybox, command: [sh, -c, 'exit 3']}]}}}}",
        )
        .await;
    world.job_succeeds("fails", false).await;
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), world.namespace.name());
    let pod = pods.list(&ListParams::default()).await.unwrap().items.remove(0);
    let container = pod.status.unwrap().container_statuses.unwrap().remove(0);
    assert_eq!(container.state.unwrap().terminated.unwrap().exit_code, 3);
}

#[tokio::test]
async fn a_sidecar_runs_beside_the_work_and_is_stopped_when_that_has_ended() {
    let world = TestEnvironment::start("sidecar").await;
    world
        .apply(
            "{apiVersion: batch/v1, kind: Job, metadata: {name: beside}, spec: {backoffLimit: 0, template: {spec: \
             {restartPolicy: Never, volumes: [{name: shared, emptyDir: {}}], initContainers: [{name: helper, image: \
             busybox, restartPolicy: Always, command: [sh, -c, 'touch /shared/mark; sleep 600'], volumeMounts: [{name: \
             shared, mountPath: /shared}]}], containers: [{name: main, image: busybox, command: [sh, -c, 'until test \
             -e /shared/mark; do sleep 0.1; done'], volumeMounts: [{name: shared, mountPath: /shared}]}]}}}}",
        )
        .await;
    world.job_succeeds("beside", true).await;
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), world.namespace.name());
    let status = pods
        .list(&ListParams::default())
        .await
        .unwrap()
        .items
        .remove(0)
        .status
        .unwrap();
    let helper = status.init_container_statuses.unwrap().remove(0);
    assert_eq!(helper.name, "helper");
    assert!(helper.state.unwrap().terminated.is_some(), "the sidecar was stopped");
    assert_eq!(status.container_statuses.unwrap().len(), 1);
}

#[tokio::test]
async fn a_failed_container_is_started_again_on_failure() {
    let world = TestEnvironment::start("restart").await;
    world
        .apply(
            "{apiVersion: batch/v1, kind: Job, metadata: {name: again}, spec: {template: {spec: {restartPolicy: \
             OnFailure, volumes: [{name: kept, emptyDir: {}}], containers: [{name: main, image: busybox, command: [sh, \
             -c, 'test -e /kept/mark || { touch /kept/mark; exit 1; }'], volumeMounts: [{name: kept, mountPath: \
             /kept}]}]}}}}",
        )
        .await;
    world.job_succeeds("again", true).await;
}

#[tokio::test]
async fn an_unknown_image_and_a_missing_secret_are_waited_for_visibly() {
    let world = TestEnvironment::start("waiting").await;
    world
        .apply(
            "{apiVersion: v1, kind: Pod, metadata: {name: unknown}, spec: {containers: [{name: main, image: \
             nowhere.example/none:1}]}}\n---\n{apiVersion: v1, kind: Pod, metadata: {name: lacking}, spec: \
             {restartPolicy: Never, containers: [{name: main, image: busybox, command: ['true'], envFrom: [{secretRef: \
             {name: later}}]}]}}",
        )
        .await;
    for (pod, reason) in [
        ("unknown", "ImagePullBackOff"),
        ("lacking", "CreateContainerConfigError"),
    ] {
        eventually(&format!("Pod {pod} waits with {reason}"), LIMIT, async || {
            match world.waiting_reason(pod).await? {
                found if found == reason => Ok(()),
                found => Err(found),
            }
        })
        .await;
    }
    world
        .apply("{apiVersion: v1, kind: Secret, metadata: {name: later}, stringData: {key: value}}")
        .await;
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), world.namespace.name());
    eventually("the Pod has succeeded", LIMIT, async || {
        let status = pods
            .get("lacking")
            .await
            .map_err(|error| error.to_string())?
            .status
            .unwrap_or_default();
        if status.phase.as_deref() == Some("Succeeded") {
            Ok(())
        } else {
            Err(format!("{status:?}"))
        }
    })
    .await;
}

#[tokio::test]
async fn a_deleted_pod_gets_sigterm_and_time_to_end() {
    let world = TestEnvironment::start("deleted").await;
    world
        .apply(
            "{apiVersion: v1, kind: Pod, metadata: {name: polite}, spec: {containers: [{name: main, image: busybox, \
             command: [sh, -c, \"trap 'echo ending; exit 0' TERM; echo started; while :; do sleep 0.05; done\"]}]}}",
        )
        .await;
    let output = || world.agent.logs(world.namespace.name(), "polite");
    let printed = async |word: &str| {
        eventually(&format!("it has printed {word}"), LIMIT, async || {
            let text = output();
            if text.contains(word) { Ok(()) } else { Err(text) }
        })
        .await;
    };
    printed("started").await;
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), world.namespace.name());
    pods.delete("polite", &DeleteParams::default()).await.unwrap();
    printed("ending").await;
    eventually("the Pod is gone", LIMIT, async || match pods.get_opt("polite").await {
        Ok(None) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}
