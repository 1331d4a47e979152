//! Places that plugins and their jobs share, so that none waits because of what another one does: calls and their
//! memory, effects, reconciles, the processors. It needs neither a runtime nor a clock: a place is awaited, and is free
//! again when it is dropped.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::channel::oneshot::{Sender, channel};

/// A number of places for owners, which have parts: plugins, and their jobs. Clones share the places.
///
/// Guarantees:
/// - An owner that holds as many places as are free gets no more. So one owner never holds more than half of them when
///   it takes them one by one, and the next owner finds free ones.
/// - Owners that wait take turns, however much each waits for. The parts of an owner take turns in the same way, and
///   what one part waits for is served in its order.
/// - A claim of several places waits until all of them are free, and later ones wait behind it. Of the claims of more
///   than a third of all places, one at a time is served: several could keep all places from the others while they wait
///   for each other.
/// - A wait that is dropped takes no place.
#[derive(Clone)]
pub struct Shares(Arc<Mutex<State>>);

/// What is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// So many places: at least one, and all of them at most.
    pub places: usize,
    /// The owner holds at most so many with them, or these alone.
    pub most: usize,
}

/// The places of a claim, until this is dropped.
pub struct Place {
    shares: Shares,
    owner: String,
    places: usize,
}

struct State {
    all: usize,
    free: usize,
    /// How many places each owner holds that holds any.
    held: HashMap<String, usize>,
    /// A claim of more than a third is served.
    has_heavy: bool,
    waiting: Turns<Owner>,
}

/// An owner that waits. Its claims are alike.
#[derive(Default)]
struct Owner {
    claim: Claim,
    parts: Turns<VecDeque<Sender<Place>>>,
}

/// What waits, by name, in the order of the turns.
struct Turns<T> {
    order: VecDeque<String>,
    waiting: HashMap<String, T>,
}

/// Something that others wait in, until they leave.
trait Queue: Default {
    /// Removes the one that has its turn.
    fn next(&mut self) -> Option<Sender<Place>>;

    /// Whether all have left.
    fn is_left(&self) -> bool;
}

impl Claim {
    /// One place, of any number.
    pub const ONE: Self = Self {
        places: 1,
        most: usize::MAX,
    };

    /// Whether an owner that holds so many places may have these too, or is passed over.
    fn is_allowed(self, held: usize, free: usize) -> bool {
        let Self { places, most } = self;
        held < free && (held == 0 || held.saturating_add(places) <= most)
    }

    /// Whether it is one of more than a third of all places.
    fn is_heavy(self, all: usize) -> bool {
        self.places > (all / 3).max(1)
    }
}

impl Default for Claim {
    fn default() -> Self {
        Self::ONE
    }
}

impl Shares {
    /// So many places, and at least one.
    pub fn new(places: usize) -> Self {
        let all = places.max(1);
        Self(Arc::new(Mutex::new(State {
            all,
            free: all,
            held: HashMap::new(),
            has_heavy: false,
            waiting: Turns::default(),
        })))
    }

    /// Waits until this part of an owner has what it claims.
    pub async fn take(&self, owner: &str, part: &str, claim: Claim) -> Place {
        loop {
            let (sender, place) = channel();
            self.state().wait(owner, part, claim, sender);
            self.serve();
            // Only what has left is dropped without its places.
            if let Ok(place) = place.await {
                return place;
            }
        }
    }

    /// Gives out the free places.
    fn serve(&self) {
        loop {
            let next = self.state().next();
            let Some((owner, places, waiting)) = next else {
                return;
            };
            let shares = self.clone();
            let place = Place {
                shares,
                owner,
                places,
            };
            // One that has just left drops the place, which is free then.
            drop(waiting.send(place));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shares.state().give_back(&self.owner, self.places);
        self.shares.serve();
    }
}

impl State {
    fn wait(&mut self, owner: &str, part: &str, claim: Claim, sender: Sender<Place>) {
        let owner = self.waiting.of(owner);
        owner.claim = Claim {
            places: claim.places.clamp(1, self.all),
            ..claim
        };
        let queue = owner.parts.of(part);
        queue.retain(|waiting| !waiting.is_canceled());
        queue.push_back(sender);
    }

    /// The next one that gets places, with its owner and their number.
    fn next(&mut self) -> Option<(String, usize, Sender<Place>)> {
        let Self {
            all,
            free,
            held,
            has_heavy,
            waiting,
        } = self;
        loop {
            let may = |name: &str, Owner { claim, parts: _ }: &Owner| {
                let held = held.get(name).copied().unwrap_or(0);
                claim.is_allowed(held, *free) && !(*has_heavy && claim.is_heavy(*all))
            };
            let name = waiting.first(may)?;
            let claim = waiting.of(&name).claim;
            if claim.places > *free {
                return None;
            }
            // None has left this moment.
            let Some(sender) = waiting.next_of(&name) else {
                continue;
            };
            *free -= claim.places;
            *has_heavy |= claim.is_heavy(*all);
            *held.entry(name.clone()).or_default() += claim.places;
            return Some((name, claim.places, sender));
        }
    }

