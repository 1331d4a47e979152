//! What it costs to answer a question about the cluster: the comparisons of labels.

use std::{collections::BTreeMap, sync::PoisonError};

use operon_core::selector::Selector;

use super::{View, is_pod};
use crate::reads::Read;

impl View {
    /// How many labels are compared at most to answer a question that has been answered once.
    pub(crate) fn comparisons(&self, read: &Read) -> usize {
        let (selector, of_objects) = match read {
            Read::Get(_) | Read::FindJob(_) => return 1,
            Read::FindPods(selector) => (selector, None),
            Read::Find {
                api_version,
                kind,
                selector,
            } if is_pod(api_version, kind) => (selector, None),
            Read::Find {
                api_version,
                kind,
                selector,
            } => (selector, Some((api_version, kind))),
        };
        let Ok(selector) = self.selector(selector) else {
            return 1;
        };
        let compared = match of_objects {
            None => self.candidates(&selector),
            Some((api_version, kind)) => {
                let all = self.others_of(api_version, kind);
                all.map_or(0, |all| all.len())
            }
        };
        compared.saturating_mul(selector.comparisons()).max(1)
    }

    /// How many pods the requirements of a selector are compared with.
    fn candidates(&self, selector: &Selector) -> usize {
        let by_label = self.by_label.lock().unwrap_or_else(PoisonError::into_inner);
        let indexed = selector
            .exact()
            .and_then(|(key, value)| Some(by_label.get(key)?.get(value).map_or(0, Vec::len)));
        indexed.unwrap_or_else(|| self.pods().map_or(0, BTreeMap::len))
    }
}
