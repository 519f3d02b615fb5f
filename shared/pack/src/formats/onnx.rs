//! Reads ONNX models as far as their weights go: their producer, what goes in and out, and the initializers.
//!
//! An ONNX file is one protobuf message, `ModelProto`. Of its schema these fields are read, by number, everything else
//! is passed over by length:
//!
//! ```text
//! ModelProto    1 ir_version  2 producer_name  3 producer_version  7 graph  8 opset_import  14 metadata_props
//! GraphProto    1 node  2 name  5 initializer  11 input  12 output
//! NodeProto     4 op_type
//! TensorProto   1 dims  2 data_type  8 name  9 raw_data  13 external_data  14 data_location
//!               4 float_data  5 int32_data  6 string_data  7 int64_data  10 double_data  11 uint64_data (counted)
//! ```
//!
//! Messages nest four deep on this path and nothing recurses, so a file cannot reach the stack's end; graphs inside
//! nodes (the branches of `If`, the bodies of `Loop`) are passed over, and with them their initializers. The file is
//! mapped and raw data are views of it. Weights of large models lie in other files beside it: their names come from the
//! file, so only plain names are accepted. Reading a model opens none of them; a caller that wants one maps it by
//! [`OnnxModel::map`].

mod data;
mod rewrite;
mod tensor;
mod wire;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;

use bytes::Bytes;
use defrost_loader::{Error, Kind, map_file, shown};

use super::reader::Reader;
use wire::{Field, Fields};

pub use data::{OnnxData, OnnxType};
pub use rewrite::Placement;
pub use tensor::OnnxTensor;

/// Most initializers, inputs, outputs, opsets or metadata pairs. The largest models have some thousands; a limit keeps
/// a file of many tiny messages from taking many times its length in memory.
const MOST: usize = 1 << 20;

/// An ONNX model without its computation.
///
/// ```
/// use defrost_pack::OnnxModel;
///
/// # fn main() -> Result<(), defrost_loader::Error> {
/// let file: &[u8] = b"\x08\x08\x12\x07pytorch\x3a\x02\x12\x00"; // ir_version, producer_name, an empty graph
/// let model = OnnxModel::parse(file.into())?;
/// assert_eq!((model.ir_version(), model.producer()), (8, "pytorch"));
/// assert!(model.initializers().is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct OnnxModel {
    ir_version: u64,
    producer: String,
    producer_version: String,
    opsets: Vec<(String, u64)>,
    metadata: BTreeMap<String, String>,
    graph: Graph,
}

#[derive(Debug, Clone, Default)]
struct Graph {
    name: String,
    nodes: u64,
    operators: BTreeSet<String>,
    initializers: Vec<OnnxTensor>,
    inputs: Vec<String>,
    outputs: Vec<String>,
}

impl OnnxModel {
    /// Maps a file and reads all but the data of its initializers.
    ///
    /// Fails with [`Kind::NotFound`], [`Kind::Denied`] or [`Kind::Io`] if the file cannot be read, otherwise as
    /// [`parse`](Self::parse) does.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::parse(map_file(path)?).map_err(|error| error.in_file(path))
    }

    /// Maps a file, such as one of external data beside a model.
    ///
    /// Fails as [`open`](Self::open) does if the file cannot be read.
    pub fn map(path: &Path) -> Result<Bytes, Error> {
        map_file(path)
    }

    /// Reads the content of a file, which may be anything.
    ///
    /// Fails with [`Kind::Truncated`] if the file is shorter than it says, and with [`Kind::Corrupt`] if it
    /// contradicts itself, leads to files outside its directory, or is no ONNX model.
    pub fn parse(bytes: Bytes) -> Result<Self, Error> {
        let mut model = Self::default();
        let mut graph = None;
        let end = bytes.len() as u64;
        let mut fields = Fields::new(Reader::new(bytes));
        while let Some(field) = fields.next()? {
            match field.number {
                1 => model.ir_version = field.number_value("ir_version")?,
                2 => model.producer = field.text("producer_name")?,
                3 => model.producer_version = field.text("producer_version")?,
                7 if graph.is_some() => {
                    return Err(Error::new(Kind::Corrupt, "the model has two graphs")
                        .at(field.offset)
                        .mismatch("one", "another"));
                }
                7 => graph = Some(Graph::read(field)?),
                8 => push(&mut model.opsets, opset(field)?, "opsets")?,
                14 => {
                    let (key, value) = pair(field)?;
                    model.metadata.insert(key, value);
                    bounded(model.metadata.len(), "metadata pairs")?;
                }
                _ => {}
            }
        }
        model.graph = graph.ok_or_else(|| {
            Error::new(Kind::Corrupt, "not an ONNX model")
                .at(end)
                .mismatch("a graph before the end of the file", "none")
        })?;
        Ok(model)
    }

    /// The version of the file format.
    pub fn ir_version(&self) -> u64 {
        self.ir_version
    }

    /// The tool that wrote it, such as `pytorch`; may be empty.
    pub fn producer(&self) -> &str {
        &self.producer
    }

    /// That tool's version; may be empty.
    pub fn producer_version(&self) -> &str {
        &self.producer_version
    }

    /// The operator sets it needs: domain (empty for ONNX's own) and version.
    pub fn opsets(&self) -> &[(String, u64)] {
        &self.opsets
    }

    /// Free facts, sorted by key.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The graph's name; may be empty.
    pub fn graph_name(&self) -> &str {
        &self.graph.name
    }

    /// How many operations the graph has, those of inner graphs not counted.
    pub fn nodes(&self) -> u64 {
        self.graph.nodes
    }

    /// The types of its operations, such as `MatMul`, those of inner graphs not included.
    pub fn operators(&self) -> &BTreeSet<String> {
        &self.graph.operators
    }

    /// The names of the graph's inputs. Old files list initializers among them.
    pub fn inputs(&self) -> &[String] {
        &self.graph.inputs
    }

    /// The names of the graph's outputs.
    pub fn outputs(&self) -> &[String] {
        &self.graph.outputs
    }

    /// The weights, in the order of the file.
    pub fn initializers(&self) -> &[OnnxTensor] {
        &self.graph.initializers
    }
}

