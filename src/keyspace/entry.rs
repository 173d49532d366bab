//! One key: its position, and everything else in one allocation.
//!
//! ```text
//! small:  kind, [clock, 3 bytes], key length, value length, [expiry, 8 bytes], key, value
//! large:  kind, clock, expiry, key, value shared with replies on their way out
//! ```
//!
//! Lengths are varints, the expiry is milliseconds since 1970, little-endian, and only there where
//! there is one: 16 bytes of key and 100 of value take 119. The clock says how the key was used
//! (`access.rs`), is only there where a policy asks for it, and is written through shared references. With a slot of 16 bytes in its table,
//! and key and value on two neighbouring cache lines, a read misses the caches once less than with
//! three allocations, and such keys take a third less memory.
//!
//! Hand-made memory, all of it in [`Body`] (decision 0010); its tests are also run under valgrind.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ops::RangeBounds;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, Ordering};

use bytes::Bytes;

use crate::units::Millis;

/// Values from this many bytes on are shared with replies and walks, smaller ones copied.
pub(super) const SHARED_BYTES: usize = 4 << 10;

const PLAIN: u8 = 0;
const EXPIRING: u8 = 1;
const LARGE: u8 = 2;
/// The bits of a kind that say one of these.
const FORM: u8 = 3;
/// Beside any of them: there is a clock.
const CLOCKED: u8 = 4;

/// The bytes of a clock, lowest first. They are written one by one: where two readers do so in the same
/// moment, and a byte turns just then, the clock may be wrong by what that byte counts.
type Clock = [AtomicU8; 3];

/// One key. 16 bytes, besides its allocation.
pub(super) struct Entry {
    /// The key's position: growing a table needs no look at the keys, and SCAN sorts by it.
    pub(super) hash: u64,
    body: Body,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry")
            .field("key", &Bytes::copy_from_slice(self.key()))
            .field("value_bytes", &self.value().len())
            .field("expire_at", &self.expire_at())
            .finish()
    }
}

impl Entry {
    /// Copies key and value into an allocation of their own.
    pub(super) fn new(hash: u64, key: &[u8], value: &[u8], expire_at: Option<Millis>) -> Self {
        Entry::with_clock(hash, key, value, expire_at, None)
    }

    /// As [`Entry::new`], with 24 bits that say how it is used.
    pub(super) fn with_clock(
        hash: u64,
        key: &[u8],
        value: &[u8],
        expire_at: Option<Millis>,
        clock: Option<u32>,
    ) -> Self {
        let expire_at_ms = expire_at.map_or(0, |at| at.0);
        let body = Body::new(key, value, expire_at_ms, clock);
        Entry { hash, body }
    }

    /// How it was used, if that is counted.
    pub(super) fn clock(&self) -> Option<u32> {
        self.body.clock().map(read_clock)
    }

    /// It was used: where that is counted, the bits change.
    pub(super) fn set_clock(&self, used: impl FnOnce(u32) -> u32) {
        if let Some(clock) = self.body.clock() {
            write_clock(clock, used(read_clock(clock)));
        }
    }

    /// From here on it is counted how it is used.
    pub(super) fn give_clock(&mut self, first: u32) {
        if self.body.clock().is_none() {
            let parts = self.body.parts();
            self.body = Body::new(parts.key, parts.value, parts.expire_at_ms, Some(first));
        }
    }

    /// Fetches what this refers to into the caches: all of a small one.
    pub(super) fn prefetch(&self) {
        let start = self.body.0.as_ptr();
        fetch(start);
        fetch(start.wrapping_add(CACHE_LINE));
    }

