//! The processors, for the calls that compute.
//!
//! A guest computes for a tick at most and then lets others run (`budget`). Each such slice needs a place, and there is
//! one fewer than processors: however many guests compute, the host's own tasks have a thread. Plugins take turns, and
//! so do the jobs of one plugin.

use std::{num::NonZeroUsize, pin::pin, task::Poll, thread::available_parallelism, time::Duration};

use operon_core::shares::{Claim, Shares};
use tokio::time::{Instant, timeout_at};

use crate::call::Lane;

/// The places of the guests that compute.
pub(crate) struct Slices(Shares);

/// Who computes, and for how long at most.
pub(crate) struct Guest<'a> {
    /// The plugin.
    pub(crate) plugin: &'a str,
    /// The uid of the job.
    pub(crate) job: &'a str,
    /// What the call is for.
    pub(crate) lane: Lane,
    /// How long the call takes at most. A release that fails for a minute is given up, which must not be another
    /// plugin's doing: the time in which it waits for a place does not count.
    pub(crate) limit: Duration,
}

impl Slices {
    /// So many places; one fewer than processors if no number is given.
    pub(crate) fn new(places: Option<usize>) -> Self {
        let processors = || available_parallelism().map_or(1, NonZeroUsize::get);
        Self(Shares::new(places.unwrap_or_else(|| processors() - 1)))
    }

    /// Runs a call, until its time is over.
    pub(crate) async fn run<T>(
        &self,
        guest: Guest<'_>,
        call: impl Future<Output = T>,
    ) -> Option<T> {
        let Guest {
            plugin,
            job,
            lane,
            limit,
        } = guest;
        let mut call = pin!(call);
        let mut end = Instant::now() + limit;
        while Instant::now() < end {
            let since = Instant::now();
            let place = self.0.take(plugin, job, Claim::ONE).await;
            match lane {
                Lane::Load | Lane::Operate => {}
                Lane::Release => end += since.elapsed(),
            }
            if let Poll::Ready(answer) = futures::poll!(call.as_mut()) {
                return Some(answer);
            }
            drop(place);
            // What wakes the call wakes this.
            let woken = timeout_at(end, async { futures::pending!() });
            woken.await.ok()?;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::pending,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use super::*;

    fn guest(plugin: &str, lane: Lane) -> Guest<'_> {
        Guest {
            plugin,
            job: "job",
            lane,
            limit: Duration::from_millis(150),
        }
    }

    /// Computes in so many slices of 10 ms.
    async fn compute(slices: usize) {
        for _ in 0..slices {
            std::thread::sleep(Duration::from_millis(10));
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_call_ends_with_its_answer_or_with_its_time() {
        let slices = Slices::new(Some(1));
        for lane in [Lane::Load, Lane::Operate, Lane::Release] {
            let ready = slices.run(guest("a", lane), async { 7 }).await;
            assert_eq!(ready, Some(7));
            let computes = slices.run(guest("a", lane), compute(2)).await;
            assert_eq!(computes, Some(()));
            assert_eq!(slices.run(guest("a", lane), pending::<()>()).await, None);
            assert_eq!(slices.run(guest("a", lane), compute(1000)).await, None);
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_wait_for_others_that_compute_is_no_fault_of_a_release() {
        let slices = Arc::new(Slices::new(Some(1)));
        let others: Vec<_> = (0..8)
            .map(|number| {
                let slices = Arc::clone(&slices);
                tokio::spawn(async move {
                    let plugin = number.to_string();
                    let other = Guest {
                        limit: Duration::from_mins(1),
                        ..guest(&plugin, Lane::Operate)
                    };
                    slices.run(other, compute(10_000)).await
                })
            })
            .collect();
        // Of ten plugins, each has 10 of 100 ms: 50 ms of its own take half a second.
        let (operate, release) = futures::join!(
            slices.run(guest("a", Lane::Operate), compute(5)),
            slices.run(guest("b", Lane::Release), compute(5)),
        );
        assert_eq!((operate, release), (None, Some(())));
        for other in others {
            other.abort();
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_more_calls_compute_than_there_are_places() {
        let slices = Arc::new(Slices::new(Some(1)));
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let calls: Vec<_> = (0..8)
            .map(|_| {
                let (slices, now, most) =
                    (Arc::clone(&slices), Arc::clone(&now), Arc::clone(&most));
                tokio::spawn(async move {
                    let computes = async {
                        for _ in 0..5 {
                            let computing = now.fetch_add(1, Ordering::Relaxed) + 1;
                            most.fetch_max(computing, Ordering::Relaxed);
                            std::thread::sleep(Duration::from_millis(1));
                            now.fetch_sub(1, Ordering::Relaxed);
                            tokio::task::yield_now().await;
                        }
                    };
                    let guest = Guest {
                        limit: Duration::from_mins(1),
                        ..guest("a", Lane::Operate)
                    };
                    slices.run(guest, computes).await
                })
            })
            .collect();
        for call in calls {
            assert_eq!(call.await.ok(), Some(Some(())));
        }
        assert_eq!(most.load(Ordering::Relaxed), 1);
    }
}
