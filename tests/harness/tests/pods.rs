//! What the node agent keeps of a Pod's spec: its probes, its user, its file system.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use harness::control_plane::ControlPlane;
use harness::node_agent::listening;
use harness::wait::eventually;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, ListParams};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::node_agent::{LIMIT, TestEnvironment};

/// A web server on a Pod's address that answers as it is told; the test's own, so that nothing has to be told to a process.
struct Server {
    status: Arc<AtomicU16>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn start(address: Ipv4Addr) -> Self {
        let listener = TcpListener::bind((address, 8080)).await.unwrap();
        let status = Arc::new(AtomicU16::new(503));
        let answer = Arc::clone(&status);
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 1024]).await;
                let head = format!("HTTP/1.0 {} -\r\n\r\n", answer.load(Ordering::SeqCst));
                let _ = stream.write_all(head.as_bytes()).await;
            }
        });
        Self { status, task }
    }

    fn answers(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }
}

/// The only container's status of a Pod, and the address that the Pod's processes listen on.
async fn container(world: &TestEnvironment, pod: &str) -> Result<(ContainerStatus, Ipv4Addr), String> {
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), world.namespace.name());
    let pod = pods.get(pod).await.map_err(|error| error.to_string())?;
    let address = listening(&pod).ok_or("no address")?;
    let status = pod.status.unwrap_or_default();
    let container = status.container_statuses.unwrap_or_default().into_iter().next();
    Ok((container.ok_or("no container")?, address))
}

/// Waits until the container's status is as `holds` says.
async fn becomes(world: &TestEnvironment, pod: &str, what: &str, holds: impl Fn(&ContainerStatus) -> bool) -> Ipv4Addr {
    eventually(&format!("Pod {pod} {what}"), LIMIT, async || {
        let (status, address) = container(world, pod).await?;
        if holds(&status) {
            Ok(address)
        } else {
            Err(format!("{status:?}"))
        }
    })
    .await
}

fn is_running(status: &ContainerStatus) -> bool {
    status.state.as_ref().is_some_and(|state| state.running.is_some())
}

#[tokio::test]
async fn readiness_is_asked_for_and_decides_who_a_service_leads_to() {
    let world = TestEnvironment::start("ready").await;
    world
        .apply(
            "{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {selector: {app: web}, ports: [{port: 80, \
             targetPort: http}]}}\n---\n{apiVersion: v1, kind: Pod, metadata: {name: web, labels: {app: web}}, spec: \
             {containers: [{name: main, image: busybox, command: [sleep, '600'], ports: [{name: http, containerPort: \
             8080}], readinessProbe: {httpGet: {path: /, port: http}, periodSeconds: 1, failureThreshold: 1}}]}}",
        )
        .await;
    let slices: Api<EndpointSlice> = Api::namespaced(world.client.clone(), world.namespace.name());
    let led_to = async |expected: bool| {
        eventually(&format!("the endpoint's readiness is {expected}"), LIMIT, async || {
            let slices = slices
                .list(&ListParams::default())
                .await
                .map_err(|error| error.to_string())?;
            let endpoints: Vec<_> = slices.items.into_iter().flat_map(|slice| slice.endpoints).collect();
            let ready: Vec<_> = endpoints.iter().map(|one| one.conditions.as_ref()?.ready).collect();
            if ready == [Some(expected)] {
                Ok(())
            } else {
                Err(format!("{endpoints:?}"))
            }
        })
        .await;
    };
    let address = becomes(&world, "web", "runs", |status| is_running(status) && !status.ready).await;
    led_to(false).await;
    let server = Server::start(address).await;
    server.answers(200);
    becomes(&world, "web", "is ready", |status| status.ready).await;
    led_to(true).await;
    server.answers(500);
    becomes(&world, "web", "is ready no more", |status| {
        is_running(status) && !status.ready
    })
    .await;
    led_to(false).await;
}

