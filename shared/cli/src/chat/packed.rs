//! Snapshots of models that are given as something else: packed into the cache once.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result};
use defrost_model::isa;

use crate::pack;
use crate::place::RestoreArgs;
use crate::print::note;

/// What every GGUF file begins with.
const GGUF: &[u8; 4] = b"GGUF";

/// The place of a model's snapshot: itself, or of a GGUF file or a model of the hub the one in the cache, which is made if
/// it is not there.
pub(super) fn snapshot(target: &str, restore: &RestoreArgs) -> Result<String> {
    let (name, key) = if target.starts_with("hf://") {
        let name = target.trim_start_matches("hf://").replace(['/', '@', ':'], "-");
        (name, target.to_owned())
    } else if is_gguf(Path::new(target)) {
        let file = Path::new(target);
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        (name, identity(file)?)
    } else {
        return Ok(target.to_owned());
    };
    let out = place(&restore.cache(), &name, &key);
    if !out.is_file() {
        note!("packing {target} into {}, once", out.display());
        let args = pack::Args {
            source: target.to_owned(),
            out: Some(out.clone()),
            force: true,
            precision: None,
            isa: None,
            name: None,
            template: None,
            max_length: None,
            matryoshka: None,
            decisions: pack::Decisions {
                kind: Some(pack::KindArg::Chat),
                ..pack::Decisions::default()
            },
            outliers: pack::OutliersArg::default(),
            no_stored_prefix: false,
        };
        pack::pack(&args).with_context(|| format!("cannot make a snapshot of {target}"))?;
    }
    Ok(out.display().to_string())
}

fn is_gguf(file: &Path) -> bool {
    let mut magic = [0; GGUF.len()];
    let read = File::open(file).and_then(|mut file| file.read_exact(&mut magic));
    read.is_ok() && magic == *GGUF
}

/// What tells a file from what it was before it was written anew.
fn identity(file: &Path) -> Result<String> {
    let about = || format!("cannot look at {}", file.display());
    let place = file.canonicalize().with_context(about)?;
    let meta = file.metadata().with_context(about)?;
    let changed = meta.modified().with_context(about)?;
    let changed = changed.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    Ok(format!("{}\0{}\0{changed}", place.display(), meta.len()))
}

/// Another tool or another machine may pack otherwise.
fn place(cache: &Path, name: &str, key: &str) -> PathBuf {
    let key = format!("{key}\0{}", env!("CARGO_PKG_VERSION"));
    let hash = blake3::hash(key.as_bytes()).to_hex();
    cache.join(format!("{name}-{}.{}-{}.snap", &hash[..16], isa::NATIVE, isa::LAYOUT_ABI))
}
