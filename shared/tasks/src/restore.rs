//! From a location to a snapshot the kernels can read.
//!
//! A native snapshot is mapped, or fetched, and that is all. A portable one is packed for this processor family
//! once: the result is written to the cache directory under its parent's root, found there by every
//! later start, and verified like any other snapshot. ONNX models are used as they are: their runtime packs.

use std::path::{Path, PathBuf};

use defrost_engine::plan::{Naming, Storage, plan};
use defrost_loader::{
    Cache, Dtype, FetchOptions, Location, OpenOptions, Snapshot, SnapshotWriter, VerifyMode,
};

use crate::encode::{Encoding, Precision};
use crate::pack::{COMPILED_TOKENIZER, TOKENIZER, TokenizerFiles, snapshot_plan};
use crate::spec::ModelSpec;
use crate::{Error, isa, quality};

/// Metadata key of a native copy: the root of the portable snapshot it was made from.
const PARENT: &str = "portable.root";

/// How to restore.
#[derive(Debug, Clone, Default)]
pub struct RestoreOptions {
    /// When bytes are hashed.
    pub verify: VerifyMode,
    /// Where stamps, downloads and packed copies of portable snapshots go. `None`: stamps beside a local snapshot,
    /// all else in [`default_cache`].
    pub cache_dir: Option<PathBuf>,
    /// Most bytes that downloads may take there; others are removed first, least recently used first.
    pub cache_max_bytes: Option<u64>,
    /// Threads that hash; `None`: one per core.
    pub threads: Option<usize>,
    /// How downloads behave.
    pub fetch: FetchOptions,
}

impl RestoreOptions {
    /// As the loader's options, for snapshots that this build's kernels read.
    pub fn for_loader(&self) -> defrost_loader::RestoreOptions {
        let mut open = OpenOptions::new(isa::ACCEPTED, isa::LAYOUT_ABI);
        open.verify = self.verify;
        open.stamp_dir.clone_from(&self.cache_dir);
        if let Some(threads) = self.threads {
            open.threads = threads.max(1);
        }
        let cache = Some(Cache::new(self.cache(), self.cache_max_bytes));
        defrost_loader::RestoreOptions {
            cache,
            fetch: self.fetch.clone(),
            ..defrost_loader::RestoreOptions::new(open)
        }
    }

    fn cache(&self) -> PathBuf {
        self.cache_dir.clone().unwrap_or_else(default_cache)
    }
}

/// Opens the snapshot at `location` (a path or `s3://bucket/key`), packed for this machine. One that is fetched may be
/// used before it is complete; see [`defrost_loader::restore`].
pub fn restore(location: &Location, options: &RestoreOptions) -> Result<Snapshot, Error> {
    let loader = options.for_loader();
    if let Some(dir) = &options.cache_dir {
        // A directory that cannot be made only costs the stamp; packing and fetching below say it loudly.
        let _ = std::fs::create_dir_all(dir);
    }
    let snapshot = defrost_loader::restore(location, &loader)?;
    if snapshot.isa() != isa::PORTABLE || crate::onnx::holds_graph(&snapshot) {
        return Ok(snapshot);
    }
    let (cache, open) = (options.cache(), loader.open);
    let name = format!("{}.{}-{}.snap", snapshot.root(), isa::NATIVE, isa::LAYOUT_ABI);
    let packed = cache.join(name);
    if packed.is_file() {
        match Snapshot::open(&packed, &open) {
            Ok(copy) if copy.meta(PARENT) == Some(&snapshot.root().to_string()) => return Ok(copy),
            // A damaged or foreign copy is only a cache miss: the parent is verified and at hand.
            Ok(_) | Err(_) => pack_native(&snapshot, &packed)?,
        }
    } else {
        std::fs::create_dir_all(&cache).map_err(|err| {
            Error::Model(format!(
                "cannot create {} for the packed copy of a portable snapshot: {err}; \
                 set CACHE_DIR to a writable directory or pack with --isa {}",
                cache.display(),
                isa::NATIVE
            ))
        })?;
        pack_native(&snapshot, &packed)?;
    }
    Ok(Snapshot::open(&packed, &open)?)
}

