//! Traces of a real run, as a collector gets them.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use environment_operator::api::LeasePhase;
use harness::operator::Operator;
use harness::wait::eventually;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Span};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::support::{GRACE, LIMIT, TestEnvironment, lease};

/// What a collector has received.
#[derive(Clone, Default)]
struct Received(Arc<Mutex<Vec<ResourceSpans>>>);

#[tonic::async_trait]
impl TraceService for Received {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.lock().extend(request.into_inner().resource_spans);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Received {
    fn spans(&self) -> Vec<Span> {
        let received = self.0.lock();
        let scopes = received.iter().flat_map(|resource| &resource.scope_spans);
        scopes.flat_map(|scope| scope.spans.clone()).collect()
    }
}

/// A collector on a free port, and what it receives.
async fn collector() -> (u16, Received) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let received = Received::default();
    let service = TraceServiceServer::new(received.clone());
    let serving = Server::builder().add_service(service);
    tokio::spawn(serving.serve_with_incoming(TcpIncoming::from(listener)));
    (port, received)
}

/// An operator that sends its traces there, twice a second.
async fn start(world: &TestEnvironment<'_>, port: u16) -> Operator {
    let operator = world
        .operator()
        .arg(format!("--otlp-endpoint=http://127.0.0.1:{port}"))
        .env("OTEL_BSP_SCHEDULE_DELAY", "500")
        .arg("--sweep-interval=1s")
        .start()
        .unwrap();
    operator.wait_ready().await;
    operator
}

fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        any_value::Value::StringValue(text) => Some(text.clone()),
        other => panic!("{key} is {other:?}"),
    }
}

#[tokio::test]
async fn reconciles_transactions_sweeps_and_requests_reach_a_collector_the_last_of_them_at_the_stop() {
    let world = TestEnvironment::new("traces").await;
    let (port, received) = collector().await;
    let mut operator = start(&world, port).await;
    world.granted(lease("traced")).await;
    eventually("a sweep was sent", LIMIT, async || {
        let sweeps = received.spans().iter().filter(|span| span.name == "sweep").count();
        if sweeps > 0 { Ok(()) } else { Err(sweeps) }
    })
    .await;
    world.release("traced").await;
    world.lease_in("traced", LeasePhase::Released).await;
    assert!(operator.stop(GRACE).await.unwrap().success());

    let spans = received.spans();
    let named = |name: &str| {
        spans
            .iter()
            .filter(|span| span.name == name)
            .cloned()
            .collect::<Vec<_>>()
    };
    let reconciles = named("reconcile");
    assert!(reconciles.iter().any(|span| {
        let of = |key| text(&span.attributes, key);
        of("kind").as_deref() == Some("EnvironmentLease") && of("result").as_deref() == Some("ok")
    }));
    // A batch is in a trace of its own, linked with each reconcile that waited for it.
    let ids: HashSet<&[u8]> = reconciles.iter().map(|span| span.span_id.as_slice()).collect();
    for statement in ["grant", "end"] {
        let batches = named(statement);
        let links = batches.iter().flat_map(|batch| &batch.links);
        let linked = links.filter(|link| ids.contains(link.span_id.as_slice())).count();
        assert!(linked > 0, "{statement}: {batches:?}");
    }
    // The client's own span of a request is inside of the reconcile that made it.
    let inside = spans.iter().filter(|span| ids.contains(span.parent_span_id.as_slice()));
    assert!(inside.count() > 0);

    let received = received.0.lock();
    for resource in received.iter() {
        let attributes = &resource.resource.as_ref().unwrap().attributes;
        for (key, expected) in [
            ("service.name", "environment-operator"),
            ("service.version", env!("CARGO_PKG_VERSION")),
            ("service.instance.id", "unknown-host"),
            ("k8s.cluster.uid", world.namespace.name()),
            ("environment_operator.installation", "default"),
        ] {
            assert_eq!(text(attributes, key).as_deref(), Some(expected), "{key}");
        }
    }
}

#[tokio::test]
async fn a_collector_that_is_away_holds_up_nothing_and_is_warned_of_once() {
    let world = TestEnvironment::new("traces-away").await;
    // Somebody listens there and never speaks: worse than a port that refuses.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let mut deaf = start(&world, silent.local_addr().unwrap().port()).await;
    world.granted(lease("first")).await;
    world.release("first").await;
    world.lease_in("first", LeasePhase::Released).await;
    let warnings = |operator: &Operator| operator.log().matches("spans cannot be sent to the collector").count();
    eventually("the log warns", LIMIT, async || match warnings(&deaf) {
        0 => Err("not yet"),
        _ => Ok(()),
    })
    .await;
    assert!(deaf.stop(GRACE).await.unwrap().success(), "the stop waits for nobody");
    assert_eq!(warnings(&deaf), 1);
}
