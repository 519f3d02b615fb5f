//! The folder of parts: `OUT.parts`, and others whose answers may be used as well.
//!
//! One run a shard writes there, which a lock ensures; a run that dies gives it up. Names count up:
//! `0003-of-0008.000012.part`. What a killed run had not finished ends in `.tmp` and is removed by the next. Files by
//! other names are not the tool's: no run removes them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail};

use super::Answer;
use super::index::{Index, Place};
use super::key::{Key, Settings};
use super::part::{self, PartWriter, Scanned};
use super::shard::Shard;

/// Parts kept open while the output is written: in input order their answers follow each other, so few are enough, and a
/// process may open some 1,000 files.
const MOST_OPEN: usize = 64;

/// What is known about answers that are there.
#[derive(Debug)]
pub(super) struct Parts {
    dir: PathBuf,
    prefix: String,
    settings: Settings,
    /// The lock of the shard, held while the folder is open.
    lock: File,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    /// Number in the name of the next part.
    next: u32,
    paths: Vec<PathBuf>,
    index: Index,
}

/// What was found when a run began.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Parts that count.
    pub(super) parts: usize,
    /// The answers in the parts that count.
    pub(super) answers: u64,
    /// The notes for the user about the other parts.
    pub(super) notes: Vec<String>,
}

impl Parts {
    /// `OUT.parts`.
    pub(super) fn dir_of(out: &Path) -> PathBuf {
        let mut name: OsString = out.as_os_str().to_owned();
        name.push(".parts");
        name.into()
    }

    /// Whether a run was at work in this folder before.
    pub(super) fn are_in(dir: &Path) -> bool {
        list(dir).is_ok_and(|paths| paths.iter().any(|path| own(path).is_some()))
    }

    /// Opens the folder, and reads all parts in it and in `more`.
    pub(super) fn open(
        dir: PathBuf,
        more: &[PathBuf],
        shard: Shard,
        settings: Settings,
    ) -> Result<(Self, Found)> {
        match std::fs::create_dir(&dir) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(error)
                    .with_context(|| format!("cannot create the folder {}", dir.display()));
            }
            _ => {}
        }
        let prefix = shard.prefix();
        let lock = lock(&dir.join(format!("{prefix}lock")))?;
        let mut known = Known { next: 0, paths: Vec::new(), index: Index::new()? };
        let mut found = Found::default();
        for path in list(&dir)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let Some(rest) = name.strip_prefix(&prefix) else { continue };
            if own(&path) == Some(Own::Temporary) {
                std::fs::remove_file(&path)
                    .with_context(|| format!("cannot remove {}", path.display()))?;
            }
            let number: Option<u32> = rest.split('.').next().and_then(|number| number.parse().ok());
            known.next = number.map_or(known.next, |number| known.next.max(number + 1));
        }
        let mut others: BTreeMap<String, (usize, PathBuf)> = BTreeMap::new();
        for dir in std::iter::once(&dir).chain(more) {
            for path in
                list(dir)?.into_iter().filter(|path| path.extension() == Some("part".as_ref()))
            {
                match part::scan(&path, &settings) {
                    Ok(Scanned::Right(places)) => {
                        found.parts += 1;
                        known.add(path, places)?;
                    }
                    Ok(Scanned::Other(other)) => {
                        let differences = settings.differences(&other);
                        others.entry(differences).or_insert_with(|| (0, dir.clone())).0 += 1;
                    }
                    Err(error) => found.notes.push(format!(
                        "{} is damaged and not used: {error:#}; remove it",
                        path.display()
                    )),
                }
            }
        }
        found.notes.extend(others.into_iter().map(|(differences, (count, dir))| {
            format!(
                "{}: {count} parts belong to another run and are not used: {differences}",
                dir.display()
            )
        }));
        found.answers = known.index.len();
        let known = Mutex::new(known);
        Ok((Self { dir, prefix, settings, lock, known }, found))
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this key is met for the first time and has no answer: the caller sees to it from now on.
    pub(super) fn claim(&self, key: &Key) -> Result<bool> {
        let mut known = self.known();
        let new = known.index.get(key)?.is_none();
        if new {
            known.index.set(key, Place::Pending)?;
        }
        Ok(new)
    }

    /// There will be no answer for this key.
    pub(super) fn refuse(&self, key: &Key) -> Result<()> {
        self.known().index.set(key, Place::Refused)
    }

    /// A new part.
    pub(super) fn create(&self) -> Result<PartWriter> {
        let mut known = self.known();
        let name = format!("{}{:06}.part", self.prefix, known.next);
        known.next += 1;
        PartWriter::create(self.dir.join(name), &self.settings)
    }

    /// Takes a part that is finished into account.
    pub(super) fn add(&self, part: PartWriter) -> Result<()> {
        let (path, places) = part.finish()?;
        self.known().add(path, places)
    }

    /// Where the output is written before it gets its name: beside the parts, so on the same file system as the output.
    pub(super) fn temporary(&self) -> PathBuf {
        self.dir.join(format!("{}joined.tmp", self.prefix))
    }

    /// A reader of the answers.
    pub(super) fn answers(&self) -> AnswerReader<'_> {
        AnswerReader { parts: self, open: BTreeMap::new() }
    }

    /// Removes all parts of the folder, the locks that no run holds, and the folder if nothing else is in it.
    pub(super) fn remove(self) -> Result<()> {
        let Self { dir, lock: held, .. } = self;
        drop(held);
        for path in list(&dir)? {
            let goes = match own(&path) {
                Some(Own::Part) => true,
                Some(Own::Lock) => lock(&path).is_ok(),
                Some(Own::Temporary) | None => false,
            };
            if goes {
                std::fs::remove_file(&path)
                    .with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        // A folder with other files in it stays: they are not the tool's.
        let _ = std::fs::remove_dir(&dir);
        Ok(())
    }
}

impl Known {
    fn add(&mut self, path: PathBuf, places: Vec<(Key, u32)>) -> Result<()> {
        let part = u32::try_from(self.paths.len())?;
        self.paths.push(path);
        for (key, offset) in places {
            self.index.set(&key, Place::At { part, offset })?;
        }
        Ok(())
    }
}

/// Reads answers by key.
#[derive(Debug)]
pub(super) struct AnswerReader<'a> {
    parts: &'a Parts,
    open: BTreeMap<u32, File>,
}