impl Graph {
    fn read(field: Field) -> Result<Self, Error> {
        let mut graph = Self::default();
        let mut fields = field.message("the graph")?;
        while let Some(field) = fields.next()? {
            match field.number {
                1 => {
                    graph.nodes += 1;
                    graph.operators.extend(operator(field)?);
                }
                2 => graph.name = field.text("the graph's name")?,
                5 => push(&mut graph.initializers, OnnxTensor::read(field)?, "initializers")?,
                11 => push(&mut graph.inputs, value_name(field)?, "inputs")?,
                12 => push(&mut graph.outputs, value_name(field)?, "outputs")?,
                _ => {}
            }
        }
        let mut names = HashSet::new();
        for tensor in &graph.initializers {
            if !names.insert(tensor.name.as_str()) {
                let what = format!("initializer {} occurs twice", shown(&tensor.name));
                return Err(Error::new(Kind::Corrupt, what).at(tensor.offset));
            }
        }
        Ok(graph)
    }
}

fn push<T>(list: &mut Vec<T>, item: T, what: &str) -> Result<(), Error> {
    list.push(item);
    bounded(list.len(), what)
}

fn bounded(len: usize, what: &str) -> Result<(), Error> {
    if len > MOST {
        return Err(Error::new(Kind::Unsupported, format!("too many {what}"))
            .mismatch(format_args!("at most {MOST}"), "more"));
    }
    Ok(())
}

/// The type of an operation; `None` if it has no name, which the runtime that gets the graph will refuse.
fn operator(field: Field) -> Result<Option<String>, Error> {
    let mut kind = None;
    let mut fields = field.message("a node")?;
    while let Some(field) = fields.next()? {
        if field.number == 4 {
            kind = Some(field.name("a node's op_type")?);
        }
    }
    Ok(kind)
}

/// The name of an input or output.
fn value_name(field: Field) -> Result<String, Error> {
    let mut name = String::new();
    let mut fields = field.message("an input or output")?;
    while let Some(field) = fields.next()? {
        if field.number == 1 {
            name = field.name("the name of an input or output")?;
        }
    }
    Ok(name)
}

fn opset(field: Field) -> Result<(String, u64), Error> {
    let (mut domain, mut version) = (String::new(), 0);
    let mut fields = field.message("an opset")?;
    while let Some(field) = fields.next()? {
        match field.number {
            1 => domain = field.text("an opset's domain")?,
            2 => version = field.number_value("an opset's version")?,
            _ => {}
        }
    }
    Ok((domain, version))
}

/// A `StringStringEntryProto`.
fn pair(field: Field) -> Result<(String, String), Error> {
    let (mut key, mut value) = (String::new(), String::new());
    let mut fields = field.message("a pair of texts")?;
    while let Some(field) = fields.next()? {
        match field.number {
            1 => key = field.text("a key")?,
            2 => value = field.text("a value")?,
            _ => {}
        }
    }
    Ok((key, value))
}

#[cfg(test)]
pub(crate) mod writing;

#[cfg(test)]
mod tests;
