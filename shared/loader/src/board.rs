//! Which chunks of a snapshot may be read: one state a chunk, and a bell that rings when one changes.
//!
//! ```text
//!   0  magic 8, u32 format, u32 chunks, 32 bytes root     written once, before MANIFEST is set
//!  48  u32 generation      the bell: counts every change; waiters sleep on it (futex)
//!  52  u32 flags           MANIFEST: superblock and manifest of the partial file are in place
//!  64  one byte a chunk    IDLE, TAKEN, WANTED or GOOD
//! ```
//!
//! The same board serves two cases. In private memory it coordinates the threads of one process that read or hash a
//! local file: a thread *takes* an idle chunk, and declares it good. In a file beside a download (`<root>.state`) it is
//! shared by every process on the host: the one that downloads declares chunks good, all others wait for them, and
//! write WANTED where a reader waits, so that the downloader fetches those chunks first. The file outlives a killed
//! process and tells its successor what is there already.
//!
//! GOOD is stored with release after the chunk's bytes are in place and read with acquire before they are looked at.
//! A waiter reads the generation, looks at the states, and sleeps only if the generation is still the one it read, so
//! no ring is missed. The futex is a shared one in both cases; that costs nothing measurable.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::fs::Timespec;
use rustix::thread::futex;

use crate::map::Words;
use crate::root::Root;

const MAGIC: [u8; 8] = *b"DFRSTBRD";
const FORMAT: u32 = 1;
const GENERATION: usize = 48;
const FLAGS: usize = 52;
const HEADER: usize = 64;

/// Flag: the partial file's superblock and manifest are complete.
const MANIFEST: u32 = 1;

/// No worker has begun this chunk.
pub(crate) const IDLE: u8 = 0;
/// A thread of this process is reading or hashing it (local boards only).
pub(crate) const TAKEN: u8 = 1;
/// A reader waits for this chunk (shared boards only).
pub(crate) const WANTED: u8 = 2;
/// The chunk's bytes are in place and verified.
pub(crate) const GOOD: u8 = 3;

/// States of all chunks of one snapshot.
#[derive(Debug)]
pub(crate) struct Board {
    words: Words,
    chunks: usize,
}

impl Board {
    /// All chunks idle, in this process.
    pub(crate) fn private(chunks: usize) -> io::Result<Self> {
        Ok(Self { words: Words::private(HEADER + chunks)?, chunks })
    }

    /// The board in a file; the file is made long enough first.
    pub(crate) fn shared(file: &File, chunks: usize) -> io::Result<Self> {
        let len = HEADER + chunks;
        if file.metadata()?.len() < len as u64 {
            file.set_len(len as u64)?;
        }
        Ok(Self { words: Words::shared(file, len)?, chunks })
    }

    /// Whether readers may begin.
    pub(crate) fn is_published(&self) -> bool {
        self.flags().load(Ordering::Acquire) & MANIFEST != 0
    }

    /// Whether this board was published for the download of this snapshot, now or before it was withdrawn.
    pub(crate) fn describes(&self, root: Root, chunks: usize) -> bool {
        self.header() == header(root, chunks)
    }

    /// Names the snapshot; readers may begin.
    pub(crate) fn publish(&self, root: Root) {
        for (offset, byte) in header(root, self.chunks).into_iter().enumerate() {
            self.words.byte(offset).store(byte, Ordering::Relaxed);
        }
        self.flags().fetch_or(MANIFEST, Ordering::AcqRel);
        self.ring();
    }

    /// Closes the board to readers that have not begun; for a new leader, until it has looked at what is there.
    pub(crate) fn withdraw(&self) {
        self.flags().fetch_and(!MANIFEST, Ordering::AcqRel);
    }

    /// Forgets everything; for a board left by an unfinished download of another format.
    pub(crate) fn clear(&self) {
        self.flags().store(0, Ordering::Release);
        (0..self.chunks)
            .for_each(|chunk| self.words.byte(HEADER + chunk).store(IDLE, Ordering::Release));
    }

    pub(crate) fn chunks(&self) -> usize {
        self.chunks
    }

    pub(crate) fn is_good(&self, chunk: usize) -> bool {
        self.state(chunk) == GOOD
    }

    pub(crate) fn state(&self, chunk: usize) -> u8 {
        self.words.byte(HEADER + chunk).load(Ordering::Acquire)
    }

    pub(crate) fn all_good(&self, mut chunks: Range<usize>) -> bool {
        chunks.all(|chunk| self.is_good(chunk))
    }

    /// Moves a chunk from idle to `TAKEN`; true for the one caller that did.
    pub(crate) fn take(&self, chunk: usize) -> bool {
        self.swap(chunk, IDLE, TAKEN)
    }