/// Where downloads and packed copies go when nothing is said: `$XDG_CACHE_HOME/defrost`, `~/.cache/defrost`, or the
/// temporary directory.
pub fn default_cache() -> PathBuf {
    let home = |name: &str, below: &str| {
        std::env::var_os(name).filter(|dir| !dir.is_empty()).map(|dir| Path::new(&dir).join(below))
    };
    home("XDG_CACHE_HOME", "defrost")
        .or_else(|| home("HOME", ".cache/defrost"))
        .unwrap_or_else(|| std::env::temp_dir().join("defrost"))
}

/// Writes the native copy of a portable snapshot: panels instead of rows, the rest as it is.
fn pack_native(portable: &Snapshot, out: &Path) -> Result<(), Error> {
    let spec = ModelSpec::from_snapshot(portable)?;
    let precision = portable
        .meta("precision")
        .and_then(Precision::by_name)
        .ok_or_else(|| Error::Model("the snapshot does not say its precision".into()))?;
    let report = portable.meta(quality::KEY);
    let bf16 = quality::bf16_parts(report).ok_or_else(|| {
        Error::Model(format!("metadata {:?} of the snapshot cannot be read", quality::KEY))
    })?;
    let encoding = Encoding { precision, isa: isa::NATIVE, bf16: &bf16 };
    let groups = plan(&spec.config, &Naming::default());
    let json = portable.tensor(TOKENIZER)?;
    let compiled = portable.has(COMPILED_TOKENIZER).then(|| portable.tensor(COMPILED_TOKENIZER));
    let compiled = compiled.transpose()?;
    let tokenizer = TokenizerFiles {
        json: &json.bytes,
        compiled: compiled.as_ref().map(|tensor| &tensor.bytes[..]),
    };
    let mut plan = snapshot_plan(&spec, &groups, encoding, tokenizer);
    plan.meta.insert(PARENT.to_owned(), portable.root().to_string());
    if let Some(report) = report {
        plan.meta.insert(quality::KEY.to_owned(), report.to_owned());
    }
    let mut writer = SnapshotWriter::create(out, plan)?;
    tokenizer.write(&mut writer)?;
    for part in groups.iter().flat_map(|group| &group.parts) {
        let rows = Encoding { isa: isa::PORTABLE, ..encoding };
        for (planned, expected) in encoding.plan(part).iter().zip(rows.plan(part)) {
            let tensor = portable.tensor(&planned.name)?;
            if (tensor.dtype, tensor.layout.as_str(), &tensor.shape, tensor.bytes.len())
                != (expected.dtype, expected.layout.as_str(), &expected.shape, expected.len)
            {
                return Err(Error::Model(format!(
                    "tensor {:?} is {} {} {:?} of {} bytes, its metadata imply {} {} {:?} of {} \
                     bytes: the portable snapshot was not written by `defrost pack`",
                    planned.name,
                    tensor.dtype,
                    tensor.layout,
                    tensor.shape,
                    tensor.bytes.len(),
                    expected.dtype,
                    expected.layout,
                    expected.shape,
                    expected.len
                )));
            }
            let is_matrix = planned.name == part.name
                && matches!(part.storage, Storage::Linear | Storage::LinearF32);
            if !is_matrix {
                writer.write(&planned.name, &tensor.bytes)?;
                continue;
            }
            let bytes = match planned.dtype {
                Dtype::I8 => encoding.matrix(
                    part,
                    bytemuck::cast_slice::<u8, i8>(&tensor.bytes),
                    defrost_engine::layout::INT8_GROUP,
                ),
                Dtype::Bf16 => {
                    encoding.matrix(part, bytemuck::cast_slice::<u8, u16>(&tensor.bytes), 1)
                }
                _ => encoding.matrix(part, bytemuck::cast_slice::<u8, u32>(&tensor.bytes), 1),
            };
            writer.write(&planned.name, &bytes)?;
        }
    }
    writer.finish()?;
    Ok(())
}