    fn give_back(&mut self, owner: &str, places: usize) {
        self.free += places;
        let claim = Claim {
            places,
            ..Claim::ONE
        };
        if claim.is_heavy(self.all) {
            self.has_heavy = false;
        }
        if let Some(held) = self.held.get_mut(owner) {
            *held -= places;
            if *held == 0 {
                self.held.remove(owner);
            }
        }
    }
}

impl<T: Queue> Turns<T> {
    /// What waits under this name. A new name has its turn after all others.
    fn of(&mut self, name: &str) -> &mut T {
        if !self.waiting.contains_key(name) {
            self.order.push_back(name.to_owned());
        }
        self.waiting.entry(name.to_owned()).or_default()
    }

    /// The one that has its turn, of those that may have one.
    fn first(&mut self, may: impl Fn(&str, &T) -> bool) -> Option<String> {
        let Self { order, waiting } = self;
        waiting.retain(|_, queue| !queue.is_left());
        order.retain(|name| waiting.contains_key(name));
        let may = |name: &&String| waiting.get(*name).is_some_and(|queue| may(name, queue));
        order.iter().find(may).cloned()
    }

    /// The next one of this name, which has its following turn after all others.
    fn next_of(&mut self, name: &str) -> Option<Sender<Place>> {
        let turn = self.order.iter().position(|other| other == name)?;
        let name = self.order.remove(turn)?;
        let next = self.waiting.get_mut(&name)?.next();
        self.order.push_back(name);
        next
    }
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self {
            order: VecDeque::new(),
            waiting: HashMap::new(),
        }
    }
}

impl Queue for Owner {
    fn next(&mut self) -> Option<Sender<Place>> {
        let part = self.parts.first(|_, _| true)?;
        self.parts.next_of(&part)
    }

    fn is_left(&self) -> bool {
        self.parts.waiting.values().all(Queue::is_left)
    }
}

impl Queue for VecDeque<Sender<Place>> {
    fn next(&mut self) -> Option<Sender<Place>> {
        let next = self.iter().position(|waiting| !waiting.is_canceled())?;
        self.drain(..=next).next_back()
    }

