//! The bytes of a simulated file: pages that are shared until one side writes, and no page where
//! only zeroes are. So a reserved segment costs nothing, and a crash image costs no copy.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes of a page, as the kernel's.
pub(super) const PAGE: usize = 4096;

/// What a file holds. Behind `len` there are only zeroes.
#[derive(Clone, Default)]
pub(super) struct Content {
    len: u64,
    pages: BTreeMap<u64, Arc<[u8; PAGE]>>,
}

/// Cuts a range of bytes where pages end: the page, the place in it, the bytes of this piece.
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        (done < len).then(|| {
            let at = offset + done as u64;
            let (page, within) = (at / PAGE as u64, (at % PAGE as u64) as usize);
            let n = (PAGE - within).min(len - done);
            done += n;
            (page, within, done - n..done)
        })
    })
}

/// The pages that a range of bytes touches.
pub(super) fn pages_of(offset: u64, len: usize) -> impl Iterator<Item = u64> {
    pieces(offset, len).map(|(page, _, _)| page)
}

impl Content {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// How many pages take memory.
    #[cfg(test)]
    pub(super) fn page_count(&self) -> usize {
        self.pages.len()
    }

    /// The pages from this byte on that hold anything.
    pub(super) fn pages_from(&self, offset: u64) -> impl Iterator<Item = u64> + '_ {
        self.pages
            .range(offset / PAGE as u64..)
            .map(|(page, _)| *page)
    }

    /// Fills `buffer` as far as the file goes; how far.
    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let left = self.len.saturating_sub(offset).min(buffer.len() as u64) as usize;
        for (page, within, piece) in pieces(offset, left) {
            let n = piece.len();
            match self.pages.get(&page) {
                Some(bytes) => buffer[piece].copy_from_slice(&bytes[within..within + n]),
                None => buffer[piece].fill(0),
            }
        }
        left
    }

    /// Writes, making the file longer where it must be.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        self.len = self.len.max(offset + bytes.len() as u64);
        for (page, within, piece) in pieces(offset, bytes.len()) {
            let page = self
                .pages
                .entry(page)
                .or_insert_with(|| Arc::new([0; PAGE]));
            Arc::make_mut(page)[within..within + piece.len()].copy_from_slice(&bytes[piece]);
        }
    }

    /// Writes what lies before the end of the file.
    pub(super) fn write_within(&mut self, offset: u64, bytes: &[u8]) {
        let left = self.len.saturating_sub(offset).min(bytes.len() as u64);
        self.write_nonempty(offset, &bytes[..left as usize]);
    }

    fn write_nonempty(&mut self, offset: u64, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.write(offset, bytes);
        }
    }

    /// Cuts, or extends with zeroes.
    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.len {
            let kept = len.div_ceil(PAGE as u64);
            self.pages.split_off(&kept);
            if let Some(page) = self.pages.get_mut(&(len / PAGE as u64)) {
                Arc::make_mut(page)[(len % PAGE as u64) as usize..].fill(0);
            }
        }
        self.len = len;
    }

    /// Takes one page as `from` has it; the length stays.
    pub(super) fn take_page(&mut self, from: &Content, page: u64) {
        match from.pages.get(&page) {
            Some(bytes) => self.pages.insert(page, Arc::clone(bytes)),
            None => self.pages.remove(&page),
        };
    }

    /// Flips one bit. `false` behind the end of the file.
    pub(super) fn flip(&mut self, bit: u64) -> bool {
        let mut byte = [0];
        let there = self.read(&mut byte, bit / 8) == 1;
        if there {
            self.write(bit / 8, &[byte[0] ^ (1 << (bit % 8))]);
        }
        there
    }

    /// The offset behind the last byte that is not zero.
    pub(super) fn used(&self) -> u64 {
        self.pages
            .iter()
            .rev()
            .find_map(|(page, bytes)| {
                let last = bytes.iter().rposition(|byte| *byte != 0)?;
                Some(page * PAGE as u64 + last as u64 + 1)
            })
            .unwrap_or(0)
    }

    /// All of it.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len as usize];
        self.read(&mut bytes, 0);
        bytes
    }
}
