//! Which vectors come back, and as which numbers.

use super::{EmbedBody, EmbedShape};
use crate::checks;
use crate::error::Invalid;
use crate::lenient::{Flag, Names};

/// Kinds of vectors, wanted by a request or given by a model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "four independent kinds")]
pub struct VectorKinds {
    /// The vector of an input as a whole.
    pub dense: bool,
    /// The weights of an input's token ids.
    pub sparse: bool,
    /// A projected vector for each token, for late interaction.
    pub colbert: bool,
    /// The last hidden state of each token (TEI's `/embed_all`).
    pub hidden: bool,
}

impl VectorKinds {
    /// Every kind.
    pub const ALL: Self = Self { dense: true, sparse: true, colbert: true, hidden: true };
}

/// The numbers of a dense vector. The formulas are in [`Dtype::to_bytes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// Floats as computed.
    Float,
    /// Integers from -127 to 127.
    Int8,
    /// Integers from 0 to 255.
    Uint8,
    /// One bit a number, eight to a signed byte.
    Binary,
    /// One bit a number, eight to an unsigned byte.
    Ubinary,
}

impl Dtype {
    /// The name by which clients ask for it, also Cohere's key of the answer.
    pub fn name(self) -> &'static str {
        match self {
            Self::Float => "float",
            Self::Int8 => "int8",
            Self::Uint8 => "uint8",
            Self::Binary => "binary",
            Self::Ubinary => "ubinary",
        }
    }
}

/// How numbers are written into JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Numbers are a list.
    Array,
    /// As a string: base64 of their bytes, little-endian.
    Base64,
    /// As bytes, little-endian, outside of JSON: see [`raw_answer`](crate::raw_answer).
    Bytes {
        /// Whether a header says what is where.
        described: bool,
    },
}

/// The form of a dense vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Format {
    /// The type of its numbers.
    pub dtype: Dtype,
    /// How its numbers are written.
    pub encoding: Encoding,
}

impl Format {
    /// A list of floats.
    pub const FLOATS: Self = Self { dtype: Dtype::Float, encoding: Encoding::Array };
    /// Floats in base64.
    pub const BASE64: Self = Self { dtype: Dtype::Float, encoding: Encoding::Base64 };

    /// The name by which Cohere's and Jina's clients ask for it.
    pub fn name(self) -> &'static str {
        match self.encoding {
            Encoding::Base64 if self.dtype == Dtype::Float => "base64",
            _ => self.dtype.name(),
        }
    }

    fn named(field: &'static str, name: &str) -> Result<Self, Invalid> {
        let dtype = match name {
            "float" | "float32" | "fp32" => Dtype::Float,
            "int8" => Dtype::Int8,
            "uint8" => Dtype::Uint8,
            "binary" => Dtype::Binary,
            "ubinary" => Dtype::Ubinary,
            "base64" => return Ok(Self::BASE64),
            _ => {
                return Err(Invalid::new(
                    field,
                    format!(
                        "{field}: expected float, int8, uint8, binary, ubinary or base64; found another name"
                    ),
                ));
            }
        };
        Ok(Self { dtype, encoding: Encoding::Array })
    }
}

/// The kinds that `embedding_type` names; its other names are number types.
fn kind(name: &str) -> Option<VectorKinds> {
    let none = VectorKinds::default();
    match name {
        "dense" | "dense_vecs" => Some(VectorKinds { dense: true, ..none }),
        "sparse" | "sparse_vecs" | "lexical_weights" => Some(VectorKinds { sparse: true, ..none }),
        "colbert" | "colbert_vecs" | "multivector" | "multi_vector" => {
            Some(VectorKinds { colbert: true, ..none })
        }
        _ => None,
    }
}

impl EmbedBody {
    /// Which kinds of vectors to return.
    ///
    /// `OpenAI`'s SDK fails on an entry without `embedding`, so a name alone (`embedding_type:
    /// "sparse"`) adds to the dense vector. A list, or `return_dense: false`, says exactly what is
    /// wanted. `return_sparse: false`, which clients send as the default of a field that they do
    /// not use, takes nothing away from a name.
    pub(super) fn outputs(&self, shape: EmbedShape) -> Result<VectorKinds, Invalid> {
        let none = VectorKinds::default();
        match shape {
            EmbedShape::TeiSparse => return Ok(VectorKinds { sparse: true, ..none }),
            EmbedShape::TeiAll => return Ok(VectorKinds { hidden: true, ..none }),
            _ => {}
        }
        let names = self.embedding_type.as_ref();
        let kinds: Vec<VectorKinds> = names
            .map_or(&[][..], |names| &names.names)
            .iter()
            .filter_map(|name| kind(name))
            .collect();
        let listed = names.is_some_and(|names| names.listed) && !kinds.is_empty();
        let named = |field: fn(&VectorKinds) -> bool| kinds.iter().any(field).then_some(true);
        let flag = |flag: Option<Flag>| flag.map(|Flag(flag)| flag);
        let dense = checks::agreed([
            ("embedding_type", named(|kind| kind.dense)),
            ("return_dense", flag(self.return_dense)),
        ])?;
        let sparse = named(|kind| kind.sparse).or_else(|| flag(self.return_sparse));
        let colbert = checks::agreed([
            ("return_colbert", flag(self.return_colbert)),
            ("return_colbert_vecs", flag(self.return_colbert_vecs)),
            ("return_multivector", flag(self.return_multivector)),
        ])?;
        let colbert = named(|kind| kind.colbert).or(colbert);
        let outputs = VectorKinds {
            dense: dense.unwrap_or(!listed),
            sparse: sparse == Some(true),
            colbert: colbert == Some(true),
            hidden: false,
        };
        if outputs == none {
            return Err(Invalid::new(
                "return_dense",
                "return_dense is false and nothing else is asked for; ask for sparse or colbert embeddings",
            ));
        }
        if shape != EmbedShape::OpenAi && outputs != (VectorKinds { dense: true, ..none }) {
            let field = if kinds.is_empty() { "return_sparse" } else { "embedding_type" };
            return Err(Invalid::new(
                field,
                "this shape of answer holds dense embeddings only; use /v1/embeddings or /embed_sparse",
            ));
        }
        Ok(outputs)
    }