    /// All of it, read at once.
    pub(super) fn parts(&self) -> Parts<'_> {
        self.body.parts()
    }

    pub(super) fn key(&self) -> &[u8] {
        self.body.parts().key
    }

    pub(super) fn value(&self) -> &[u8] {
        self.body.parts().value
    }

    /// The value, or a part of it, for a reply.
    pub(super) fn shared(&self, part: impl RangeBounds<usize>) -> Bytes {
        match self.body.large() {
            Some(large) => large.value.slice(part),
            None => {
                let part = (part.start_bound().cloned(), part.end_bound().cloned());
                Bytes::copy_from_slice(&self.value()[part])
            }
        }
    }

    pub(super) fn expire_at(&self) -> Option<Millis> {
        match self.body.form() {
            PLAIN => None,
            _ => self.body.parts().expire_at(),
        }
    }

    pub(super) fn set_expire_at(&mut self, expire_at: Option<Millis>) {
        self.body.set_expire_at(expire_at.map_or(0, |at| at.0));
    }

    /// As in Redis, a key is still there in the millisecond it expires at.
    pub(super) fn is_expired(&self, now: Millis) -> bool {
        self.expire_at().is_some_and(|at| now > at)
    }
}

const CACHE_LINE: usize = 64;

/// Asks for a cache line, and waits for nothing. Where the language has no word for it: nothing.
#[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables))]
pub(super) fn fetch<T>(place: *const T) {
    #[cfg(target_arch = "x86_64")]
    #[allow(unsafe_code)]
    // SAFETY: a hint; it reads nothing, and an address that is none is no fault.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(place.cast());
    }
}

fn read_clock(clock: &Clock) -> u32 {
    let [low, middle, high] = clock.each_ref().map(|byte| byte.load(Ordering::Relaxed));
    u32::from_le_bytes([low, middle, high, 0])
}

fn write_clock(clock: &Clock, to: u32) {
    for (byte, to) in clock.iter().zip(to.to_le_bytes()) {
        byte.store(to, Ordering::Relaxed);
    }
}

/// What an allocation takes besides key and value, roughly.
const ALLOCATION_BYTES: usize = 16;

/// A value that is shared.
#[repr(C)]
struct Large {
    kind: u8,
    clock: Clock,
    expire_at_ms: u64,
    key: Box<[u8]>,
    value: Bytes,
}

/// What an entry holds.
pub(super) struct Parts<'a> {
    /// Zero: never.
    pub(super) expire_at_ms: u64,
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
}

impl Parts<'_> {
    pub(super) fn expire_at(&self) -> Option<Millis> {
        (self.expire_at_ms > 0).then_some(Millis(self.expire_at_ms))
    }

    /// Bytes of the entry's allocations, roughly.
    pub(super) fn bytes(&self) -> usize {
        self.key.len() + self.value.len() + ALLOCATION_BYTES
    }
}

/// An owned allocation whose first byte says what it is: small ones as the module says, [`LARGE`] a
/// `Box<Large>`. Never changed in length, and written only through `&mut self`.
struct Body(NonNull<u8>);

// SAFETY: the allocation is owned and holds plain bytes, or a `Large`, which is both.
#[allow(unsafe_code)]
unsafe impl Send for Body {}
// SAFETY: as above; nothing but the clock is written through a shared reference, and that is atomic.
#[allow(unsafe_code)]
unsafe impl Sync for Body {}

/// Where the parts of a small body are.
struct Places {
    expiring: bool,
    expiry: usize,
    key: usize,
    value: usize,
    end: usize,
}

impl Places {
    fn layout(&self) -> Layout {
        Layout::from_size_align(self.end, 1).expect("a key and a small value are not that large")
    }
}

fn push_varint(mut number: usize, out: &mut [u8], at: &mut usize) {
    loop {
        let more = number > 0x7f;
        out[*at] = (number & 0x7f) as u8 | u8::from(more) << 7;
        *at += 1;
        number >>= 7;
        if !more {
            return;
        }
    }
}

/// Kind, clock and two varints of up to ten bytes.
const MOST_HEADER_BYTES: usize = 24;
/// Where the clock is, and ends.
const CLOCK: usize = 1;
const CLOCK_END: usize = 4;