/// What there is for a key.
#[derive(Debug)]
pub(super) enum Lookup {
    Answer(Answer),
    Refused,
    Missing,
}

impl AnswerReader<'_> {
    pub(super) fn get(&mut self, key: &Key) -> Result<Lookup> {
        let (place, path) = {
            let known = self.parts.known();
            match known.index.get(key)? {
                Some(Place::At { part, offset }) => {
                    ((part, offset), known.paths[part as usize].clone())
                }
                Some(Place::Refused) => return Ok(Lookup::Refused),
                Some(Place::Pending) | None => return Ok(Lookup::Missing),
            }
        };
        let (number, offset) = place;
        let named = || format!("cannot read {}", path.display());
        if !self.open.contains_key(&number) {
            if self.open.len() >= MOST_OPEN {
                self.open.clear();
            }
            self.open.insert(number, File::open(&path).with_context(named)?);
        }
        let answer = part::read(&self.open[&number], offset, key).with_context(named)?;
        Ok(Lookup::Answer(answer))
    }
}

/// A file that runs make in their folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Own {
    Part,
    Lock,
    Temporary,
}

/// What a file is by its name: `0003-of-0008.000012.part`, `….000012.tmp`, `….joined.tmp` or `….lock`; nothing if it is
/// not one of a run's.
fn own(path: &Path) -> Option<Own> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (shard, rest) = path.file_name()?.to_str()?.split_once('.')?;
    let (index, count) = shard.split_once("-of-")?;
    if !digits(index) || !digits(count) {
        return None;
    }
    match rest.split_once('.') {
        None if rest == "lock" => Some(Own::Lock),
        Some((number, "part")) if digits(number) => Some(Own::Part),
        Some((number, "tmp")) if digits(number) || number == "joined" => Some(Own::Temporary),
        _ => None,
    }
}

/// The files of a folder, by name.
fn list(dir: &Path) -> Result<Vec<PathBuf>> {
    let read = || -> std::io::Result<Vec<PathBuf>> {
        std::fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect()
    };
    let mut paths = read().with_context(|| format!("cannot read the folder {}", dir.display()))?;
    paths.sort();
    Ok(paths)
}

fn lock(path: &Path) -> Result<File> {
    let named = || format!("cannot lock {}", path.display());
    // Nothing is written into it: whatever has the name keeps its bytes.
    let file = File::options().write(true).create(true).truncate(false).open(path);
    let file = file.with_context(named)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            bail!(
                "another run is at work here: {} is locked; wait for it, or give another --out or --shard",
                path.display()
            )
        }
        // Some network file systems have no locks. Two runs there do the same work twice, and write the same answers.
        Err(TryLockError::Error(error)) if error.kind() == std::io::ErrorKind::Unsupported => {
            Ok(file)
        }
        Err(TryLockError::Error(error)) => Err(error).with_context(named),
    }
}