    /// Notes that a reader waits for a chunk that no worker has begun.
    pub(crate) fn want(&self, chunk: usize) {
        self.swap(chunk, IDLE, WANTED);
    }

    /// Declares a chunk good and wakes the threads and processes that wait.
    pub(crate) fn good(&self, chunk: usize) {
        self.words.byte(HEADER + chunk).store(GOOD, Ordering::Release);
        self.ring();
    }

    /// Declares all chunks good.
    pub(crate) fn all_are_good(&self) {
        (0..self.chunks)
            .for_each(|chunk| self.words.byte(HEADER + chunk).store(GOOD, Ordering::Release));
        self.ring();
    }

    /// Takes back what a killed process declared; its successor found other bytes.
    pub(crate) fn not_good(&self, chunk: usize) {
        self.words.byte(HEADER + chunk).store(IDLE, Ordering::Release);
    }

    /// Wakes every waiter, to look again.
    pub(crate) fn ring(&self) {
        self.generation_word().fetch_add(1, Ordering::AcqRel);
        // The only failure is a bad address, and the word is ours.
        let _ = futex::wake(self.generation_word(), futex::Flags::empty(), i32::MAX.unsigned_abs());
    }

    /// The generation, to be read before looking at states and given to [`Board::wait`] after.
    pub(crate) fn generation(&self) -> u32 {
        self.generation_word().load(Ordering::Acquire)
    }

    /// Sleeps until the generation is another one or the time is over.
    pub(crate) fn wait(&self, generation: u32, longest: Duration) {
        let timeout = Timespec {
            tv_sec: i64::try_from(longest.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: longest.subsec_nanos().into(),
        };
        // Woken, timed out, interrupted or too late: the caller looks again in every case.
        let _ =
            futex::wait(self.generation_word(), futex::Flags::empty(), generation, Some(&timeout));
    }

    fn swap(&self, chunk: usize, from: u8, to: u8) -> bool {
        let state = self.words.byte(HEADER + chunk);
        state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    fn header(&self) -> [u8; GENERATION] {
        std::array::from_fn(|offset| self.words.byte(offset).load(Ordering::Relaxed))
    }

    fn generation_word(&self) -> &AtomicU32 {
        self.words.word(GENERATION)
    }

    fn flags(&self) -> &AtomicU32 {
        self.words.word(FLAGS)
    }
}

fn header(root: Root, chunks: usize) -> [u8; GENERATION] {
    let mut header = [0; GENERATION];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    header[12..16].copy_from_slice(&u32::try_from(chunks).unwrap_or(u32::MAX).to_le_bytes());
    header[16..48].copy_from_slice(root.as_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_taken_once_and_wanted_only_while_idle() {
        let board = Board::private(3).unwrap();
        assert!(board.take(1) && !board.take(1));
        board.want(1);
        board.want(2);
        assert_eq!((board.state(0), board.state(1), board.state(2)), (IDLE, TAKEN, WANTED));
        board.good(1);
        board.want(1);
        assert!(board.is_good(1) && board.all_good(1..2) && !board.all_good(0..2));
    }

    #[test]
    fn a_waiter_that_read_the_generation_before_a_change_does_not_sleep() {
        let board = Board::private(1).unwrap();
        let generation = board.generation();
        board.good(0);
        // Would sleep for a century if the change went unnoticed.
        board.wait(generation, Duration::from_hours(876_000));
        assert!(board.is_good(0));
    }

    #[test]
    fn a_shared_board_is_seen_through_another_mapping_of_its_file() {
        let file = tempfile::tempfile().unwrap();
        let (ours, root) = (Board::shared(&file, 70).unwrap(), Root::of(b"m"));
        assert!(!ours.describes(root, 70) && !ours.is_published());
        ours.publish(root);
        ours.good(69);
        let theirs = Board::shared(&file, 70).unwrap();
        assert!(
            theirs.describes(root, 70)
                && theirs.is_published()
                && theirs.is_good(69)
                && !theirs.is_good(0)
        );
        assert!(!theirs.describes(Root::of(b"n"), 70) && !theirs.describes(root, 69));
        theirs.clear();
        assert!(!ours.is_published() && !ours.is_good(69));
    }

    #[test]
    fn a_board_whose_file_is_shortened_forgets_and_goes_on() {
        let file = tempfile::tempfile().unwrap();
        let board = Board::shared(&file, 70).unwrap();
        board.publish(Root::of(b"m"));
        file.set_len(0).unwrap();
        // The first access after the file is gone is a store.
        board.good(3);
        assert!(board.is_good(3) && !board.is_published());
    }
}