#[allow(unsafe_code)]
impl Body {
    fn new(key: &[u8], value: &[u8], expire_at_ms: u64, clock: Option<u32>) -> Body {
        let clocked = if clock.is_some() { CLOCKED } else { 0 };
        let [low, middle, high, _] = clock.unwrap_or(0).to_le_bytes();
        if value.len() >= SHARED_BYTES {
            let large = Box::new(Large {
                kind: LARGE | clocked,
                clock: [low, middle, high].map(AtomicU8::new),
                expire_at_ms,
                key: key.into(),
                value: Bytes::copy_from_slice(value),
            });
            return Body(NonNull::from(Box::leak(large)).cast());
        }
        let (mut header, mut at) = ([0; MOST_HEADER_BYTES], CLOCK);
        header[0] = clocked | if expire_at_ms > 0 { EXPIRING } else { PLAIN };
        if clock.is_some() {
            header[CLOCK..CLOCK_END].copy_from_slice(&[low, middle, high]);
            at = CLOCK_END;
        }
        push_varint(key.len(), &mut header, &mut at);
        push_varint(value.len(), &mut header, &mut at);
        let expiry = if expire_at_ms > 0 { 8 } else { 0 };
        let places = Places {
            expiring: expire_at_ms > 0,
            expiry: at,
            key: at + expiry,
            value: at + expiry + key.len(),
            end: at + expiry + key.len() + value.len(),
        };
        let layout = places.layout();
        // SAFETY: the size is not zero: there is a header.
        let start = unsafe { alloc(layout) };
        let Some(start) = NonNull::new(start) else {
            handle_alloc_error(layout);
        };
        // SAFETY: just allocated with so many bytes, by nobody else known, and zeroed first, so that
        // a slice of them may be made.
        let all = unsafe {
            start.as_ptr().write_bytes(0, places.end);
            std::slice::from_raw_parts_mut(start.as_ptr(), places.end)
        };
        all[..places.expiry].copy_from_slice(&header[..places.expiry]);
        if places.expiring {
            all[places.expiry..places.key].copy_from_slice(&expire_at_ms.to_le_bytes());
        }
        all[places.key..places.value].copy_from_slice(key);
        all[places.value..].copy_from_slice(value);
        Body(start)
    }

    /// What it is, whether it has a clock or not.
    fn form(&self) -> u8 {
        self.byte(0) & FORM
    }

    /// Of a body of any form.
    fn clock(&self) -> Option<&Clock> {
        let clocked = self.byte(0) & CLOCKED != 0;
        // SAFETY: of this kind `new` makes nothing but bodies with a clock at this place, small or large;
        // no other reference than one to these atomic bytes goes over them while the body is shared.
        clocked.then(|| unsafe { self.0.add(CLOCK).cast::<Clock>().as_ref() })
    }

    /// A byte of a small body, or the first of any; not of the clock.
    fn byte(&self, at: usize) -> u8 {
        // SAFETY: callers go no further than the header says, which `new` wrote in full.
        unsafe { self.0.add(at).read() }
    }

    fn large(&self) -> Option<&Large> {
        // SAFETY: of this kind `new` makes nothing but a `Large`, whose first field is the kind.
        (self.form() == LARGE).then(|| unsafe { self.0.cast::<Large>().as_ref() })
    }

    /// Of a small body.
    fn places(&self) -> Places {
        let kind = self.byte(0);
        let mut at = if kind & CLOCKED == 0 {
            CLOCK
        } else {
            CLOCK_END
        };
        let mut varint = || {
            let (mut number, mut shift) = (0, 0);
            loop {
                let byte = self.byte(at);
                at += 1;
                number |= usize::from(byte & 0x7f) << shift;
                shift += 7;
                if byte <= 0x7f {
                    return number;
                }
            }
        };
        let (key_len, value_len) = (varint(), varint());
        let expiring = kind & FORM == EXPIRING;
        let key = at + if expiring { 8 } else { 0 };
        Places {
            expiring,
            expiry: at,
            key,
            value: key + key_len,
            end: key + key_len + value_len,
        }
    }

