//! A part: answers in a file that is either complete and right, or not there.
//!
//! ```text
//! "defrost part 1\n"
//! length of the settings (u32), the settings as JSON
//! for each answer: key (32 bytes), tokens (u32), cut (u32), length (u32), so many bytes of answer
//! BLAKE3 of all that
//! ```
//!
//! Numbers are little-endian. It is written under a name that ends in `.tmp`, synced, and renamed; a reader
//! compares the hash before it believes a byte. Where writing fails, the file goes with its writer.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempPath;

use super::Answer;
use super::key::{Key, Settings};

const MAGIC: &[u8; 15] = b"defrost part 1\n";
/// Key, tokens, cut, length.
const HEAD: usize = 32 + 4 + 4 + 4;
const HASH: u64 = 32;
/// Longest settings that are read: a prompt may be a page of text.
const MOST_SETTINGS: usize = 1 << 20;
/// Offsets are 32 bits.
const MOST_BYTES: u64 = u32::MAX as u64;

/// A part that is being written.
#[derive(Debug)]
pub(super) struct PartWriter {
    out: BufWriter<File>,
    hasher: blake3::Hasher,
    /// Removed when dropped; after `out`, which still has bytes to write then.
    temporary: TempPath,
    path: PathBuf,
    bytes: u64,
    /// The key and the offset of each answer.
    places: Vec<(Key, u32)>,
}

impl PartWriter {
    /// A part that will be at `path`.
    pub(super) fn create(path: PathBuf, settings: &Settings) -> Result<Self> {
        let (file, temporary) = create_new(&path.with_extension("tmp"))?;
        let mut part = Self {
            out: BufWriter::new(file),
            hasher: blake3::Hasher::new(),
            temporary,
            path,
            bytes: 0,
            places: Vec::new(),
        };
        let json = settings.to_json()?;
        part.write(MAGIC)?;
        part.write(&u32::try_from(json.len())?.to_le_bytes())?;
        part.write(&json)?;
        Ok(part)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        let written = self.out.write_all(bytes);
        written.with_context(|| format!("cannot write {}", self.temporary.display()))
    }

    pub(super) fn push(&mut self, key: Key, answer: &Answer) -> Result<()> {
        let offset = u32::try_from(self.bytes).context("a part of more than 4 GiB")?;
        self.write(&key.0)?;
        for number in [answer.tokens, answer.cut, u32::try_from(answer.bytes.len())?] {
            self.write(&number.to_le_bytes())?;
        }
        self.write(&answer.bytes)?;
        self.places.push((key, offset));
        Ok(())
    }

    /// Bytes so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Puts it in its place; returns where that is and where its answers are.
    pub(super) fn finish(mut self) -> Result<(PathBuf, Vec<(Key, u32)>)> {
        let hash = *self.hasher.finalize().as_bytes();
        let named = |what: &str| format!("cannot {what} {}", self.temporary.display());
        self.out.write_all(&hash).with_context(|| named("write"))?;
        self.out.flush().with_context(|| named("write"))?;
        self.out.get_ref().sync_data().with_context(|| named("sync"))?;
        let named = named("rename");
        self.temporary.persist(&self.path).with_context(|| named)?;
        Ok((self.path, self.places))
    }
}

/// A new file that is removed again unless it gets another name. What has the name already, a link maybe, is not opened.
pub(super) fn create_new(path: &Path) -> Result<(File, TempPath)> {
    let named = || format!("cannot create {}", path.display());
    let file = File::create_new(path).with_context(named)?;
    Ok((file, TempPath::try_from_path(path).with_context(named)?))
}

/// What a scan of a part found.
#[derive(Debug)]
pub(super) enum Scanned {
    /// The part is right: the key and the offset of each answer.
    Right(Vec<(Key, u32)>),
    /// The part was made under other settings.
    Other(Settings),
}

