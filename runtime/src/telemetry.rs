//! Log lines and traces of the node.
//!
//! Everything that is done for one association, request or file runs in a span with its `correlation`, which is also in
//! the journal and in the audit log: log lines (as JSON when the site asks for it) and traces are found by it.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use tracing::{Span, Subscriber};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use crate::config::{LogConfig, LogFormat, TelemetryConfig};
use crate::ingest::Arrival;

/// Telemetry cannot start: the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter.
    #[error("log.level: {0}")]
    Level(String),
    /// The exporter.
    #[error("telemetry.otlp_endpoint: {0}")]
    Endpoint(String),
}

/// Traces that are on their way. Stop it before the process ends, outside the runtime's own threads.
#[derive(Debug)]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Sends what waits, for as long as `telemetry.otlp_timeout_ms` lets it.
    pub fn stop(self) {
        if let Some(Err(e)) = self.provider.map(|p| p.shutdown()) {
            tracing::warn!("the last traces did not reach telemetry.otlp_endpoint: {e}");
        }
    }
}

/// What takes log lines and spans, and the traces behind it. `runtime` sends the traces.
///
/// # Errors
/// What the configuration says cannot be used.
pub fn subscriber<W>(
    log: &LogConfig,
    telemetry: &TelemetryConfig,
    runtime: &tokio::runtime::Handle,
    writer: W,
) -> Result<(impl Subscriber + Send + Sync + 'static, Telemetry), TelemetryError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let directives = std::env::var(EnvFilter::DEFAULT_ENV).ok().filter(|set| !set.is_empty());
    let directives = directives.unwrap_or_else(|| log.directives());
    let filter = EnvFilter::builder().parse(directives).map_err(|e| TelemetryError::Level(e.to_string()))?;
    // Colours are for people at a terminal: in a journal or a file they are noise.
    let lines = tracing_subscriber::fmt::layer().with_ansi(std::io::stderr().is_terminal()).with_writer(writer);
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match log.format {
        LogFormat::Text => lines.with_filter(filter).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_filter(filter).boxed(),
    };
    let provider = telemetry.otlp_endpoint.as_ref().map(|url| provider(url, telemetry, runtime)).transpose()?;
    let traces = provider.as_ref().map(|provider| {
        // Our own spans only: what libraries trace is not ours to hand on.
        let ours = EnvFilter::new("gantry=info");
        tracing_opentelemetry::layer().with_tracer(provider.tracer("gantry")).with_filter(ours)
    });
    Ok((Registry::default().with(lines).with(traces), Telemetry { provider }))
}

fn provider(
    url: &str,
    config: &TelemetryConfig,
    runtime: &tokio::runtime::Handle,
) -> Result<SdkTracerProvider, TelemetryError> {
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_endpoint(url)
        .with_timeout(Duration::from_millis(config.otlp_timeout_ms))
        .build()
        .map_err(|e| TelemetryError::Endpoint(e.to_string()))?;
    let exporter = OnRuntime { exporter: Arc::new(exporter), runtime: runtime.clone() };
    let resource = Resource::builder().with_service_name("gantry").build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}

/// The batch processor has a thread of its own, on which the HTTP client finds no reactor: it sends on the runtime's.
#[derive(Debug)]
struct OnRuntime {
    exporter: Arc<opentelemetry_otlp::SpanExporter>,
    runtime: tokio::runtime::Handle,
}

impl SpanExporter for OnRuntime {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let exporter = self.exporter.clone();
        let sent = self.runtime.spawn(async move { exporter.export(batch).await });
        sent.await.map_err(|e| OTelSdkError::InternalFailure(e.to_string()))?
    }
}

/// The span of one association, request or file.
#[must_use]
pub fn arrival(arrival: &Arrival) -> Span {
    tracing::info_span!("arrival", correlation = arrival.correlation, via = arrival.via.name(), source = arrival.source)
}

/// The span of a module's work on a study, tied to what brought the study.
#[must_use]
pub fn job(correlation: &str, module: &str) -> Span {
    tracing::info_span!("job", correlation, module)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::sync::Mutex;

    use super::*;
    use crate::ingest::Via;

    /// Log lines end here.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("nothing panics while it is held").write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_of_json_has_the_correlation() {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let lines = Lines::default();
        let log = LogConfig { format: LogFormat::Json, ..LogConfig::default() };
        let writer = lines.clone();
        let (subscriber, _) =
            subscriber(&log, &TelemetryConfig::default(), runtime.handle(), move || writer.clone()).expect("started");
        let arrival = Arrival::new(Via::Dimse, "CT1");
        tracing::subscriber::with_default(subscriber, || {
            let _span = super::arrival(&arrival).entered();
            tracing::info!(instances = 3, "taken in");
        });
        let bytes = lines.0.lock().expect("whole").clone();
        let line: serde_json::Value = serde_json::from_slice(&bytes).expect("one line of JSON");
        assert_eq!(line["message"], "taken in");
        assert_eq!(line["instances"], 3);
        assert_eq!(line["span"]["correlation"], arrival.correlation.as_str());
    }

    /// One request, as bytes; answered with 200.
    fn collect(listener: &std::net::TcpListener) -> Vec<u8> {
        let (mut stream, _) = listener.accept().expect("a connection");
        let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
        loop {
            let read = stream.read(&mut piece).expect("bytes");
            bytes.extend_from_slice(&piece[..read]);
            let text = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
            let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").map(|p| p + 4);
            let length = text.lines().find_map(|l| l.strip_prefix("content-length: ")?.trim().parse::<usize>().ok());
            if let (Some(end), Some(length)) = (end, length)
                && bytes.len() >= end + length
            {
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                    .expect("answered");
                return bytes;
            }
            assert!(read > 0, "the request was cut off");
        }
    }

    #[test]
    fn traces_reach_the_collector_with_the_correlation() {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/v1/traces", listener.local_addr().expect("an address"));
        let collector = std::thread::spawn(move || collect(&listener));
        let config = TelemetryConfig { otlp_endpoint: Some(url), ..TelemetryConfig::default() };
        let (subscriber, telemetry) =
            subscriber(&LogConfig::default(), &config, runtime.handle(), std::io::sink).expect("started");
        let arrival = Arrival::new(Via::Stow, "token");
        tracing::subscriber::with_default(subscriber, || drop(super::arrival(&arrival).entered()));
        telemetry.stop();
        let request = collector.join().expect("a request");
        let holds = |text: &str| request.windows(text.len()).any(|w| w == text.as_bytes());
        assert!(holds("POST /v1/traces") && holds("application/x-protobuf"));
        assert!(holds("arrival") && holds(&arrival.correlation));
    }
}
