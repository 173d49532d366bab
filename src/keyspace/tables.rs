//! Where the entries are: many small hash tables instead of one large.
//!
//! One table of 100 million entries stalls for seconds when it grows; one of 4,096 tables has
//! 25 thousand and takes a millisecond. The highest bits of a key's hash choose the table, so that
//! going through the tables in order is going through the keys in hash order.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Slot;
use siphasher::sip::SipHasher13;

use super::digest::entry_digest;
use super::entry::{Entry, fetch};

/// The number of tables is two to this power.
const TABLE_BITS: u32 = 12;
pub(super) const TABLES: usize = 1 << TABLE_BITS;

/// Bytes of a table for each entry.
pub(super) const SLOT_BYTES: usize = size_of::<Entry>() + 1;

/// Keys whose cache misses overlap: about as many as a core has outstanding.
const PREFETCHED: usize = 16;

/// The seed of a keyspace's hash. Random, and known to nobody: keys are the client's choice, and with
/// a known hash one client could put all of its keys into one slot.
#[derive(Clone, Copy)]
pub struct HashSeed(SipHasher13);

impl HashSeed {
    /// From two random numbers of the host. (The simulator's come from its own seed: where they did
    /// not, a scrub found a lost bit at another moment in each run of one seed.)
    pub fn new(random: [u64; 2]) -> HashSeed {
        HashSeed(SipHasher13::new_with_keys(random[0], random[1]))
    }

    /// The position of `key`.
    pub(super) fn hash(&self, key: &[u8]) -> u64 {
        self.0.hash(key)
    }
}

/// It stays unknown.
impl std::fmt::Debug for HashSeed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HashSeed")
    }
}

/// All tables, and the seed of their hash.
pub(super) struct Tables {
    seed: HashSeed,
    tables: Box<[HashTable<Entry>]>,
    /// What the digests of each table's entries should add up to.
    digests: Box<[u64]>,
    len: usize,
}

impl std::fmt::Debug for Tables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tables")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

/// hashbrown takes the slot from a hash's lowest bits and a 7-bit tag from its highest, which are
/// the same for all entries of a table here. Mixing others in keeps the tags telling.
fn slot_hash(hash: u64) -> u64 {
    hash ^ (hash << TABLE_BITS)
}

pub(super) fn table_of(hash: u64) -> usize {
    (hash >> (64 - TABLE_BITS)) as usize
}

/// Adds `entry` to the table that is its, or puts it in place of the one with its key.
pub(super) fn insert_into(table: &mut HashTable<Entry>, entry: Entry) -> Option<Entry> {
    let same = |other: &Entry| other.hash == entry.hash && other.key() == entry.key();
    match table.entry(slot_hash(entry.hash), same, |entry| slot_hash(entry.hash)) {
        Slot::Occupied(mut slot) => Some(std::mem::replace(slot.get_mut(), entry)),
        Slot::Vacant(slot) => {
            slot.insert(entry);
            None
        }
    }
}

/// Makes room for `more` entries, so that filling it never moves those that are there.
pub(super) fn reserve_in(table: &mut HashTable<Entry>, more: usize) {
    table.reserve(more, |entry| slot_hash(entry.hash));
}

/// A table's entries, what they refer to being fetched some places ahead.
fn fetched(table: &HashTable<Entry>) -> impl Iterator<Item = &Entry> {
    let mut ahead = table.iter();
    ahead.by_ref().take(PREFETCHED).for_each(Entry::prefetch);
    table.iter().inspect(move |_| {
        ahead.next().inspect(|entry| entry.prefetch());
    })
}

impl Tables {
    pub(super) fn new(seed: HashSeed) -> Tables {
        Tables {
            seed,
            tables: (0..TABLES).map(|_| HashTable::new()).collect(),
            digests: vec![0; TABLES].into(),
            len: 0,
        }
    }

