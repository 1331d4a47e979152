//! Verification beside the asynchronous work: digests and signatures of what others made take time of a processor.

use std::{sync::Arc, time::Duration};

use operon_core::action::LoadError;
use tokio::{sync::Semaphore, task, time};

/// How many components are verified at the same time.
const AT_ONCE: usize = 2;

/// Where components are verified.
#[derive(Debug)]
pub(crate) struct Verifying(Arc<Semaphore>);

impl Default for Verifying {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

impl Verifying {
    /// The result of this verification. One that takes longer ends as an error, and keeps its place until it is done,
    /// so that tries of it can't take all threads.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        most: Duration,
        verify: impl FnOnce() -> Result<T, LoadError> + Send + 'static,
    ) -> Result<T, LoadError> {
        let Self(places) = self;
        let places = Arc::clone(places);
        let verified = async move {
            let place = places.acquire_owned().await;
            let verify = move || {
                let _place = place;
                verify()
            };
            task::spawn_blocking(verify).await
        };
        match time::timeout(most, verified).await {
            Ok(Ok(verified)) => verified,
            Ok(Err(error)) => Err(failed(format!(
                "the component's signatures can't be verified, which is an error of this host: {error}"
            ))),
            Err(_) => Err(failed(format!(
                "the component's digest and signatures were not verified within {} seconds, so it was not run. It is tried again; if that stays so, remove signatures that are not needed",
                most.as_secs()
            ))),
        }
    }
}

fn failed(message: String) -> LoadError {
    LoadError {
        reason: "VerificationFailed",
        message,
        transient: true,
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use super::*;

    const LONG: Duration = Duration::from_mins(1);
    const SHORT: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn the_asynchronous_work_goes_on_and_a_verification_that_does_not_end_is_an_error() {
        let verifying = Verifying::default();
        let here = thread::current().id();
        let there = verifying.run(LONG, || Ok(thread::current().id())).await;
        assert_ne!(there, Ok(here));

        let (end, ended) = mpsc::channel::<()>();
        let waits = move || Ok(ended.recv().is_err());
        let error = verifying.run(SHORT, waits).await.expect_err("too long");
        assert_eq!(error.reason, "VerificationFailed");
        assert!(error.transient && error.message.contains("within"));
        assert_eq!(verifying.run(LONG, || Ok(1)).await, Ok(1), "another place");

        let (end_too, ended) = mpsc::channel::<()>();
        let waits = move || Ok(ended.recv().is_err());
        verifying.run(SHORT, waits).await.expect_err("too long");
        verifying.run(SHORT, || Ok(1)).await.expect_err("no place");
        drop((end, end_too));
        assert_eq!(verifying.run(LONG, || Ok(1)).await, Ok(1));
    }

    #[tokio::test]
    async fn a_verification_that_panics_is_an_error() {
        let panics = || -> Result<(), _> { unreachable!("a defect") };
        let error = Verifying::default().run(LONG, panics).await;
        assert_eq!(error.expect_err("an error").reason, "VerificationFailed");
    }
}
