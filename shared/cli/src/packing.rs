//! What is no snapshot yet becomes one: a GGUF file, a checkpoint's folder or one of the hub is packed into `CACHE_DIR/packed`
//! when it is first loaded, and restored from there afterwards.
//!
//! ```text
//! place ── stamp (size and times of its files) ──> known: the snapshot it was packed to
//!   └──── hash of its bytes ──> a snapshot of that name, else: pack it under a lock ──> stamp
//! ```
//!
//! A snapshot's name is a hash of what went into it: the files' names and bytes, what the model is to be, and the layout of this
//! build's kernels. So a file that was moved or copied is not packed again, and one that has changed is. Bytes are hashed at
//! 1 GB/s and more, but not at every start: a stamp says for a path, by the sizes and times of its files, which hash that was.
//!
//! Two processes may begin at once. Each takes the lock of the name first; the second waits, and then finds the snapshot. It
//! appears under its name when it is complete, so nobody reads half of one.

pub(crate) mod form;

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Instant, UNIX_EPOCH};

use anyhow::{Context, Result};
use defrost_loader::{Location, default_cache};
use defrost_model::isa;
use defrost_pack::ModelKind;
use defrost_server::Config;
use defrost_tasks::RestoreOptions;

use crate::pack::{self, Decisions, KindArg};
use crate::print::note;
use crate::progress;

use form::Form;

/// Files of a folder that are looked at.
const MOST_FILES: usize = 10_000;

/// Where packed snapshots are kept.
pub(crate) fn folder(cache: &Path) -> PathBuf {
    cache.join("packed")
}

/// The place that restores the model: that of its snapshot.
pub(crate) fn place(place: &str, kind: ModelKind, cache: &Path) -> Result<String> {
    let files = match form::look(place).map_err(anyhow::Error::msg)? {
        Form::Snapshot { .. } | Form::Bucket => return Ok(place.to_owned()),
        Form::Hub => Vec::new(),
        Form::Gguf(file) => vec![file],
        Form::Folder(folder) => files_of(&folder)?,
        Form::Onnx => files_of(Path::new(place))?,
    };
    let folder = folder(cache);
    fs::create_dir_all(&folder).with_context(|| {
        format!(
            "cannot create {} for what is packed; CACHE_DIR names a folder to write to",
            folder.display()
        )
    })?;
    let packed = if files.is_empty() {
        // A revision of the hub is what its name says.
        let name = name_of(&[], place, kind)?;
        once(place, kind, &folder, &name)?
    } else {
        of_files(place, kind, &files, &folder)?
    };
    Ok(packed.display().to_string())
}

/// A snapshot whose bytes say what its model is for: fetched from a bucket, or packed from the hub.
pub(crate) fn fetched(place: &str, config: &Config) -> Result<String> {
    let cache = config.cache_dir.clone().unwrap_or_else(default_cache);
    let location: Location = place.parse()?;
    note!(
        "{place} is fetched, since its bytes alone say what it is for; a tier (LIGHT={place}) would say it before"
    );
    match location {
        Location::Hub { .. } => {
            let folder = folder(&cache);
            fs::create_dir_all(&folder)?;
            let name = name_of(&[], place, None)?;
            Ok(once(place, None, &folder, &name)?.display().to_string())
        }
        location => {
            let options = RestoreOptions {
                cache_dir: Some(cache.clone()),
                cache_max_bytes: config.cache_max_bytes,
                ..RestoreOptions::default()
            };
            let bar = progress::bytes("fetch");
            let snapshot =
                defrost_loader::fetch(&location, &options.for_loader(), &mut |done, total| {
                    progress::advance(&bar, done, total);
                })?;
            bar.finish_and_clear();
            // While it was fetched it had another name.
            let cached = cache.join(format!("{}.snap", snapshot.root()));
            let path = if cached.is_file() { cached } else { snapshot.path().to_owned() };
            Ok(path.display().to_string())
        }
    }
}

/// The snapshot of these files.
fn of_files(place: &str, kind: ModelKind, files: &[PathBuf], folder: &Path) -> Result<PathBuf> {
    let stamp = stamp(files, kind)?;
    let stamps = folder.join(format!("{}.stamp", short(blake3::hash(stamp.as_bytes()))));
    if let Ok(name) = fs::read_to_string(&stamps) {
        let known = folder.join(name.trim());
        if known.is_file() {
            return Ok(known);
        }
    }
    let name = name_of(files, place, kind)?;
    let packed = once(place, kind, folder, &name)?;
    // Without a stamp, the next start hashes the files once more.
    let _ = written(&stamps, name.as_bytes());
    Ok(packed)
}