    /// In what form to return dense vectors: Cohere's clients may ask for several, others for one.
    pub(super) fn formats(&self, shape: EmbedShape) -> Result<Vec<Format>, Invalid> {
        let types = self.embedding_type.as_ref().map(|Names { names, listed }| Names {
            names: names.iter().filter(|name| kind(name).is_none()).cloned().collect(),
            listed: *listed,
        });
        let one = |name: &Option<String>| {
            name.as_ref()
                .map(|name| Names { names: vec![name.to_ascii_lowercase()], listed: false })
        };
        let (encoding, number) = self.encoding()?;
        let asked = checks::agreed([
            ("embedding_types", named("embedding_types", self.embedding_types.as_ref())?),
            ("embedding_type", named("embedding_type", types.as_ref())?),
            ("output_dtype", named("output_dtype", one(&self.output_dtype).as_ref())?),
            ("embed_dtype", named("embed_dtype", one(&self.embed_dtype).as_ref())?),
            ("encoding_format", number.map(|number| vec![number])),
        ])?;
        let said = asked.is_some();
        let mut formats = asked.unwrap_or_else(|| vec![Format::FLOATS]);
        if shape.is_cohere() {
            if encoding.is_some_and(|encoding| encoding != Encoding::Array) || number.is_some() {
                return Err(Invalid::new(
                    "encoding_format",
                    "encoding_format is not read on this route; send embedding_types",
                ));
            }
            return Ok(formats);
        }
        if formats.len() > 1 {
            return Err(Invalid::new(
                if self.embedding_types.is_some() { "embedding_types" } else { "embedding_type" },
                "this shape of answer holds one number type; several are served on /v2/embed",
            ));
        }
        if matches!(encoding, Some(Encoding::Bytes { .. })) {
            self.check_bytes(shape)?;
        }
        for format in &mut formats {
            match encoding {
                Some(Encoding::Array) if *format == Format::BASE64 => {
                    return Err(checks::contradiction("embedding_type", "encoding_format"));
                }
                Some(encoding) => format.encoding = encoding,
                None => {}
            }
        }
        let dense = !matches!(
            shape,
            EmbedShape::TeiSparse | EmbedShape::TeiAll | EmbedShape::TeiSimilarity
        );
        if !dense && (said || encoding.is_some()) && formats != [Format::FLOATS] {
            return Err(Invalid::new(
                if said { "output_dtype" } else { "encoding_format" },
                "this route answers in floats only; other number types are served on /v1/embeddings",
            ));
        }
        Ok(formats)
    }

    /// Bytes hold the dense vectors of `OpenAI`'s shape and nothing beside them.
    fn check_bytes(&self, shape: EmbedShape) -> Result<(), Invalid> {
        let dense = VectorKinds { dense: true, ..VectorKinds::default() };
        if shape == EmbedShape::OpenAi && self.outputs(shape)? == dense {
            return Ok(());
        }
        let message = "encoding_format: only the dense embeddings of /v1/embeddings come as bytes; send \"float\" or \"base64\"";
        Err(Invalid::new("encoding_format", message))
    }

    /// The notation that `encoding_format` names, or the type of the numbers: mixedbread's clients
    /// send either in the one field.
    fn encoding(&self) -> Result<(Option<Encoding>, Option<Format>), Invalid> {
        let Some(name) = &self.encoding_format else { return Ok((None, None)) };
        match name.to_ascii_lowercase().as_str() {
            "float" => Ok((Some(Encoding::Array), None)),
            "base64" => Ok((Some(Encoding::Base64), None)),
            "bytes" => Ok((Some(Encoding::Bytes { described: true }), None)),
            "bytes_only" => Ok((Some(Encoding::Bytes { described: false }), None)),
            name => Ok((None, Some(Format::named("encoding_format", name)?))),
        }
    }
}

/// The formats that a field names, each once; `None`: it names none.
fn named(field: &'static str, names: Option<&Names>) -> Result<Option<Vec<Format>>, Invalid> {
    let mut formats = Vec::new();
    for name in names.map_or(&[][..], |names| &names.names) {
        let format = Format::named(field, name)?;
        if !formats.contains(&format) {
            formats.push(format);
        }
    }
    Ok((!formats.is_empty()).then_some(formats))
}
