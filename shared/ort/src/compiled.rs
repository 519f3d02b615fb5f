//! The compiled graph of a snapshot: what ONNX Runtime made of it on this processor, in a snapshot of its own.
//!
//! Optimising a graph takes up to a second for large models, and the result is the same each time, so it is stored in the
//! cache directory in ONNX Runtime's own format, which is read where it is mapped. Its file is a snapshot with one tensor:
//! its bytes are verified as those of any other, and it appears under its name whole or not at all.
//!
//! A compiled graph may hold operators for this processor and of this build of the library only. So the name has a hash
//! of the parent's root, the library's build and the processor's features, and all three are metadata that must be equal.
//! A copy that is damaged or does not fit is as good as none.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use defrost_loader::{Dtype, OpenOptions, Plan, SegmentPlan, Snapshot, SnapshotWriter, TensorPlan};
use defrost_model::stored::FILE;
use defrost_model::{Error, isa};

use super::runtime;

/// Name of the tensor that holds the graph.
pub(super) const COMPILED: &str = "graph.ort";

/// Where the compiled graph of a snapshot is or would be.
#[derive(Debug)]
pub(super) struct Place {
    dir: PathBuf,
    path: PathBuf,
    meta: BTreeMap<String, String>,
}

/// A file for ONNX Runtime to write into, removed when dropped.
#[derive(Debug)]
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // It may never have been written.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Place {
    /// The place for this snapshot, under this build of the library, on this processor.
    pub(super) fn of(snapshot: &Snapshot, build: &str, dir: &Path) -> Self {
        let dir = dir.to_path_buf();
        let root = snapshot.root().to_string();
        let meta: BTreeMap<String, String> = [
            ("backend", "ort-compiled"),
            ("compiled.root", &root),
            ("compiled.library", build),
            ("compiled.processor", &processor()),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
        // A hash that changes with the standard library costs one compilation.
        let mut hasher = DefaultHasher::new();
        meta.hash(&mut hasher);
        let path = dir.join(format!("{root}.ort-{:016x}.snap", hasher.finish()));
        Self { dir, path, meta }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The compiled graph, if there is one and it fits.
    pub(super) fn open(&self) -> Option<Snapshot> {
        if !self.path.is_file() {
            return None;
        }
        let mut open = OpenOptions::new([isa::NATIVE], isa::LAYOUT_ABI);
        open.stamp_dir = Some(self.dir.clone());
        let copy = Snapshot::open(&self.path, &open).ok()?;
        let fits = |(key, value): (&String, &String)| copy.meta(key) == Some(value);
        self.meta.iter().all(fits).then_some(copy)
    }

    /// A file beside the place, for ONNX Runtime to write the graph into. It decides by the ending what to write.
    pub(super) fn scratch(&self) -> Result<Scratch, Error> {
        std::fs::create_dir_all(&self.dir).map_err(|err| {
            runtime(format!(
                "cannot create {} ({err}): set CACHE_DIR to a writable directory",
                self.dir.display()
            ))
        })?;
        let name = format!(".{}.{}.ort", std::process::id(), self.name());
        Ok(Scratch(self.dir.join(name)))
    }

    fn name(&self) -> String {
        self.path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Makes the file that ONNX Runtime wrote the compiled graph.
    pub(super) fn store(&self, file: &Path) -> Result<(), Error> {
        let bytes = std::fs::read(file).map_err(|err| {
            runtime(format!("cannot read the compiled graph {}: {err}", file.display()))
        })?;
        let plan = Plan {
            isa: isa::NATIVE.to_owned(),
            layout_abi: isa::LAYOUT_ABI,
            meta: self.meta.clone(),
            segments: vec![SegmentPlan {
                name: "graph".to_owned(),
                sparse: false,
                tensors: vec![TensorPlan {
                    name: COMPILED.to_owned(),
                    dtype: Dtype::U8,
                    layout: FILE.to_owned(),
                    shape: vec![bytes.len()],
                    len: bytes.len(),
                }],
            }],
        };
        let mut writer = SnapshotWriter::create(&self.path, plan)?;
        writer.write(COMPILED, &bytes)?;
        writer.finish()?;
        Ok(())
    }
}

/// The features of this processor that ONNX Runtime's kernels depend on.
fn processor() -> String {
    #[cfg(target_arch = "x86_64")]
    let features = [
        ("avx", is_x86_feature_detected!("avx")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512bw", is_x86_feature_detected!("avx512bw")),
        ("avx512vl", is_x86_feature_detected!("avx512vl")),
        ("avx512vnni", is_x86_feature_detected!("avx512vnni")),
        ("avx512bf16", is_x86_feature_detected!("avx512bf16")),
        ("avxvnni", is_x86_feature_detected!("avxvnni")),
    ];
    #[cfg(not(target_arch = "x86_64"))]
    let features: [(&str, bool); 0] = [];
    let known = features.iter().filter(|(_, known)| *known).map(|(name, _)| *name);
    std::iter::once(std::env::consts::ARCH).chain(known).collect::<Vec<_>>().join(" ")
}