    /// The position of `key`.
    pub(super) fn hash(&self, key: &[u8]) -> u64 {
        self.seed.hash(key)
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of the tables themselves.
    pub(super) fn table_bytes(&self) -> usize {
        self.len * SLOT_BYTES
    }

    pub(super) fn find(&self, hash: u64, key: &[u8]) -> Option<&Entry> {
        let table = self.tables.get(table_of(hash))?;
        table.find(slot_hash(hash), |entry| {
            entry.hash == hash && entry.key() == key
        })
    }

    /// Fetches into the caches what finding `keys` will look at. Step by step for some at a time, so
    /// that their misses overlap: one after the other, they are half of the time that a pipeline of
    /// GETs takes.
    pub(super) fn prefetch<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) {
        let mut keys = keys.map(|key| self.hash(key));
        let mut some = [0; PREFETCHED];
        loop {
            let count = some
                .iter_mut()
                .zip(&mut keys)
                .map(|(at, hash)| *at = hash)
                .count();
            let hashes = some.get(..count).unwrap_or_default();
            for (hash, table) in hashes.iter().filter_map(|hash| self.table(*hash)) {
                // Most entries are in the first place of all that they may be in.
                let first = slot_hash(hash) as usize & table.num_buckets().wrapping_sub(1);
                table
                    .get_bucket(first)
                    .inspect(|entry| fetch(&raw const **entry));
            }
            for (hash, table) in hashes.iter().filter_map(|hash| self.table(*hash)) {
                let same = |entry: &Entry| entry.hash == hash;
                table
                    .find(slot_hash(hash), same)
                    .inspect(|entry| entry.prefetch());
            }
            if count < PREFETCHED {
                return;
            }
        }
    }

    fn table(&self, hash: u64) -> Option<(u64, &HashTable<Entry>)> {
        Some((hash, self.tables.get(table_of(hash))?))
    }

    pub(super) fn find_mut(&mut self, hash: u64, key: &[u8]) -> Option<&mut Entry> {
        let table = self.tables.get_mut(table_of(hash))?;
        table.find_mut(slot_hash(hash), |entry| {
            entry.hash == hash && entry.key() == key
        })
    }

    /// The entries with exactly this hash: one, but for collisions of all 64 bits.
    pub(super) fn with_hash(&self, hash: u64) -> impl Iterator<Item = &Entry> {
        let table = self.tables.get(table_of(hash)).into_iter();
        table
            .flat_map(move |table| table.iter_hash(slot_hash(hash)))
            .filter(move |entry| entry.hash == hash)
    }

    /// The first entry with this hash.
    pub(super) fn with_hash_mut(&mut self, hash: u64) -> Option<&mut Entry> {
        let table = self.tables.get_mut(table_of(hash))?;
        table.find_mut(slot_hash(hash), |entry| entry.hash == hash)
    }

    /// Adds `entry`, or puts it in place of the one with its key, which is returned.
    pub(super) fn insert(&mut self, entry: Entry) -> Option<Entry> {
        let table = self.tables.get_mut(table_of(entry.hash))?;
        let old = insert_into(table, entry);
        self.len += usize::from(old.is_none());
        old
    }

    /// Tables that were filled one by one, with the seed by which they were, and their digests.
    pub(super) fn filled(
        seed: HashSeed,
        tables: Box<[HashTable<Entry>]>,
        digests: Box<[u64]>,
    ) -> Tables {
        let counts = (tables.len(), digests.len());
        assert_eq!(counts, (TABLES, TABLES), "a position names one of these");
        let len = tables.iter().map(HashTable::len).sum();
        Tables {
            seed,
            tables,
            digests,
            len,
        }
    }

    /// An entry with this hash came, or changed, or went: its table's digest changes by so much.
    pub(super) fn add_digest(&mut self, hash: u64, change: u64) {
        if let Some(digest) = self.digests.get_mut(table_of(hash)) {
            *digest = digest.wrapping_add(change);
        }
    }

    /// Whether what is in a table adds up to its digest; `None` behind the last table.
    pub(super) fn adds_up(&self, place: usize) -> Option<bool> {
        let (table, digest) = (self.tables.get(place)?, self.digests.get(place)?);
        let digests = fetched(table).map(entry_digest);
        Some(digests.fold(0, u64::wrapping_add) == *digest)
    }

    pub(super) fn remove(&mut self, hash: u64, key: &[u8]) -> Option<Entry> {
        let table = self.tables.get_mut(table_of(hash))?;
        let same = |entry: &Entry| entry.hash == hash && entry.key() == key;
        let slot = table.find_entry(slot_hash(hash), same).ok()?;
        self.len -= 1;
        Some(slot.remove().0)
    }

