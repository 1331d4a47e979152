//! What is remembered for a while, and then forgotten by itself.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Values by key, each for a time of its own. It holds no more than was kept lately.
pub(crate) struct Recent<K, V>(Mutex<HashMap<K, Kept<V>>>);

struct Kept<V> {
    value: V,
    until: Instant,
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash, V: Clone> Recent<K, V> {
    /// Keeps a value for this time, instead of the one that the key has.
    pub(crate) fn keep(&self, key: K, value: V, time: Duration) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        kept.retain(|_, kept| kept.until > now);
        let until = now + time;
        kept.insert(key, Kept { value, until });
    }

    /// Forgets the value of a key.
    pub(crate) fn forget<Q>(&self, key: &Q)
    where
        K: std::borrow::Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.remove(key);
    }

    /// The value of a key, and how long it is kept still.
    pub(crate) fn get<Q>(&self, key: &Q) -> Option<(V, Duration)>
    where
        K: std::borrow::Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Kept { value, until } = kept.get(key)?;
        let left = until.saturating_duration_since(Instant::now());
        (!left.is_zero()).then(|| (value.clone(), left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_value_is_kept_for_its_own_time_and_then_takes_no_room() {
        let (recent, second) = (Recent::<&str, u8>::default(), Duration::from_secs(1));
        recent.keep("a", 1, second);
        recent.keep("b", 2, second * 3);
        assert_eq!(recent.get("a"), Some((1, second)));
        tokio::time::advance(second).await;
        assert_eq!(recent.get("a"), None);
        assert_eq!(recent.get("b"), Some((2, second * 2)));
        recent.keep("b", 3, second);
        assert_eq!(recent.get("b"), Some((3, second)));
        recent.keep("c", 4, second);
        recent.forget("c");
        assert_eq!(recent.get("c"), None);
        let kept = recent.0.lock().expect("nothing panicked").len();
        assert_eq!(kept, 1);
    }
}
