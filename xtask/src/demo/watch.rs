//! Counts the ready endpoints of a Service as long as a story runs.

use std::io::BufReader;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use operon_devcluster::{Cluster, Progress, output_of};
use serde_json::Value;

/// What was seen.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    service: String,
    /// The fewest endpoints that were ready at a time.
    pub(crate) lowest: usize,
    highest: usize,
    changes: usize,
}

impl Seen {
    pub(crate) fn in_words(&self) -> String {
        format!(
            "Service {} had at least {} and at most {} ready endpoints throughout ({} changes watched).",
            self.service, self.lowest, self.highest, self.changes
        )
    }
}

/// A `kubectl get --watch` of the Service's only EndpointSlice.
pub(crate) struct EndpointWatch {
    child: Child,
    seen: Arc<Mutex<Seen>>,
}

impl EndpointWatch {
    /// Waits until the Service has as many ready endpoints as expected, then watches.
    pub(crate) fn start(
        cluster: &Cluster,
        progress: &Progress,
        service: &str,
        expected: usize,
    ) -> Result<Self> {
        let selector = format!("--selector=kubernetes.io/service-name={service}");
        let ready =
            "{range .items[*].endpoints[?(@.conditions.ready==true)]}{.addresses[0]}{\"\\n\"}{end}";
        let count = || -> Result<usize> {
            let mut get = cluster.kubectl(progress)?;
            get.args([
                "get",
                "endpointslices",
                &selector,
                &format!("--output=jsonpath={ready}"),
            ]);
            Ok(output_of(&mut get)?.lines().count())
        };
        for _ in 0..100 {
            if count()? == expected {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        let mut watch = cluster.kubectl(progress)?;
        watch.args([
            "get",
            "endpointslices",
            &selector,
            "--watch",
            "--output=json",
        ]);
        let mut child = watch
            .stdout(Stdio::piped())
            .spawn()
            .context("failed to watch the Service's endpoints")?;
        let output = BufReader::new(child.stdout.take().context("kubectl prints nowhere")?);
        let none = Seen {
            service: service.to_owned(),
            lowest: usize::MAX,
            highest: 0,
            changes: 0,
        };
        let seen = Arc::new(Mutex::new(none));
        let shared = Arc::clone(&seen);
        std::thread::spawn(move || {
            let slices = serde_json::Deserializer::from_reader(output).into_iter::<Value>();
            for slice in slices.map_while(Result::ok) {
                let ready = ready_endpoints(&slice);
                let mut seen = shared.lock().unwrap_or_else(PoisonError::into_inner);
                seen.lowest = seen.lowest.min(ready);
                seen.highest = seen.highest.max(ready);
                seen.changes += 1;
            }
        });
        Ok(Self { child, seen })
    }

    /// Ends the watch and says what it saw.
    pub(crate) fn stop(mut self) -> Result<Seen> {
        self.child
            .kill()
            .context("failed to end the watch of endpoints")?;
        self.child
            .wait()
            .context("failed to end the watch of endpoints")?;
        Ok(self
            .seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone())
    }
}

/// How many endpoints of a slice are ready.
fn ready_endpoints(slice: &Value) -> usize {
    let endpoints = slice["endpoints"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    endpoints
        .iter()
        .filter(|endpoint| endpoint["conditions"]["ready"] == true)
        .count()
}
