//! Files of weights, as they come from anywhere.

use bytes::Bytes;

use crate::formats::{Gguf, GgufValue, OnnxData, OnnxModel, shards_of, tensors_of, to_f32};

/// A safetensors file.
///
/// # Panics
///
/// If a promise is broken.
pub fn safetensors(input: &[u8]) {
    let Ok(tensors) = tensors_of(&Bytes::copy_from_slice(input)) else {
        return;
    };
    for tensor in tensors.values() {
        let elements: usize = tensor.shape.iter().product();
        assert_eq!(Some(tensor.bytes.len() * 8), elements.checked_mul(tensor.dtype.bitsize()));
        let _ = to_f32(tensor);
    }
}

/// An index of shards.
///
/// # Panics
///
/// If a promise is broken.
pub fn shard_index(input: &[u8]) {
    for shard in shards_of(input).unwrap_or_default() {
        assert!(!shard.is_empty() && shard != "." && shard != "..");
        assert!(!shard.contains(['/', '\\', '\0']), "{shard:?} leads out of the directory");
    }
}

/// A GGUF file.
///
/// # Panics
///
/// If a promise is broken.
pub fn gguf(input: &[u8]) {
    let Ok(model) = Gguf::parse(Bytes::copy_from_slice(input)) else {
        return;
    };
    for (key, value) in model.metadata() {
        assert!(!key.is_empty());
        check_value(value);
    }
    let mut total = 0;
    for tensor in model.tensors() {
        assert!(tensor.offset.is_multiple_of(u64::from(model.alignment())));
        if let (Some((block, size)), Some(bytes)) = (tensor.kind.block(), &tensor.bytes) {
            let elements: usize = tensor.shape.iter().product();
            assert_eq!(bytes.len() as u64, elements as u64 / block * size);
            total += bytes.len();
        }
    }
    assert!(total <= input.len(), "tensors overlap");
}

fn check_value(value: &GgufValue) {
    if let GgufValue::Array(array) = value {
        assert_eq!(array.values().count() as u64, array.len(), "an element cannot be decoded");
        for value in array.values() {
            assert_eq!(value.kind(), array.element());
            check_value(&value);
        }
    }
}

/// An ONNX model.
///
/// # Panics
///
/// If a promise is broken.
pub fn onnx(input: &[u8]) {
    let Ok(model) = OnnxModel::parse(Bytes::copy_from_slice(input)) else {
        return;
    };
    let mut total = 0;
    for tensor in model.initializers() {
        assert!(!tensor.name.is_empty());
        match &tensor.data {
            OnnxData::Raw(bytes) => {
                total += bytes.len();
                assert!(tensor.len_bytes().is_none_or(|len| len == bytes.len() as u64));
            }
            OnnxData::External { location, offset, len } => {
                assert!(!location.is_empty() && !location.contains(['/', '\\', '\0']));
                assert!(offset.checked_add(len.or(tensor.len_bytes()).unwrap_or(0)).is_some());
            }
            OnnxData::Typed { values, .. } => assert!(*values <= input.len() as u64),
            OnnxData::Empty => assert!(tensor.shape.contains(&0)),
        }
    }
    assert!(total <= input.len(), "initializers overlap");
}
