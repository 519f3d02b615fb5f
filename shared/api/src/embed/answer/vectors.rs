//! Vectors that write themselves: borrowed numbers, no tree of JSON values between.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::{Embedded, Format};
use crate::embed::quantize::{binary, int8, ubinary, uint8};
use crate::embed::{Dtype, Encoding};

/// Vectors of equal width, one after the other.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rows<'a> {
    /// All numbers; a last row that is not full is left out.
    pub values: &'a [f32],
    /// Numbers of one row.
    pub width: usize,
}

impl<'a> Rows<'a> {
    fn rows(self) -> impl Iterator<Item = &'a [f32]> {
        self.values.chunks_exact(self.width.max(1))
    }
}

/// One dense vector: a list of numbers, or their bytes in base64.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dense<'a> {
    values: &'a [f32],
    format: Format,
}

impl<'a> Dense<'a> {
    pub(super) fn new(one: &Embedded<'a>, format: Format) -> Self {
        Self { values: one.dense.unwrap_or_default(), format }
    }
}

impl Serialize for Dense<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Format { dtype, encoding } = self.format;
        let values = self.values;
        if encoding == Encoding::Base64 {
            return serializer.serialize_str(&STANDARD.encode(dtype.to_bytes(values)));
        }
        match dtype {
            Dtype::Float => values.serialize(serializer),
            Dtype::Int8 => serializer.collect_seq(values.iter().map(|&value| int8(value))),
            Dtype::Uint8 => serializer.collect_seq(values.iter().map(|&value| uint8(value))),
            Dtype::Binary => serializer.collect_seq(binary(values)),
            Dtype::Ubinary => serializer.collect_seq(ubinary(values)),
        }
    }
}

/// A list of dense vectors.
#[derive(Debug, Clone, Copy)]
pub struct DenseList<'a> {
    pub(super) embedded: &'a [Embedded<'a>],
    pub(super) format: Format,
}

impl Serialize for DenseList<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.embedded.iter().map(|one| Dense::new(one, self.format)))
    }
}

/// Cohere's lists of dense vectors under the names of their number types.
#[derive(Debug, Clone, Copy)]
pub struct ByType<'a> {
    pub(super) embedded: &'a [Embedded<'a>],
    pub(super) formats: &'a [Format],
}

impl Serialize for ByType<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let embedded = self.embedded;
        serializer.collect_map(
            self.formats.iter().map(|&format| (format.name(), DenseList { embedded, format })),
        )
    }
}

/// Lexical weights as BGE-M3's clients read them: `{"token id": weight}`.
#[derive(Debug, Clone, Copy)]
pub(super) struct SparseMap<'a>(pub(super) &'a [(u32, f32)]);

impl Serialize for SparseMap<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (token, weight) in self.0 {
            map.serialize_entry(token, weight)?;
        }
        map.end()
    }
}

/// Lexical weights as TEI's clients read them: lists of `{"index", "value"}`.
#[derive(Debug, Clone, Copy)]
pub struct SparseList<'a>(pub(super) &'a [Embedded<'a>]);

#[derive(serde::Serialize)]
struct SparseValue {
    index: u32,
    value: f32,
}

struct SparseValues<'a>(&'a [(u32, f32)]);

impl Serialize for SparseValues<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|&(index, value)| SparseValue { index, value }))
    }
}

impl Serialize for SparseList<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer
            .collect_seq(self.0.iter().map(|one| SparseValues(one.sparse.unwrap_or_default())))
    }
}

/// A list of rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowList<'a>(pub(super) Rows<'a>);

impl Serialize for RowList<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.rows())
    }
}

/// The hidden states of each input's tokens.
#[derive(Debug, Clone, Copy)]
pub struct HiddenList<'a>(pub(super) &'a [Embedded<'a>]);

impl Serialize for HiddenList<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|one| RowList(one.hidden.unwrap_or_default())))
    }
}

/// The cosine of the first vector with each of the others.
#[derive(Debug, Clone, Copy)]
pub struct Similarities<'a>(pub(super) &'a [Embedded<'a>]);

impl Serialize for Similarities<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (source, others) = match self.0.split_first() {
            None => (&[][..], &[][..]),
            Some((source, others)) => (source.dense.unwrap_or_default(), others),
        };
        serializer
            .collect_seq(others.iter().map(|one| cosine(source, one.dense.unwrap_or_default())))
    }
}

/// Zero where a vector has no direction.
fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum()
    };
    let norms = (dot(a, a) * dot(b, b)).sqrt();
    #[allow(clippy::cast_possible_truncation, reason = "rounded on purpose")]
    let cosine = if norms > 0.0 { (dot(a, b) / norms) as f32 } else { 0.0 };
    cosine
}