/// Packs into the folder under this name, unless that is there.
fn once(
    place: &str,
    kind: impl Into<Option<ModelKind>>,
    folder: &Path,
    name: &str,
) -> Result<PathBuf> {
    let out = folder.join(name);
    if out.is_file() {
        return Ok(out);
    }
    let lock = out.with_extension("lock");
    let locked = File::options().create(true).truncate(false).write(true).open(&lock);
    let locked = locked.with_context(|| format!("cannot write {}", lock.display()))?;
    locked.lock().with_context(|| format!("cannot lock {}", lock.display()))?;
    if out.is_file() {
        return Ok(out);
    }
    note!("packing {place} into {}, once", out.display());
    let begun = Instant::now();
    let decisions = Decisions { kind: kind.into().map(KindArg::from), ..Decisions::default() };
    let args = pack::Args {
        source: place.to_owned(),
        out: Some(out.clone()),
        force: true,
        precision: None,
        outliers: pack::OutliersArg::default(),
        no_stored_prefix: false,
        isa: Some(isa::NATIVE.to_owned()),
        name: None,
        template: None,
        max_length: None,
        matryoshka: None,
        decisions,
    };
    pack::pack(&args).with_context(|| format!("cannot make a snapshot of {place}"))?;
    note!("packed {place} in {:.1} s", begun.elapsed().as_secs_f64());
    Ok(out)
}

/// The name of the snapshot that is made of these files, or of a place of the hub.
fn name_of(files: &[PathBuf], place: &str, kind: impl Into<Option<ModelKind>>) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    let kind = kind.into().map_or("", ModelKind::name);
    let layout = isa::LAYOUT_ABI.to_string();
    for part in [env!("CARGO_PKG_VERSION"), isa::NATIVE, &layout, kind] {
        add(&mut hasher, part.as_bytes());
    }
    let name = form::stem(place);
    add(&mut hasher, if files.is_empty() { place } else { &name }.as_bytes());
    for path in files {
        // Where they lie does not matter, except within their folder.
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let mut content = blake3::Hasher::new();
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        io::copy(&mut io::BufReader::with_capacity(1 << 20, file), &mut content)
            .with_context(|| format!("cannot read {}", path.display()))?;
        add(&mut hasher, name.unwrap_or_default().as_bytes());
        add(&mut hasher, content.finalize().as_bytes());
    }
    let plain: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' })
        .take(100)
        .collect();
    Ok(format!("{plain}-{}.snap", short(hasher.finalize())))
}

/// Adds a part that no other sequence of parts adds up to.
fn add(hasher: &mut blake3::Hasher, part: &[u8]) {
    hasher.update(&(part.len() as u64).to_le_bytes());
    hasher.update(part);
}

/// 128 bits of a hash.
fn short(hash: blake3::Hash) -> String {
    hash.to_hex().chars().take(32).collect()
}

/// What changes when a file does.
fn stamp(files: &[PathBuf], kind: ModelKind) -> Result<String> {
    use std::os::unix::fs::MetadataExt as _;
    let mut stamp = format!(
        "{} {} {} {}",
        env!("CARGO_PKG_VERSION"),
        isa::NATIVE,
        isa::LAYOUT_ABI,
        kind.name()
    );
    for path in files {
        let whole =
            path.canonicalize().with_context(|| format!("cannot find {}", path.display()))?;
        let data =
            fs::metadata(&whole).with_context(|| format!("cannot read {}", path.display()))?;
        let modified = data.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        // Writing to a String does not fail.
        let _ = write!(
            stamp,
            "\n{} {} {} {:?} {}.{}",
            whole.display(),
            data.len(),
            data.ino(),
            modified.unwrap_or_default(),
            data.ctime(),
            data.ctime_nsec()
        );
    }
    Ok(stamp)
}

/// All files of a folder and of those below it, or the file itself and those beside it.
fn files_of(path: &Path) -> Result<Vec<PathBuf>> {
    let root = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
    let (mut folders, mut files) = (vec![root.to_path_buf()], Vec::new());
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder);
        for entry in entries.with_context(|| format!("cannot list {}", folder.display()))? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with('.') {
                continue;
            }
            let path = entry.path();
            if path.is_dir() && !entry.file_type()?.is_symlink() {
                folders.push(path);
            } else if path.is_file() {
                files.push(path);
            }
        }
        anyhow::ensure!(
            files.len() + folders.len() <= MOST_FILES,
            "{} has more than {MOST_FILES} files: expected the folder of one model",
            root.display()
        );
    }
    files.sort();
    Ok(files)
}

/// Writes a file that nobody reads half of.
fn written(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    let file = tempfile::NamedTempFile::new_in(folder)?;
    fs::write(file.path(), bytes)?;
    file.persist(path).map(drop).map_err(|error| error.error)
}
