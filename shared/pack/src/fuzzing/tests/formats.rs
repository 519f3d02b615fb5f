//! Seeds of the targets that read files of weights.

use crate::formats::gguf::writing as gguf;
use crate::formats::onnx::writing as onnx;

pub(super) fn seeds() -> Vec<(&'static str, String, Vec<u8>)> {
    let mut seeds = Vec::new();
    for (name, dtype, shape, len) in
        [("f32", "F32", "[2,1]", 8), ("bf16", "BF16", "[3]", 6), ("none", "F16", "[0]", 0)]
    {
        let header = format!(
            r#"{{"__metadata__":{{"format":"pt"}},"w":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[0,{len}]}}}}"#
        );
        let length = (header.len() as u64).to_le_bytes();
        let file = [&length[..], header.as_bytes(), &vec![0; len]].concat();
        seeds.push(("safetensors", name.to_owned(), file));
    }
    let index = r#"{"metadata":{"total_size":5},"weight_map":{"a":"model-1.safetensors","b":"model-2.safetensors"}}"#;
    seeds.push(("shard_index", "two".to_owned(), index.into()));
    seeds.push(("shard_index", "outside".to_owned(), index.replace("model-2", "../2").into()));
    for version in [2, 3] {
        let content = gguf::Content { version, ..gguf::Content::sample() };
        seeds.push(("gguf", format!("v{version}"), content.encode()));
    }
    let bare = gguf::Content { version: 3, ..gguf::Content::default() };
    seeds.push(("gguf", "empty".to_owned(), bare.encode()));
    for (name, content) in crate::gguf::tests::seeds() {
        seeds.push(("gguf_model", name.to_owned(), content.encode()));
    }
    seeds.push(("onnx", "sample".to_owned(), onnx::sample()));
    seeds
}
