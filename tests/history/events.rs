//! The begins and ends of operations not yet placed, as a list from which operations are lifted and
//! to which they return, in constant time (Lowe, "Testing for linearizability", 2017).

use super::space::Problem;

/// The list of events of operations not yet placed, in the order of ticks; begins before ends at
/// the same tick. Position 0 is the head.
pub struct Events {
    /// Operation and whether it is its end.
    pub what: Vec<(u32, bool)>,
    next: Vec<u32>,
    previous: Vec<u32>,
    /// Per operation: where it begins and ends.
    places: Vec<(u32, u32)>,
}

impl Events {
    pub fn new(problem: &Problem) -> Events {
        let mut order: Vec<(u64, bool, u32)> = Vec::new();
        for (number, known) in (0_u32..).zip(&problem.known) {
            order.push((known.begin, false, number));
            order.push((known.end.max(known.begin), true, number));
        }
        order.sort_unstable();
        let mut what = vec![(u32::MAX, false)];
        let mut places = vec![(0, 0); problem.known.len()];
        for (place, (_, is_end, operation)) in (1_u32..).zip(order) {
            what.push((operation, is_end));
            let places = &mut places[operation as usize];
            if is_end {
                places.1 = place;
            } else {
                places.0 = place;
            }
        }
        let all = u32::try_from(what.len()).expect("events fit into 32 bits");
        Events {
            next: (0..all).map(|place| (place + 1) % all).collect(),
            previous: (0..all).map(|place| (place + all - 1) % all).collect(),
            what,
            places,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.next[0] == 0
    }

    pub fn lift(&mut self, operation: u32) {
        let (begin, end) = self.places[operation as usize];
        self.unlink(begin);
        self.unlink(end);
    }

    /// Undoes the newest lift: the reverse order of `lift` finds each neighbour as it was.
    pub fn unlift(&mut self, operation: u32) {
        let (begin, end) = self.places[operation as usize];
        self.relink(end);
        self.relink(begin);
    }

    fn unlink(&mut self, place: u32) {
        let (previous, next) = (self.previous[place as usize], self.next[place as usize]);
        self.next[previous as usize] = next;
        self.previous[next as usize] = previous;
    }

    fn relink(&mut self, place: u32) {
        let (previous, next) = (self.previous[place as usize], self.next[place as usize]);
        self.next[previous as usize] = place;
        self.previous[next as usize] = place;
    }

    /// The operations that may be next, and the place of the first end among all not yet placed.
    pub fn candidates(&self, into: &mut Vec<u32>) -> u32 {
        into.clear();
        let mut place = self.next[0];
        while place != 0 {
            let (operation, is_end) = self.what[place as usize];
            if is_end {
                break;
            }
            into.push(operation);
            place = self.next[place as usize];
        }
        into.sort_unstable_by_key(|operation| self.places[*operation as usize].1);
        place
    }
}
