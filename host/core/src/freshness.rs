//! When a cache takes over what it hears of an object: from the watch, from a list, or from the answer to
//! a write of this process. These arrive in any order, and a cache must never go back.
//!
//! The rule alone, without the objects: the caches of the host and those of in-memory worlds both use it.
//! It relies on the versions of one kind being ordered, across its objects and in time.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
};

/// One version of one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp<U, V> {
    /// Which object of its name it is.
    pub uid: U,
    /// Its resource version. A deletion has a version of its own.
    pub version: V,
}

/// What a cache of objects with these keys has to remember, beside the objects.
///
/// # Assumptions
/// A list is a consistent snapshot that is not older than what was reported before it began. A watch
/// reports all changes of its kind in the order of their versions.
#[derive(Clone, Debug)]
pub struct Freshness<K, V> {
    /// The latest version that the watch or a list reported. Whatever happened up to it has been
    /// reported: an object with an earlier version that is not in the cache was deleted.
    reported: Option<V>,
    list: Option<List<K, V>>,
}

/// A list under way.
#[derive(Clone, Debug)]
struct List<K, V> {
    versions: HashMap<K, V>,
    /// What this process wrote since the list began: the list may be older than it.
    written: HashSet<K>,
}

/// What the end of a list means for a cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merge<K> {
    /// Known objects that stay, because the list has an earlier version or lacks them.
    pub keep: Vec<K>,
    /// Objects that the list has in a version that was not known.
    pub changed: Vec<K>,
    /// Known objects that are not there any more.
    pub vanished: Vec<K>,
}

impl<K, V> Default for Freshness<K, V> {
    fn default() -> Self {
        Self {
            reported: None,
            list: None,
        }
    }
}

impl<K, V> Default for List<K, V> {
    fn default() -> Self {
        Self {
            versions: HashMap::new(),
            written: HashSet::new(),
        }
    }
}

impl<K: Eq + Hash + Clone, V: Ord + Copy> Freshness<K, V> {
    /// The watch reports a new or changed object. Returns whether the cache takes it over.
    pub fn watched(&mut self, known: Option<V>, version: V) -> bool {
        self.reported = self.reported.max(Some(version));
        known.is_none_or(|known| version > known)
    }

    /// The watch reports a deletion. Returns whether the cache drops its object: an object that was created
    /// later under the same name stays.
    pub fn deleted<U: PartialEq>(
        &mut self,
        known: Option<&Stamp<U, V>>,
        deleted: &Stamp<U, V>,
    ) -> bool {
        self.reported = self.reported.max(Some(deleted.version));
        known.is_some_and(|known| known.uid == deleted.uid || known.version < deleted.version)
    }

    /// The API server answers a write of this process. Returns whether the cache takes the object over: a
    /// late answer neither replaces a newer object nor brings back a deleted one.
    pub fn written(&mut self, key: &K, known: Option<V>, version: V) -> bool {
        let is_new = Some(version) > self.reported && known.is_none_or(|known| version > known);
        if let Some(list) = self.list.as_mut().filter(|_| is_new) {
            list.written.insert(key.clone());
        }
        is_new
    }

    /// A list begins. The content of an earlier list is dropped.
    pub fn list_begins(&mut self) {
        self.list = Some(List::default());
    }

    /// The list has this object.
    pub fn listed(&mut self, key: K, version: V) {
        let list = self.list.get_or_insert_default();
        list.versions.insert(key, version);
    }