#[tokio::test]
async fn a_container_that_does_not_start_or_does_not_live_is_started_again() {
    let world = TestEnvironment::start("alive").await;
    world
        .apply(
            "{apiVersion: v1, kind: Pod, metadata: {name: stuck}, spec: {terminationGracePeriodSeconds: 1, containers: \
             [{name: main, image: busybox, command: [sleep, '600'], startupProbe: {httpGet: {path: /, port: 8080}, \
             periodSeconds: 1, failureThreshold: 1, initialDelaySeconds: 1}, livenessProbe: {tcpSocket: {port: 8080}, \
             periodSeconds: 1, failureThreshold: 1}}]}}",
        )
        .await;
    fn restarts(number: i32) -> impl Fn(&ContainerStatus) -> bool {
        move |status| status.restart_count >= number && is_running(status)
    }
    let address = becomes(&world, "stuck", "is started again", restarts(1)).await;
    let server = Server::start(address).await;
    server.answers(204);
    becomes(&world, "stuck", "has started", |status| {
        status.started == Some(true) && status.ready
    })
    .await;
    let (before, _) = container(&world, "stuck").await.unwrap();
    drop(server);
    becomes(&world, "stuck", "is started again", restarts(before.restart_count + 1)).await;
}

#[tokio::test]
async fn why_a_container_failed_stands_in_its_status_and_in_its_log() {
    let world = TestEnvironment::start("message").await;
    world
        .apply(
            "{apiVersion: v1, kind: Pod, metadata: {name: fails}, spec: {containers: [{name: main, image: busybox, \
             command: [sh, -c, 'echo no database; exit 1'], terminationMessagePolicy: FallbackToLogsOnError}]}}",
        )
        .await;
    let logs = async || {
        let mut kubectl = ControlPlane::shared().await.kubectl().await.unwrap();
        kubectl.args(["--namespace", world.namespace.name(), "logs", "fails", "--tail=1"]);
        String::from_utf8(kubectl.output().await.unwrap().stdout).unwrap()
    };
    becomes(&world, "fails", "waits with its last words", |status| {
        let last = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
        let waiting = status.state.as_ref().and_then(|state| state.waiting.as_ref());
        waiting.is_some_and(|waiting| waiting.reason.as_deref() == Some("CrashLoopBackOff"))
            && last.is_some_and(|last| last.exit_code == 1 && last.message.as_deref() == Some("no database\n"))
    })
    .await;
    assert_eq!(logs().await, "no database\n");
}

#[tokio::test]
async fn a_container_has_its_user_and_a_root_that_it_cannot_write_to() {
    let world = TestEnvironment::start("user").await;
    // Without root there is no other user to be.
    let (user, group, more) = match nix::unistd::Uid::effective().is_root() {
        true => ("65532", "65531", "65531 65530"),
        false => ("0", "0", "0"),
    };
    let script = format!(
        r#"
              test "$(id -u) $(id -g)" = "{user} {group}"
              test "$(id -G)" = "{more}"
              grep -q 'NoNewPrivs:.*1' /proc/self/status
              grep -q 'CapBnd:.*0000000000000000' /proc/self/status
              grep -q 'CapEff:.*0000000000000000' /proc/self/status
              test "$(cat /secret/key)" = value
              test "$(stat -Lc %a /secret/key)" = 440
              echo kept > /data/file
              for folder in / /tmp /var/tmp /run; do ! touch $folder/file; done"#
    );
    world
        .apply(&format!(
            r#"
apiVersion: v1
kind: Secret
metadata: {{name: secret}}
stringData: {{key: value}}
---
apiVersion: batch/v1
kind: Job
metadata: {{name: restricted}}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      securityContext: {{runAsNonRoot: true, runAsUser: 65532, runAsGroup: 65531, fsGroup: 65530}}
      containers:
        - name: main
          image: busybox
          command: [sh, -euxc]
          args:
            - |{script}
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities: {{drop: [ALL]}}
          volumeMounts:
            - {{name: data, mountPath: /data}}
            - {{name: secret, mountPath: /secret}}
      volumes:
        - {{name: data, emptyDir: {{}}}}
        - {{name: secret, secret: {{secretName: secret, defaultMode: 288}}}}
"#
        ))
        .await;
    world.job_succeeds("restricted", true).await;
}

#[tokio::test]
async fn a_pod_s_token_is_replaced_while_it_runs() {
    let world = TestEnvironment::start_renewing("token", Duration::from_secs(1)).await;
    world
        .apply(
            r#"
apiVersion: batch/v1
kind: Job
metadata: {name: renewed}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers:
        - name: main
          image: busybox
          command: [sh, -euc]
          args:
            - |
              token=/var/run/secrets/kubernetes.io/serviceaccount/token
              first=$(cat $token)
              while [ "$(cat $token)" = "$first" ]; do sleep 0.1; done
              test -n "$(cat $token)"
"#,
        )
        .await;
    world.job_succeeds("renewed", true).await;
}