    fn parts(&self) -> Parts<'_> {
        if let Some(large) = self.large() {
            return Parts {
                expire_at_ms: large.expire_at_ms,
                key: &large.key,
                value: &large.value,
            };
        }
        let places = self.places();
        // SAFETY: the header says how much `new` allocated and wrote. It is left out: a clock in it may
        // be written meanwhile.
        let all = unsafe {
            let start = self.0.as_ptr().add(places.expiry);
            std::slice::from_raw_parts(start, places.end - places.expiry)
        };
        let (expiry, rest) = all.split_at(places.key - places.expiry);
        let (key, value) = rest.split_at(places.value - places.key);
        let expiry = expiry.try_into().map_or(0, u64::from_le_bytes);
        Parts {
            expire_at_ms: expiry,
            key,
            value,
        }
    }

    fn set_expire_at(&mut self, expire_at_ms: u64) {
        if self.form() == LARGE {
            // SAFETY: as in `large`, and this is the only reference.
            unsafe { self.0.cast::<Large>().as_mut() }.expire_at_ms = expire_at_ms;
            return;
        }
        let parts = self.parts();
        if (parts.expire_at_ms > 0) != (expire_at_ms > 0) {
            let clock = self.clock().map(read_clock);
            *self = Body::new(parts.key, parts.value, expire_at_ms, clock);
            return;
        }
        let places = self.places();
        if places.expiring {
            // SAFETY: the places of the expiry lie within the allocation; the only reference.
            let all = unsafe { std::slice::from_raw_parts_mut(self.0.as_ptr(), places.end) };
            all[places.expiry..places.key].copy_from_slice(&expire_at_ms.to_le_bytes());
        }
    }
}

#[allow(unsafe_code)]
impl Drop for Body {
    fn drop(&mut self) {
        if self.form() == LARGE {
            // SAFETY: `new` leaked just such a box, and nobody has taken it back.
            drop(unsafe { Box::from_raw(self.0.cast::<Large>().as_ptr()) });
        } else {
            let layout = self.places().layout();
            // SAFETY: allocated by `new` with the layout of just these places.
            unsafe { dealloc(self.0.as_ptr(), layout) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lengths around each change of layout.
    const LENGTHS: [usize; 8] = [0, 1, 127, 128, 300, SHARED_BYTES - 1, SHARED_BYTES, 20_000];

    fn bytes(len: usize, first: u8) -> Vec<u8> {
        (0..len).map(|n| first.wrapping_add(n as u8)).collect()
    }

    #[test]
    fn holds_what_it_was_given_whatever_the_lengths() {
        for key_len in LENGTHS {
            for value_len in LENGTHS {
                let (key, value) = (bytes(key_len, 1), bytes(value_len, 2));
                let mut entry = Entry::new(7, &key, &value, None);
                for clock in [None, Some(0x12_3456)] {
                    for at in [None, Some(Millis(5)), Some(Millis(u64::MAX)), None, None] {
                        entry.set_expire_at(at);
                        assert_eq!((entry.key(), entry.value()), (&key[..], &value[..]));
                        assert_eq!((entry.hash, entry.expire_at()), (7, at));
                        assert_eq!(entry.clock(), clock);
                        entry.set_clock(|clock| clock ^ 0xff_00ff);
                        entry.set_clock(|clock| clock ^ 0xff_00ff);
                    }
                    entry.give_clock(0x12_3456);
                }
                assert_eq!(entry.shared(..), value);
                let half = value_len / 2;
                assert_eq!(entry.shared(half..), value[half..]);
            }
        }
    }

    #[test]
    fn a_reply_outlives_its_entry() {
        for len in LENGTHS {
            let entry = Entry::new(1, b"key", &bytes(len, 3), Some(Millis(9)));
            let reply = entry.shared(..);
            drop(entry);
            assert_eq!(reply, bytes(len, 3));
        }
    }

    #[test]
    fn a_key_is_there_in_the_millisecond_it_expires_at() {
        let entry = Entry::new(1, b"key", b"", Some(Millis(9)));
        assert_eq!(
            [8, 9, 10].map(|now| entry.is_expired(Millis(now))),
            [false, false, true]
        );
        assert!(!Entry::new(1, b"key", b"", None).is_expired(Millis(u64::MAX)));
    }

    #[test]
    fn entries_are_small() {
        assert_eq!(size_of::<Entry>(), 16);
        let entry = Entry::new(1, &bytes(16, 0), &bytes(100, 0), None);
        assert_eq!(entry.body.places().end, 119);
        let entry = Entry::with_clock(1, &bytes(16, 0), &bytes(100, 0), None, Some(7));
        assert_eq!((entry.body.places().end, entry.clock()), (122, Some(7)));
    }
}
