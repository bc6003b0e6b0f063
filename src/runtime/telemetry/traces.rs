//! Traces over OTLP, where `--otlp-endpoint` names a collector: reconciles, transactions, sweeps and the requests to the API
//! server as spans.
//!
//! They are best effort. Spans wait in a queue of bounded length for a thread of their own, which sends them; with the
//! collector away nothing waits for it, and what does not fit is lost. Without an endpoint there is no layer, and a span costs
//! one check of a flag.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{ExporterBuildError, WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, SpanData, SpanExporter};
use tracing::level_filters::LevelFilter;
use tracing_opentelemetry::OpenTelemetryLayer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::{Layer, Registry, reload};

use crate::runtime::NAME;

/// How long a collector may take for a batch of spans.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// The layer, once it is known who the traces are of.
type Exported = Option<OpenTelemetryLayer<Registry, SdkTracer>>;

/// Traces that are not sent anywhere yet: what they tell of the process contains the cluster's name, which has to be asked for.
pub struct Traces(reload::Handle<Exported, Registry>);

/// Traces that are sent.
#[derive(Debug)]
pub struct Exporting(SdkTracerProvider);

/// Who the traces are of.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The cluster, by the name that it has in the database.
    pub cluster: &'a str,
    /// The installation in it.
    pub installation: &'a str,
    /// The replica.
    pub instance: &'a str,
}

/// A layer that drops everything until [`Traces::export`].
pub(super) fn layer() -> (impl Layer<Registry> + Send + Sync, Traces) {
    let (layer, handle) = reload::Layer::new(None);
    // The client's own spans tell of each request.
    let spans = Targets::new()
        .with_target("environment_operator", LevelFilter::INFO)
        .with_target("kube_client::client::builder", LevelFilter::DEBUG);
    (layer.with_filter(spans), Traces(handle))
}

impl Traces {
    /// Sends the traces to `endpoint` from here on. Must be called inside of the runtime that is to carry the connection;
    /// connects to nobody yet.
    ///
    /// # Errors
    /// Where the address cannot be used.
    pub fn export(self, endpoint: &str, origin: Origin<'_>) -> Result<Exporting, ExporterBuildError> {
        let mut exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .with_timeout(EXPORT_TIMEOUT);
        if endpoint.starts_with("https:") {
            // Left to itself it would trust nobody.
            exporter = exporter.with_tls_config(ClientTlsConfig::new().with_enabled_roots());
        }
        let exporter = exporter.build()?;
        let attributes = [
            ("service.version", env!("CARGO_PKG_VERSION")),
            ("service.instance.id", origin.instance),
            ("k8s.cluster.uid", origin.cluster),
            ("environment_operator.installation", origin.installation),
        ];
        let resource = Resource::builder()
            .with_service_name(NAME)
            .with_attributes(attributes.map(|(key, value)| KeyValue::new(key, value.to_owned())))
            .build();
        let exporter = Outspoken {
            inner: exporter,
            failing: AtomicBool::new(false),
        };
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource)
            .build();
        let layer = OpenTelemetryLayer::new(provider.tracer(NAME)).with_threads(false);
        if let Err(error) = self.0.reload(Some(layer)) {
            tracing::warn!(%error, "traces are not sent");
        }
        Ok(Exporting(provider))
    }
}

impl Exporting {
    /// Sends what still waits, for so long at most.
    pub async fn finish(self, limit: Duration) {
        // The call waits for the sending thread, which needs this runtime for its connection.
        let sent = tokio::task::spawn_blocking(move || self.0.shutdown_with_timeout(limit));
        match tokio::time::timeout(limit, sent).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::debug!(%error, "the last spans were not sent"),
            Ok(Err(_)) | Err(_) => tracing::debug!("the last spans were not sent in time"),
        }
    }
}

/// An exporter that says once that it cannot send, and once that it can again.
#[derive(Debug)]
struct Outspoken<E> {
    inner: E,
    failing: AtomicBool,
}

impl<E: SpanExporter> SpanExporter for Outspoken<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let outcome = self.inner.export(batch).await;
        let failed_before = self.failing.swap(outcome.is_err(), Ordering::Relaxed);
        match &outcome {
            Err(error) if !failed_before => {
                tracing::warn!(%error, "spans cannot be sent to the collector and are lost")
            }
            Ok(()) if failed_before => tracing::info!("spans are sent to the collector again"),
            Ok(()) | Err(_) => {}
        }
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}
