//! Which substitute replaces which origin, when several origins of one `ReplicaSet` wait at the same time.
//! Every target is decided alone, but all see the same snapshot: so each works out the whole assignment and
//! takes its own part, and no two take the same.

use std::cmp::Reverse;

use operon_sdk::Pod;

use crate::mark::Mark;

/// A released origin that has no live substitute yet.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// The origin's uid.
    pub uid: String,
    /// The origin's name.
    pub name: String,
    /// Which substitutes it may have.
    pub mark: Mark,
}

/// The candidate for the origin with this uid, if there is one for it.
///
/// An origin released later may have fewer of the candidates, so it chooses first; each takes the
/// first by name. No order of choosing would give more origins a substitute.
///
/// If the `ReplicaSet` has all its desired pods (`full_at` of them) and did not want more when the origin
/// was released, it creates no further one, because a substitute of an origin that was put back exists. Any
/// unclaimed pod serves then: the remaining ones, the least settled first.
pub fn candidate_for<'a>(
    uid: &str,
    waiting: Vec<Waiting>,
    candidates: Vec<&'a Pod>,
    full_at: Option<usize>,
) -> Option<&'a Pod> {
    let Assigned {
        taken,
        mut left,
        mut spare,
    } = assign(waiting, candidates);
    if let Some((_, pod)) = taken.into_iter().find(|(origin, _)| origin.uid == uid) {
        return Some(pod);
    }
    left.retain(|origin| full_at.is_some_and(|replicas| origin.mark.replicas <= replicas));
    let index = left.iter().position(|origin| origin.uid == uid)?;
    spare.sort_by_key(|pod| (pod.ready, Reverse(pod.created_at), pod.name.clone()));
    spare.get(index).copied()
}

/// The candidates that no waiting origin takes, by name.
pub fn spare(waiting: Vec<Waiting>, candidates: Vec<&Pod>) -> Vec<&Pod> {
    assign(waiting, candidates).spare
}

/// Which target takes which candidate, which targets get none, and which candidates are left.
struct Assigned<'a> {
    taken: Vec<(Waiting, &'a Pod)>,
    left: Vec<Waiting>,
    spare: Vec<&'a Pod>,
}

fn assign(mut waiting: Vec<Waiting>, mut candidates: Vec<&Pod>) -> Assigned<'_> {
    let fewest_first = |origin: &Waiting| {
        let mark = &origin.mark;
        (
            Reverse(mark.newest),
            Reverse(mark.peers.len()),
            origin.name.clone(),
        )
    };
    waiting.sort_by_key(fewest_first);
    candidates.sort_by(|a, b| a.name.cmp(&b.name));
    let (mut taken, mut left) = (Vec::new(), Vec::new());
    for origin in waiting {
        let first = candidates.iter().position(|pod| origin.mark.precedes(pod));
        match first.map(|index| candidates.remove(index)) {
            Some(pod) => taken.push((origin, pod)),
            None => left.push(origin),
        }
    }
    Assigned {
        taken,
        left,
        spare: candidates,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use operon_sdk::json;
    use operon_sdk::testing::FakeCluster;

    fn waiting(name: &str, newest: i64) -> Waiting {
        let mark = Mark {
            job: "j".into(),
            hash: "h".into(),
            replica_set: "foo".into(),
            block_owner_deletion: true,
            replicas: 2,
            newest,
            peers: Vec::new(),
            released: 0,
        };
        Waiting {
            uid: format!("uid-of-{name}"),
            name: name.into(),
            mark,
        }
    }

    /// Pods `n0`, `n1`, … created at these seconds after the start of the world.
    fn pods(seconds: &[i64]) -> (i64, Vec<Pod>) {
        let mut world = FakeCluster::new();
        let start = world.now();
        let mut pods = Vec::new();
        for (index, second) in seconds.iter().enumerate() {
            world.advance(start + second - world.now());
            pods.push(world.add_pod(&format!("n{index}"), &json!({})));
        }
        (start, pods)
    }

    #[test]
    fn each_waiting_origin_gets_a_substitute_of_its_own() {
        // Origins as (name, newest), substitutes by second of creation, who gets which.
        type Case = (
            &'static [(&'static str, i64)],
            &'static [i64],
            &'static [Option<&'static str>],
        );
        let table: &[Case] = &[
            (&[("a", 0)], &[], &[None]),
            (&[("a", 0)], &[1], &[Some("n0")]),
            (&[("a", 5)], &[1], &[None]),
            (&[("a", 0), ("b", 0)], &[1, 1], &[Some("n0"), Some("n1")]),
            (&[("b", 0), ("a", 0)], &[1, 1], &[Some("n1"), Some("n0")]),
            (&[("a", 0), ("b", 0)], &[1], &[Some("n0"), None]),
            // The later release has only the later pod, and gets it.
            (&[("a", 0), ("b", 3)], &[5, 1], &[Some("n1"), Some("n0")]),
        ];
        for (origins, seconds, expected) in table {
            let (start, pods) = pods(seconds);
            let all: Vec<Waiting> = origins
                .iter()
                .map(|(name, newest)| waiting(name, start + newest))
                .collect();
            let got: Vec<Option<&str>> = all
                .iter()
                .map(|origin| {
                    let candidates = pods.iter().collect();
                    candidate_for(&origin.uid, all.clone(), candidates, None)
                        .map(|pod| pod.name.as_str())
                })
                .collect();
            assert_eq!(&got, expected, "{origins:?} {seconds:?}");
        }
    }

    #[test]
    fn of_a_full_replica_set_that_was_not_scaled_down_each_gets_what_is_left() {
        let (start, pods) = pods(&[1, 2, 3]);
        let all = vec![waiting("a", start + 9), waiting("b", start + 9)];
        let get = |uid: &str, full_at: Option<usize>| {
            let candidates = pods.iter().collect();
            candidate_for(uid, all.clone(), candidates, full_at).map(|pod| pod.name.as_str())
        };
        for (full_at, a, b) in [
            (None, None, None),
            (Some(1), None, None),
            (Some(2), Some("n2"), Some("n1")),
            (Some(3), Some("n2"), Some("n1")),
        ] {
            assert_eq!((get("uid-of-a", full_at), get("uid-of-b", full_at)), (a, b));
        }
    }
}