    fn is_left(&self) -> bool {
        self.iter().all(Sender::is_canceled)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use futures::FutureExt as _;

    use super::*;

    type Wait = Pin<Box<dyn Future<Output = Place>>>;

    /// Waits for places. It is in the queue when this returns.
    fn claim(shares: &Shares, owner: &str, part: &str, claim: Claim) -> (Wait, Option<Place>) {
        let (shares, owner, part) = (shares.clone(), owner.to_owned(), part.to_owned());
        let mut wait: Wait = Box::pin(async move { shares.take(&owner, &part, claim).await });
        let place = wait.as_mut().now_or_never();
        (wait, place)
    }

    fn wait(shares: &Shares, owner: &str, part: &str) -> (Wait, Option<Place>) {
        claim(shares, owner, part, Claim::ONE)
    }

    /// The name of the wait that gets the place which this one gives back.
    fn next(place: Place, waits: &mut Vec<(&'static str, Wait)>) -> (&'static str, Place) {
        drop(place);
        for number in 0..waits.len() {
            if let Some(place) = waits[number].1.as_mut().now_or_never() {
                return (waits.remove(number).0, place);
            }
        }
        unreachable!("the place is for one of those that wait")
    }

    #[test]
    fn owners_that_give_nothing_back_leave_room_for_the_next() {
        const ANY: usize = usize::MAX;
        // The places, those of a claim, the most of one owner, how many owners want all, and what each of them gets.
        for (all, places, most, owners, expected) in [
            (1, 1, ANY, 1, vec![1]),
            (1, 1, ANY, 2, vec![1, 0]),
            (2, 1, ANY, 2, vec![1, 1]),
            (64, 1, ANY, 1, vec![32]),
            (64, 1, ANY, 3, vec![32, 16, 8]),
            (64, 1, 8, 1, vec![8]),
            (64, 1, 8, 8, vec![8, 8, 8, 8, 8, 8, 8, 4]),
            (8, 0, 0, 1, vec![1]),
            (384, 32, 128, 5, vec![4, 4, 2, 1, 1]),
            (384, 32, 1, 2, vec![1, 1]),
            (32, 64, ANY, 2, vec![1, 0]),
        ] {
            let (shares, claimed) = (Shares::new(all), Claim { places, most });
            let mut taken = Vec::new();
            let mut found = Vec::new();
            for owner in (0..owners).map(|number: usize| number.to_string()) {
                let before = taken.len();
                while let (_, Some(place)) = claim(&shares, &owner, "job", claimed) {
                    taken.push(place);
                }
                found.push(taken.len() - before);
            }
            assert_eq!(found, expected, "{all} {claimed:?} {owners}");
            drop(taken);
            assert_eq!(shares.state().free, all);
        }
    }

    #[test]
    fn a_place_that_is_free_again_goes_to_the_owner_with_the_fewest_turns_of_late() {
        let shares = Shares::new(1);
        let (_, first) = wait(&shares, "slow", "job");
        let mut waits = Vec::new();
        for owner in ["slow", "slow", "slow", "other", "third", "other"] {
            waits.push((owner, wait(&shares, owner, "job").0));
        }
        let mut place = first.expect("it is free");
        let mut order = Vec::new();
        while !waits.is_empty() {
            let (owner, next) = next(place, &mut waits);
            order.push(owner);
            place = next;
        }
        let turns = ["slow", "other", "third", "slow", "other", "slow"];
        assert_eq!(order, turns);
    }

    #[test]
    fn a_small_job_does_not_wait_for_all_of_a_large_one() {
        let shares = Shares::new(1);
        let (_, first) = wait(&shares, "plugin", "large");
        let mut waits = Vec::new();
        for _ in 0..100 {
            waits.push(("large", wait(&shares, "plugin", "large").0));
        }
        waits.push(("small", wait(&shares, "plugin", "small").0));
        let (second, place) = next(first.expect("it is free"), &mut waits);
        let (third, _place) = next(place, &mut waits);
        assert_eq!([second, third], ["large", "small"]);
    }

    #[test]
    fn an_owner_with_its_share_is_passed_over_and_keeps_its_turn() {
        let shares = Shares::new(4);
        let slow = [(), ()].map(|()| wait(&shares, "slow", "job").1.expect("it is free"));
        let (mut third, none) = wait(&shares, "slow", "job");
        assert!(none.is_none(), "it holds as many as are free");
        let other = wait(&shares, "other", "job").1.expect("it is free");
        drop(other);
        assert!(third.as_mut().now_or_never().is_none());
        drop(slow);
        assert!(third.as_mut().now_or_never().is_some());
    }

    #[test]
    fn a_heavy_claim_that_waits_for_a_heavy_one_delays_no_other() {
        let shares = Shares::new(384);
        let take = |owner: &str, places| {
            let most = 128;
            claim(&shares, owner, "job", Claim { places, most })
        };
        let first = take("a", 256).1.expect("there is room");
        let (mut second, none) = take("b", 256);
        assert!(none.is_none(), "it waits");
        let others = [("c", 32), ("d", 64), ("e", 32)];
        let others = others.map(|(owner, places)| take(owner, places).1.expect("they do not"));
        let (last, none) = take("f", 1);
        assert!(none.is_none(), "all of it is in use");
        drop((first, last));
        let second = second.as_mut().now_or_never().expect("it is the next");
        assert!(take("g", 1).1.is_none(), "all of it is in use");
        drop((second, others));
        assert_eq!(shares.state().free, 384);
    }

    #[test]
    fn a_claim_that_does_not_fit_yet_is_not_overtaken() {
        let shares = Shares::new(9);
        let small = Claim::ONE;
        let large = Claim {
            places: 3,
            ..Claim::ONE
        };
        let held: Vec<_> = ["a", "b", "c", "d", "e", "f", "g"]
            .into_iter()
            .map(|owner| claim(&shares, owner, "job", small).1.expect("it is free"))
            .collect();
        let (mut first, none) = claim(&shares, "large", "job", large);
        assert!(none.is_none());
        let (mut second, none) = claim(&shares, "h", "job", small);
        assert!(none.is_none(), "it would keep the other from its places");
        drop(held);
        let found = [
            first.as_mut().now_or_never(),
            second.as_mut().now_or_never(),
        ];
        assert!(found.iter().all(Option::is_some));
    }

    #[test]
    fn a_wait_that_is_dropped_takes_no_place() {
        let shares = Shares::new(1);
        let place = wait(&shares, "a", "job").1.expect("it is free");
        let left = wait(&shares, "b", "job").0;
        let served = wait(&shares, "c", "job").0;
        let mut last = wait(&shares, "d", "job").0;
        drop(left);
        drop(place);
        // The place is given to this one, which leaves without it.
        drop(served);
        let place = last.as_mut().now_or_never().expect("it is the next");
        drop(place);
        let state = shares.state();
        assert_eq!((state.free, state.held.len()), (1, 0));
        assert!(state.waiting.order.is_empty() && state.waiting.waiting.is_empty());
    }
}
