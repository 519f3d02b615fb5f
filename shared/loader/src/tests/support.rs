//! Small snapshots of many chunks, and seeded random numbers.

use std::path::Path;

use crate::{
    Dtype, OpenOptions, Plan, Root, SegmentPlan, Snapshot, SnapshotWriter, TensorPlan, VerifyMode,
};

/// Small enough that a snapshot of 100 KB has 25 chunks.
pub(super) const SMALL_CHUNK: u32 = 4096;

/// A plan and the bytes of its tensors, in order.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) plan: Plan,
    pub(super) data: Vec<(String, Vec<u8>)>,
}

impl Sample {
    /// A model in miniature: a file, matrices below and above the size that is page-aligned, an empty tensor.
    pub(super) fn model() -> Self {
        let mut sample = Self::empty();
        sample.segment("files");
        sample.tensor("tokenizer.json", Dtype::U8, "file", &[777]);
        sample.segment("layer.0");
        sample.tensor("layer.0.attention", Dtype::I8, "row-major", &[100, 70]);
        sample.tensor("layer.0.scales", Dtype::F32, "row-major", &[100]);
        sample.tensor("layer.0.nothing", Dtype::F32, "row-major", &[0, 4]);
        sample.segment("layer.1");
        sample.tensor("layer.1.attention", Dtype::I8, "vnni-4x16", &[200, 350]);
        sample.segment("embeddings");
        sample.tensor("embeddings", Dtype::Bf16, "row-major", &[60, 81]);
        sample
    }

    pub(super) fn empty() -> Self {
        let meta = [("family", "bert"), ("vocabulary", "81")];
        Self {
            plan: Plan {
                isa: "portable".to_owned(),
                layout_abi: 1,
                meta: meta.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
                segments: Vec::new(),
            },
            data: Vec::new(),
        }
    }

    pub(super) fn segment(&mut self, name: &str) {
        self.plan.segments.push(SegmentPlan {
            name: name.to_owned(),
            sparse: name.starts_with("sparse"),
            tensors: Vec::new(),
        });
    }

    /// Adds a tensor of random bytes to the last segment.
    pub(super) fn tensor(&mut self, name: &str, dtype: Dtype, layout: &str, shape: &[usize]) {
        let len = shape.iter().product::<usize>() * dtype.size();
        let mut random = Random(self.data.len() as u64 + 1);
        let bytes = (0..len).map(|_| random.next().to_le_bytes()[0]).collect();
        self.plan.segments.last_mut().unwrap().tensors.push(TensorPlan {
            name: name.to_owned(),
            dtype,
            layout: layout.to_owned(),
            shape: shape.to_vec(),
            len,
        });
        self.data.push((name.to_owned(), bytes));
    }

    pub(super) fn write(&self, path: &Path) -> Root {
        let mut writer =
            SnapshotWriter::with_chunk_size(path, self.plan.clone(), SMALL_CHUNK).unwrap();
        for (name, bytes) in &self.data {
            writer.write(name, bytes).unwrap();
        }
        writer.finish().unwrap()
    }

    pub(super) fn assert_equal(&self, snapshot: &Snapshot) {
        for ((name, bytes), plan) in
            self.data.iter().zip(self.plan.segments.iter().flat_map(|s| &s.tensors))
        {
            let tensor = snapshot.tensor(name).unwrap();
            assert_eq!(tensor.bytes, bytes, "{name}");
            assert_eq!(
                (tensor.dtype, &tensor.shape, &tensor.layout),
                (plan.dtype, &plan.shape, &plan.layout)
            );
            let align = if bytes.len() >= 65536 { 4096 } else { 64 };
            assert!(
                bytes.is_empty() || (tensor.bytes.as_ptr() as usize).is_multiple_of(align),
                "{name}"
            );
        }
    }
}

pub(super) fn options(verify: VerifyMode) -> OpenOptions {
    OpenOptions { verify, threads: 2, ..OpenOptions::new(["portable"], 1) }
}

pub(super) const MODES: [VerifyMode; 3] =
    [VerifyMode::Stamped, VerifyMode::OnTheFly, VerifyMode::Eager];

/// `SplitMix64`: equal numbers in every run.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }
}