/// Reads a part from end to end. Fails if anything in it is not as it was written.
pub(super) fn scan(path: &Path, settings: &Settings) -> Result<Scanned> {
    let file = File::open(path).context("cannot open it")?;
    let all = file.metadata().context("cannot read it")?.len();
    ensure!(all <= MOST_BYTES + HASH, "it has {all} bytes, expected at most 4 GiB");
    let Some(end) = all.checked_sub(HASH) else { bail!("it has {all} bytes and ends too early") };
    let mut reader = Hashed { reader: BufReader::new(file), hasher: blake3::Hasher::new(), at: 0 };
    ensure!(&reader.array::<15>()? == MAGIC, "it is not a part of this version");
    let length = u32::from_le_bytes(reader.array()?) as usize;
    ensure!(length <= MOST_SETTINGS, "its settings have {length} bytes");
    let mut json = vec![0; length];
    reader.fill(&mut json)?;
    let found = Settings::from_json(&json)?;
    if found != *settings {
        return Ok(Scanned::Other(found));
    }
    let mut places = Vec::new();
    let mut skipped = Vec::new();
    while reader.at < end {
        let offset = u32::try_from(reader.at)?;
        let (key, _, _, length) = head(&reader.array()?);
        ensure!(reader.at + length as u64 <= end, "an answer at {offset} runs over its end");
        skipped.resize(length, 0);
        reader.fill(&mut skipped)?;
        places.push((key, offset));
    }
    ensure!(reader.at == end, "its last answer runs over its end");
    let expected = *reader.hasher.finalize().as_bytes();
    ensure!(reader.array::<32>()? == expected, "its bytes are not those that were written");
    Ok(Scanned::Right(places))
}

/// The answer at `offset` of an open part, which must be the one to `key`.
pub(super) fn read(part: &File, offset: u32, key: &Key) -> Result<Answer> {
    let mut bytes = [0; HEAD];
    part.read_exact_at(&mut bytes, u64::from(offset))?;
    let (found, tokens, cut, length) = head(&bytes);
    // It was scanned: if its bytes changed since, the user has to be told.
    ensure!(found == *key, "its bytes changed while it was in use");
    let mut bytes = vec![0; length];
    part.read_exact_at(&mut bytes, u64::from(offset) + HEAD as u64)?;
    Ok(Answer { tokens, cut, bytes })
}

fn head(bytes: &[u8; HEAD]) -> (Key, u32, u32, usize) {
    let mut key = [0; 32];
    key.copy_from_slice(&bytes[..32]);
    let number = |at: usize| {
        let mut four = [0; 4];
        four.copy_from_slice(&bytes[at..at + 4]);
        u32::from_le_bytes(four)
    };
    (Key(key), number(32), number(36), number(40) as usize)
}

struct Hashed {
    reader: BufReader<File>,
    hasher: blake3::Hasher,
    at: u64,
}

impl Hashed {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<()> {
        self.reader.read_exact(bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => anyhow::anyhow!("it ends too early"),
            _ => error.into(),
        })?;
        self.hasher.update(bytes);
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn settings(model: &str) -> Settings {
        Settings::new([("model", model.to_owned())]).unwrap()
    }

    fn written(dir: &Path, answers: &[(u8, Vec<u8>)]) -> (PathBuf, Vec<(Key, u32)>) {
        let mut part = PartWriter::create(dir.join("a.part"), &settings("m")).unwrap();
        for (number, bytes) in answers {
            let answer = Answer { tokens: u32::from(*number), cut: 1, bytes: bytes.clone() };
            part.push(Key([*number; 32]), &answer).unwrap();
        }
        assert!(!dir.join("a.part").exists());
        let (path, places) = part.finish().unwrap();
        assert!(!dir.join("a.tmp").exists());
        (path, places)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_is_written_is_read_and_no_changed_byte_is_believed(
            answers in prop::collection::vec((0u8..255, prop::collection::vec(0u8..255, 0..40)), 0..10),
            at in 0.0f64..1.0,
            flip in 1u8..=255,
        ) {
            let dir = tempfile::tempdir().unwrap();
            let (path, places) = written(dir.path(), &answers);
            let Scanned::Right(found) = scan(&path, &settings("m")).unwrap() else { panic!() };
            prop_assert_eq!(&found, &places);
            let file = File::open(&path).unwrap();
            for ((number, bytes), (key, offset)) in answers.iter().zip(places) {
                let answer = read(&file, offset, &key).unwrap();
                prop_assert_eq!((&answer.bytes, answer.tokens), (bytes, u32::from(*number)));
                prop_assert!(read(&file, offset, &Key([255; 32])).is_err());
            }
            let mut bytes = std::fs::read(&path).unwrap();
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place")]
            let at = (at * bytes.len() as f64) as usize;
            bytes[at] ^= flip;
            std::fs::write(&path, &bytes).unwrap();
            // Other settings are another matter: nothing of them is believed either.
            prop_assert!(!matches!(scan(&path, &settings("m")), Ok(Scanned::Right(_))));
            bytes[at] ^= flip;
            std::fs::write(&path, &bytes[..at]).unwrap();
            prop_assert!(!matches!(scan(&path, &settings("m")), Ok(Scanned::Right(_))));
        }
    }

    #[test]
    fn other_settings_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let (path, _) = written(dir.path(), &[(1, vec![2])]);
        let Scanned::Other(found) = scan(&path, &settings("other")).unwrap() else { panic!() };
        assert_eq!(found, settings("m"));
    }
}