    /// Takes all entries out; the seed stays, so that cursors keep their meaning.
    pub(super) fn take(&mut self) -> Box<[HashTable<Entry>]> {
        self.len = 0;
        self.digests.fill(0);
        std::mem::replace(
            &mut self.tables,
            (0..TABLES).map(|_| HashTable::new()).collect(),
        )
    }

    /// The entry at `index` of all, in table order; for a choice at random.
    pub(super) fn nth(&self, mut index: usize) -> Option<&Entry> {
        for table in &self.tables {
            if index < table.len() {
                return table.iter().nth(index);
            }
            index -= table.len();
        }
        None
    }

    /// All entries, from a place on that any number stands for, and round; for a choice at random of a
    /// few. It takes as long as places are empty, and no longer.
    pub(super) fn starting_at(&self, place: u64) -> impl Iterator<Item = &Entry> {
        let start = table_of(place);
        let in_table = |at: usize| self.tables.get(at % TABLES).into_iter();
        let buckets = |table: &HashTable<Entry>| table.num_buckets();
        let first = in_table(start).map(buckets).sum::<usize>();
        let within = (place as usize).checked_rem(first).unwrap_or(0);
        let before = in_table(start)
            .flat_map(move |table| (0..within).filter_map(move |at| table.get_bucket(at)));
        let behind = in_table(start)
            .flat_map(move |table| (within..first).filter_map(move |at| table.get_bucket(at)));
        let others = (1..TABLES).flat_map(move |step| {
            let table = self.tables.get((start + step) % TABLES);
            table.into_iter().flat_map(|table| table.iter())
        });
        behind.chain(others).chain(before)
    }

    /// All entries, in no particular order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.tables.iter().flat_map(|table| table.iter())
    }

    /// The entries from `position` on, in no order, up to a position that is returned (none: all
    /// that there are). About `about` of them, of one table; more only by chance, as positions are
    /// random. Looks through that one table, and past empty ones.
    pub(super) fn next_positions(&self, position: u64, about: usize) -> (Vec<&Entry>, Option<u64>) {
        let tables = self.tables.iter().enumerate().skip(table_of(position));
        let Some((place, table)) = tables.clone().find(|(_, table)| !table.is_empty()) else {
            return (Vec::new(), None);
        };
        let from = position.max((place as u64) << (64 - TABLE_BITS));
        let parts = table.len().div_ceil(about.max(1)) as u64;
        let width = (1 << (64 - TABLE_BITS)) / parts;
        let last_of_table = (place as u64) << (64 - TABLE_BITS) | (u64::MAX >> TABLE_BITS);
        let upto = from.saturating_add(width).min(last_of_table);
        let found = table
            .iter()
            .filter(|entry| (from..=upto).contains(&entry.hash))
            .inspect(|entry| entry.prefetch())
            .collect();
        (found, upto.checked_add(1))
    }

    /// The entries at or behind `position`, in batches (one per table), each sorted by position.
    pub(super) fn sorted_from(&self, position: u64) -> impl Iterator<Item = Vec<&Entry>> {
        self.tables
            .iter()
            .skip(table_of(position))
            .filter(|table| !table.is_empty())
            .map(move |table| {
                let mut batch: Vec<&Entry> = table
                    .iter()
                    .filter(|entry| entry.hash >= position)
                    .collect();
                batch.sort_unstable_by_key(|entry| entry.hash);
                batch
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_keys_can_be_prefetched_there_or_not() {
        let mut tables = Tables::new(HashSeed::new([1, 2]));
        let key = |number: usize| number.to_string().into_bytes();
        for count in [0, 1, PREFETCHED - 1, PREFETCHED, PREFETCHED + 1, 5000] {
            for number in 0..count {
                let hash = tables.hash(&key(number));
                tables.insert(Entry::new(hash, &key(number), b"value", None));
            }
            let keys: Vec<Vec<u8>> = (0..2 * count).map(key).collect();
            let mut asked = 0;
            tables.prefetch(keys.iter().map(|key| &key[..]).inspect(|_| asked += 1));
            assert_eq!((asked, tables.len()), (2 * count, count));
        }
    }
}
