//! Writes an ONNX model again with the data of its initializers put elsewhere; the rest is copied as it is.
//!
//! A snapshot holds a graph of some hundred kilobytes and each large weight as a tensor of its own, which is hashed and
//! mapped like any other. So the model is taken apart: [`OnnxModel::rewrite`] asks for every initializer where its data
//! shall be. Only `ModelProto.graph` (field 7) and in it `GraphProto.initializer` (field 5) are written anew; all other
//! fields, known or not, are copied byte for byte and in order, so nothing that this reader does not know is lost.
//! Initializers of inner graphs (the branches of `If`) stay where they are.

use std::ops::Range;

use bytes::Bytes;
use defrost_loader::Error;

use super::super::reader::{Reader, to_usize};
use super::wire::{Field, Fields};
use super::{OnnxModel, OnnxTensor};

/// Where the data of an initializer shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placement {
    /// The data stay where they are: the initializer is copied as it is.
    Keep,
    /// The data go into the model itself, with this content.
    Inline(Bytes),
    /// The data go into another file, from its start. The code that loads the model supplies the file.
    External {
        /// The file's name.
        location: String,
        /// The length of the file in bytes.
        len: u64,
    },
}

/// A message, or a field of another type, whose value is a length and as many bytes.
const LENGTH_DELIMITED: u64 = 2;

impl OnnxModel {
    /// The content of the model file `file` with each initializer's data where `place` says.
    ///
    /// Fails as [`parse`](Self::parse) does, and with the errors of `place`.
    pub fn rewrite<E: From<Error>>(
        file: &Bytes,
        mut place: impl FnMut(&OnnxTensor) -> Result<Placement, E>,
    ) -> Result<Vec<u8>, E> {
        let mut out = Vec::new();
        let mut fields = Fields::new(Reader::new(file.clone()));
        while let Some(field) = fields.next()? {
            if field.number == 7 {
                let graph = graph(file, field, &mut place)?;
                put_bytes(&mut out, 7, &graph);
            } else {
                out.extend_from_slice(&file[span(field.offset..fields.offset())?]);
            }
        }
        Ok(out)
    }
}

fn graph<E: From<Error>>(
    file: &Bytes,
    field: Field,
    place: &mut impl FnMut(&OnnxTensor) -> Result<Placement, E>,
) -> Result<Vec<u8>, E> {
    let mut out = Vec::new();
    let mut fields = field.message("the graph")?;
    while let Some(field) = fields.next()? {
        let whole = span(field.offset..fields.offset())?;
        if field.number != 5 {
            out.extend_from_slice(&file[whole]);
            continue;
        }
        let tensor = OnnxTensor::read(field)?;
        match place(&tensor)? {
            Placement::Keep => out.extend_from_slice(&file[whole]),
            Placement::Inline(data) => {
                let mut message = head(&tensor);
                put_bytes(&mut message, 9, &data);
                put_bytes(&mut out, 5, &message);
            }
            Placement::External { location, len } => {
                let mut message = head(&tensor);
                for (key, value) in [
                    ("location", location),
                    ("offset", "0".to_owned()),
                    ("length", len.to_string()),
                ] {
                    let mut pair = Vec::new();
                    put_bytes(&mut pair, 1, key.as_bytes());
                    put_bytes(&mut pair, 2, value.as_bytes());
                    put_bytes(&mut message, 13, &pair);
                }
                put_number(&mut message, 14, 1);
                put_bytes(&mut out, 5, &message);
            }
        }
    }
    Ok(out)
}

/// Shape, type and name of a `TensorProto`.
fn head(tensor: &OnnxTensor) -> Vec<u8> {
    let mut out = Vec::new();
    for &dim in &tensor.shape {
        put_number(&mut out, 1, dim);
    }
    // Negative numbers take ten bytes in protobuf; no known type is one.
    put_number(&mut out, 2, i64::from(tensor.data_type.number()).cast_unsigned());
    put_bytes(&mut out, 8, tensor.name.as_bytes());
    out
}

fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    varint(out, field << 3 | LENGTH_DELIMITED);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_number(out: &mut Vec<u8>, field: u64, value: u64) {
    varint(out, field << 3);
    varint(out, value);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// Offsets that the reader has been at, so they lie in the file.
fn span(offsets: Range<u64>) -> Result<Range<usize>, Error> {
    Ok(to_usize(offsets.start)?..to_usize(offsets.end)?)
}

#[cfg(test)]
mod tests {
    use super::super::writing::sample;
    use super::super::{OnnxData, OnnxType};
    use super::*;

    #[test]
    fn a_model_kept_as_it_is_is_the_same_file() {
        let file = Bytes::from(sample());
        let again = OnnxModel::rewrite::<Error>(&file, |_| Ok(Placement::Keep)).unwrap();
        assert_eq!(again, file);
    }

    #[test]
    fn data_move_out_of_the_model_and_into_it() {
        let file = Bytes::from(sample());
        let before = OnnxModel::parse(file.clone()).unwrap();
        let again = OnnxModel::rewrite::<Error>(&file, |tensor| {
            Ok(match &tensor.data {
                OnnxData::Raw(raw) => {
                    Placement::External { location: "elsewhere".to_owned(), len: raw.len() as u64 }
                }
                OnnxData::External { .. } => Placement::Inline(vec![7; 32_000].into()),
                _ => Placement::Keep,
            })
        });
        let after = OnnxModel::parse(again.unwrap().into()).unwrap();
        assert_eq!(before.initializers().len(), after.initializers().len());
        for (old, new) in before.initializers().iter().zip(after.initializers()) {
            assert_eq!(
                (&old.name, old.data_type, &old.shape),
                (&new.name, new.data_type, &new.shape)
            );
            match (&old.data, &new.data) {
                (OnnxData::Raw(_), OnnxData::External { location, offset: 0, len: Some(12) }) => {
                    assert_eq!(location, "elsewhere");
                    assert_eq!(new.data_type, OnnxType::from_number(10));
                }
                (OnnxData::External { .. }, OnnxData::Raw(raw)) => assert_eq!(raw.len(), 32_000),
                (old, new) => assert_eq!(old, new),
            }
        }
        assert_eq!(
            (before.inputs(), before.outputs(), before.nodes(), before.operators()),
            (after.inputs(), after.outputs(), after.nodes(), after.operators())
        );
        assert_eq!(before.metadata(), after.metadata());
    }

    #[test]
    fn an_error_of_the_caller_is_passed_on() {
        let refuse = |_: &OnnxTensor| Err(Error::new(defrost_loader::Kind::Invalid, "refused"));
        let error = OnnxModel::rewrite(&sample().into(), refuse).unwrap_err();
        assert_eq!(error.kind(), defrost_loader::Kind::Invalid);
    }
}