    /// The list is complete. Of an object that is known too the later version stays. A known one that the
    /// list lacks stays only if this process wrote it since the list began, and later than anything that
    /// the list has.
    pub fn list_ends(&mut self, known: impl IntoIterator<Item = (K, V)>) -> Merge<K> {
        let List {
            mut versions,
            written,
        } = self.list.take().unwrap_or_default();
        self.reported = self.reported.max(versions.values().max().copied());
        let mut merge = Merge {
            keep: Vec::new(),
            changed: Vec::new(),
            vanished: Vec::new(),
        };
        for (key, version) in known {
            match versions.remove(&key) {
                Some(listed) if listed > version => merge.changed.push(key),
                Some(listed) if listed < version => merge.keep.push(key),
                Some(_) => {}
                None if written.contains(&key) && Some(version) > self.reported => {
                    merge.keep.push(key);
                }
                None => merge.vanished.push(key),
            }
        }
        merge.changed.extend(versions.into_keys());
        merge
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    type Object = Stamp<&'static str, u64>;

    /// What happens to a cache, in the order in which it hears of it.
    enum Heard {
        Watched(&'static str, Object),
        Deleted(&'static str, Object),
        Written(&'static str, Object),
        ListBegins,
        Listed(&'static str, Object),
        ListEnds,
    }
    use Heard::{Deleted, ListBegins, ListEnds, Listed, Watched, Written};

    fn a(version: u64) -> Object {
        Stamp { uid: "A", version }
    }

    fn b(version: u64) -> Object {
        Stamp { uid: "B", version }
    }

    /// A cache that follows the rule, and the changes that it reported.
    #[derive(Default)]
    struct Cache {
        freshness: Freshness<&'static str, u64>,
        objects: BTreeMap<&'static str, Object>,
        listed: BTreeMap<&'static str, Object>,
        told: Vec<&'static str>,
    }

    impl Cache {
        fn hear(&mut self, heard: &Heard) {
            match *heard {
                Watched(name, object) => {
                    let known = self.objects.get(name).map(|known| known.version);
                    if self.freshness.watched(known, object.version) {
                        self.set(name, object);
                    }
                }
                Deleted(name, object) => {
                    if self.freshness.deleted(self.objects.get(name), &object) {
                        self.objects.remove(name);
                        self.told.push(name);
                    }
                }
                Written(name, object) => {
                    let known = self.objects.get(name).map(|known| known.version);
                    if self.freshness.written(&name, known, object.version) {
                        self.set(name, object);
                    }
                }
                ListBegins => {
                    self.listed.clear();
                    self.freshness.list_begins();
                }
                Listed(name, object) => {
                    self.freshness.listed(name, object.version);
                    self.listed.insert(name, object);
                }
                ListEnds => self.list_ends(),
            }
        }

        fn set(&mut self, name: &'static str, object: Object) {
            self.objects.insert(name, object);
            self.told.push(name);
        }

        fn list_ends(&mut self) {
            let known = self.objects.iter().map(|(name, o)| (*name, o.version));
            let merge = self.freshness.list_ends(known);
            let mut objects = std::mem::take(&mut self.listed);
            for name in &merge.keep {
                objects.insert(name, self.objects[name]);
            }
            self.objects = objects;
            self.told
                .extend(merge.changed.iter().chain(&merge.vanished));
        }
    }

    /// What a cache holds of object `x` after these steps, and how often it reported a change of `x`.
    #[track_caller]
    fn check(heard: &[Heard], expected: Option<Object>, told: usize) {
        let mut cache = Cache::default();
        for heard in heard {
            cache.hear(heard);
        }
        assert_eq!(cache.objects.get("x").copied(), expected);
        assert_eq!(cache.told.iter().filter(|name| **name == "x").count(), told);
    }

    #[test]
    fn the_watch_and_the_answer_to_a_write_may_come_in_any_order() {
        check(&[Written("x", a(5)), Watched("x", a(5))], Some(a(5)), 1);
        check(&[Watched("x", a(5)), Written("x", a(5))], Some(a(5)), 1);
        check(&[Written("x", a(5)), Watched("x", a(4))], Some(a(5)), 1);
        check(&[Watched("x", a(6)), Written("x", a(5))], Some(a(6)), 1);
        check(&[Written("x", a(5)), Watched("x", a(6))], Some(a(6)), 2);
    }

    #[test]
    fn a_late_answer_does_not_bring_back_what_was_deleted() {
        let deleted = || Deleted("x", a(7));
        check(
            &[Watched("x", a(4)), deleted(), Written("x", a(5))],
            None,
            2,
        );
        // Nor an object that the cache never had, nor one that was deleted unnoticed.
        check(&[deleted(), Written("x", a(5))], None, 0);
        let unnoticed = [
            Watched("x", a(4)),
            ListBegins,
            Listed("y", b(9)),
            ListEnds,
            Written("x", a(5)),
        ];
        check(&unnoticed, None, 2);
    }

    #[test]
    fn a_deletion_leaves_the_next_object_of_the_name() {
        let made_anew = [Watched("x", a(4)), Written("x", b(8)), Deleted("x", a(7))];
        check(&made_anew, Some(b(8)), 2);
        check(&[Watched("x", a(4)), Deleted("x", a(7))], None, 2);
        check(&[Deleted("x", a(7)), Watched("x", b(8))], Some(b(8)), 1);
        // The answer to the deletion has the deletion's own version.
        check(&[Written("x", a(7)), Deleted("x", a(7))], None, 2);
        check(&[Deleted("x", a(7)), Written("x", a(7))], None, 0);
    }

    #[test]
    fn a_list_replaces_what_is_older_and_leaves_what_is_newer() {
        let list = |object| [ListBegins, Listed("x", object), ListEnds];
        let after = |first: Heard, object: Object| -> Vec<Heard> {
            std::iter::once(first).chain(list(object)).collect()
        };
        check(&list(a(5)), Some(a(5)), 1);
        check(&after(Watched("x", a(4)), a(5)), Some(a(5)), 2);
        check(&after(Watched("x", a(5)), a(5)), Some(a(5)), 1);
        check(&after(Written("x", a(6)), a(5)), Some(a(6)), 1);
        check(&after(Watched("x", a(4)), b(9)), Some(b(9)), 2);
    }

    #[test]
    fn a_write_during_a_list_is_seen_before_and_after_its_end() {
        let (begins, listed, ends) = (|| ListBegins, || Listed("x", a(4)), || ListEnds);
        check(
            &[begins(), Written("x", a(5)), listed(), ends()],
            Some(a(5)),
            1,
        );
        check(
            &[begins(), listed(), Written("x", a(5)), ends()],
            Some(a(5)),
            1,
        );
        check(
            &[begins(), listed(), ends(), Written("x", a(5))],
            Some(a(5)),
            2,
        );
        // The list is as old as its beginning, and the watch continues from there.
        let confirmed = [
            begins(),
            Written("x", a(5)),
            listed(),
            ends(),
            Watched("x", a(5)),
        ];
        check(&confirmed, Some(a(5)), 1);
    }

    #[test]
    fn what_a_list_lacks_stays_only_if_it_was_written_since_the_list_began() {
        let (begins, other, ends) = (|| ListBegins, || Listed("y", b(3)), || ListEnds);
        check(
            &[begins(), other(), Written("x", a(5)), ends()],
            Some(a(5)),
            1,
        );
        check(&[begins(), Written("x", a(5)), ends()], Some(a(5)), 1);
        check(&[Written("x", a(5)), begins(), other(), ends()], None, 2);
        check(&[Watched("x", a(5)), begins(), other(), ends()], None, 2);
        // A list that began again is younger than the write.
        check(&[begins(), Written("x", a(5)), begins(), ends()], None, 2);
        // The list has something later, so it would have this too if it were there still.
        check(&[begins(), Written("x", a(2)), other(), ends()], None, 2);
        // And the watch that follows the list reports what became of the object.
        let deleted = [begins(), Written("x", a(5)), ends(), Deleted("x", a(6))];
        check(&deleted, None, 2);
    }

    #[test]
    fn a_list_tells_of_real_changes_alone() {
        let list = || [ListBegins, Listed("x", a(5)), Listed("y", b(6)), ListEnds];
        let thrice: Vec<_> = list().into_iter().chain(list()).chain(list()).collect();
        check(&thrice, Some(a(5)), 1);
        let gone: Vec<_> = list().into_iter().chain([ListBegins, ListEnds]).collect();
        check(&gone, None, 2);
    }
}
