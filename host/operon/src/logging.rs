//! The log of the host, on standard error: its own lines in the format of `--log-format`, and those of the audit log,
//! which are always JSON. One filter, `--log`, decides about both.

use std::io;

use anyhow::Context;
use clap::ValueEnum;
use operon_controllers::effects::AUDIT;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::{
    EnvFilter, Layer as _,
    filter::filter_fn,
    fmt::{self, MakeWriter},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    /// One JSON object per line
    Json,
    /// Plain text
    Text,
}

/// Starts the log of this process.
///
/// # Errors
/// `--log` can't be read.
pub(crate) fn start(log: &str, format: LogFormat) -> anyhow::Result<()> {
    subscriber(log, format, io::stderr)?.init();
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        let said = panic.payload_as_str();
        tracing::error!(
            place,
            said,
            "Operon panicked: this is a bug in Operon, please report it"
        );
    }));
    Ok(())
}

/// What writes the lines that `log` lets through.
fn subscriber<W>(
    log: &str,
    format: LogFormat,
    writer: W,
) -> anyhow::Result<impl Subscriber + Send + Sync + 'static>
where
    W: for<'w> MakeWriter<'w> + Clone + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(directives(log))
        .with_context(|| format!("failed to read --log {log:?}"))?;
    let audit = fmt::layer()
        .json()
        .flatten_event(true)
        .with_writer(writer.clone())
        .with_filter(filter_fn(is_audit));
    let lines = fmt::layer().with_writer(writer);
    let lines = match format {
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
        LogFormat::Text => lines.with_target(false).boxed(),
    };
    let lines = lines.with_filter(filter_fn(|line| !is_audit(line)));
    Ok(tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .with(audit))
}

fn is_audit(line: &Metadata<'_>) -> bool {
    line.target() == AUDIT
}

/// The log level of the Kubernetes client, unless `--log` sets it: while the API server is unavailable, the
/// client logs each failed request at ERROR, without a name. The host's own lines report the consequences,
/// once.
const CLIENT: &str =
    "kube_client::client=off,kube_client::client::tls=warn,kube_runtime::watcher=error";

/// The directives of `--log`, after ours for the client and for the audit log. A `--log` that names the client, or sets
/// the level debug for everything, gets all of the client's lines. Only one that names the audit log changes that.
fn directives(log: &str) -> String {
    let is_verbose = |part: &str| {
        let level = part.trim().to_ascii_lowercase();
        ["debug", "trace"].contains(&level.as_str())
    };
    if log.contains("kube") || log.split(',').any(is_verbose) {
        return format!("{AUDIT}=info,{log}");
    }
    format!("{AUDIT}=info,{CLIENT},{log}")
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, PoisonError};

    use serde_json::Value;

    use super::*;

    #[test]
    fn the_clients_own_lines_are_logged_only_to_whoever_asks_for_them() {
        for log in ["info", "warn,operon_controllers=debug"] {
            assert_eq!(directives(log), format!("{AUDIT}=info,{CLIENT},{log}"));
        }
        for log in [
            "debug",
            "TRACE",
            "info,kube_client=info",
            "operon=info, debug",
        ] {
            assert_eq!(directives(log), format!("{AUDIT}=info,{log}"));
        }
        assert!(EnvFilter::try_new(directives("info")).is_ok());
    }

    /// What was written.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            written.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The lines of a log with one of its own and one of the audit log.
    fn lines(log: &str, format: LogFormat) -> Vec<String> {
        let written = Written::default();
        let writer = written.clone();
        let subscriber = subscriber(log, format, move || writer.clone()).expect("directives");
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(job = "restart", "its own");
            tracing::info!(target: AUDIT, verb = "patch", "effect");
        });
        let bytes = written.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn the_audit_log_is_json_in_every_format_and_only_its_own_directive_switches_it_off() {
        for (log, format, own, audited) in [
            ("info", LogFormat::Text, 1, 1),
            ("info", LogFormat::Json, 1, 1),
            ("error", LogFormat::Text, 0, 1),
            ("debug", LogFormat::Json, 1, 1),
            ("info,operon::audit=off", LogFormat::Text, 1, 0),
            ("off,operon::audit=info", LogFormat::Json, 0, 1),
        ] {
            let lines = lines(log, format);
            let is_audit = |line: &String| line.contains(AUDIT);
            let (audit, others): (Vec<_>, Vec<_>) = lines.into_iter().partition(is_audit);
            assert_eq!(
                (others.len(), audit.len()),
                (own, audited),
                "{log}: {others:?} {audit:?}"
            );
            for line in audit {
                let line: Value = serde_json::from_str(&line).expect("JSON");
                assert_eq!(
                    (&line["target"], &line["verb"]),
                    (&AUDIT.into(), &"patch".into())
                );
            }
        }
    }
}
