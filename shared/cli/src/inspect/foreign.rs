//! `defrost inspect` of what snapshots are made from, and of what they are not: safetensors, GGUF, ONNX.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::Result;
use defrost_pack::{Checkpoint, Gguf, GgufArray, GgufValue, OnnxData, OnnxModel};
use serde_json::{Map, Value, json};

use super::Args;
use crate::print::say;
use crate::progress;

/// Elements of an array that are shown; vocabularies have hundreds of thousands.
const SHOWN_ELEMENTS: usize = 8;

/// Characters of a text that are shown to people; chat templates have thousands.
const SHOWN_CHARS: usize = 200;

/// A format that is not ours.
#[derive(Debug, Clone, Copy)]
pub(super) enum Format {
    Safetensors,
    Gguf,
    Onnx,
}

/// What a file is by its first bytes, else by its name; `None` for everything else, a snapshot perhaps.
pub(super) fn recognise(path: &Path) -> Option<Format> {
    let mut head = Vec::new();
    // To open a pipe is to wait for its writer.
    if !std::fs::metadata(path).ok()?.is_file() {
        return None;
    }
    File::open(path).ok()?.take(9).read_to_end(&mut head).ok()?;
    // Safetensors start with the length of a JSON object; it has less than 2^32 bytes.
    let has_header = matches!(head.as_slice(), [.., 0, 0, 0, 0, b'{'] if head.len() == 9);
    match path.extension().and_then(|end| end.to_str()) {
        _ if head.starts_with(b"GGUF") => Some(Format::Gguf),
        _ if has_header => Some(Format::Safetensors),
        Some("gguf") => Some(Format::Gguf),
        Some("safetensors") => Some(Format::Safetensors),
        Some("onnx") => Some(Format::Onnx),
        _ => None,
    }
}

/// What is shown of a file.
struct Contents {
    /// The title, one line for people.
    title: String,
    /// Facts of the format itself; `format` is one.
    facts: Map<String, Value>,
    metadata: Map<String, Value>,
    tensors: Vec<Row>,
}

struct Row {
    name: String,
    dtype: String,
    shape: Vec<u64>,
    /// The length in bytes; unknown for texts and for types of unknown size.
    bytes: Option<u64>,
    /// The place of the bytes, if they are not simply in this file.
    place: Option<String>,
}

/// Prints it.
pub(super) fn run(format: Format, args: &Args) -> Result<()> {
    let contents = match format {
        Format::Safetensors => safetensors(&Checkpoint::open_file(&args.file)?),
        Format::Gguf => gguf(&Gguf::open(&args.file)?),
        Format::Onnx => onnx(&OnnxModel::open(&args.file)?),
    };
    if args.json { print_json(contents) } else { print_text(&contents, args.tensors) }
}

fn safetensors(checkpoint: &Checkpoint) -> Contents {
    let tensors = checkpoint.names().filter_map(|name| Some((name, checkpoint.get(name)?)));
    Contents {
        title: "safetensors".to_owned(),
        facts: facts(json!({ "format": "safetensors" })),
        metadata: texts(checkpoint.metadata()),
        tensors: tensors
            .map(|(name, tensor)| Row {
                name: name.to_owned(),
                dtype: format!("{:?}", tensor.dtype),
                shape: tensor.shape.iter().map(|&dim| dim as u64).collect(),
                bytes: Some(tensor.bytes.len() as u64),
                place: None,
            })
            .collect(),
    }
}

fn gguf(model: &Gguf) -> Contents {
    Contents {
        title: format!("GGUF {} (alignment {})", model.version(), model.alignment()),
        facts: facts(json!({
            "format": "gguf", "version": model.version(), "alignment": model.alignment(),
        })),
        metadata: model
            .metadata()
            .map(|(key, value)| (key.to_owned(), gguf_value(value)))
            .collect(),
        tensors: model
            .tensors()
            .iter()
            .map(|tensor| Row {
                name: tensor.name.clone(),
                dtype: tensor.kind.to_string(),
                shape: tensor.shape.iter().map(|&dim| dim as u64).collect(),
                bytes: tensor.bytes.as_ref().map(|bytes| bytes.len() as u64),
                place: None,
            })
            .collect(),
    }
}

fn gguf_value(value: &GgufValue) -> Value {
    match value {
        GgufValue::U8(v) => json!(v),
        GgufValue::I8(v) => json!(v),
        GgufValue::U16(v) => json!(v),
        GgufValue::I16(v) => json!(v),
        GgufValue::U32(v) => json!(v),
        GgufValue::I32(v) => json!(v),
        GgufValue::F32(v) => json!(v),
        GgufValue::Bool(v) => json!(v),
        GgufValue::String(v) => json!(v),
        GgufValue::Array(array) => gguf_array(array),
        GgufValue::U64(v) => json!(v),
        GgufValue::I64(v) => json!(v),
        GgufValue::F64(v) => json!(v),
        _ => Value::Null,
    }
}

fn gguf_array(array: &GgufArray) -> Value {
    let first: Vec<Value> =
        array.values().take(SHOWN_ELEMENTS).map(|value| gguf_value(&value)).collect();
    json!({ "element": array.element().name(), "length": array.len(), "first": first })
}

fn onnx(model: &OnnxModel) -> Contents {
    let opset = |(domain, version): &(String, u64)| json!({"domain": domain, "version": version});
    Contents {
        title: format!(
            "ONNX, IR {}, {} nodes, by {:?} {:?}",
            model.ir_version(),
            model.nodes(),
            model.producer(),
            model.producer_version()
        ),
        facts: facts(json!({
            "format": "onnx",
            "ir_version": model.ir_version(),
            "producer": model.producer(),
            "producer_version": model.producer_version(),
            "opsets": model.opsets().iter().map(opset).collect::<Vec<_>>(),
            "graph": model.graph_name(),
            "nodes": model.nodes(),
            "inputs": model.inputs(),
            "outputs": model.outputs(),
        })),
        metadata: texts(model.metadata()),
        tensors: model
            .initializers()
            .iter()
            .map(|tensor| {
                let (bytes, place) = match &tensor.data {
                    OnnxData::External { location, offset, len } => {
                        (len.or(tensor.len_bytes()), Some(format!("{location} at byte {offset}")))
                    }
                    OnnxData::Raw(bytes) => (Some(bytes.len() as u64), None),
                    OnnxData::Typed { field, .. } => {
                        (tensor.len_bytes(), Some((*field).to_owned()))
                    }
                    _ => (tensor.len_bytes(), None),
                };
                Row {
                    name: tensor.name.clone(),
                    dtype: tensor.data_type.to_string(),
                    shape: tensor.shape.clone(),
                    bytes,
                    place,
                }
            })
            .collect(),
    }
}

fn facts(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn texts(map: &BTreeMap<String, String>) -> Map<String, Value> {
    map.iter().map(|(key, value)| (key.clone(), json!(value))).collect()
}

fn print_json(contents: Contents) -> Result<()> {
    let mut value = contents.facts;
    value.insert("metadata".to_owned(), Value::Object(contents.metadata));
    let tensors = contents.tensors.into_iter().map(|row| {
        json!({
            "name": row.name, "dtype": row.dtype, "shape": row.shape, "bytes": row.bytes,
            "place": row.place,
        })
    });
    value.insert("tensors".to_owned(), tensors.collect());
    say!("{}", serde_json::to_string_pretty(&value)?)
}

/// Everything from the file is escaped: it could hold whatever a terminal obeys.
fn print_text(contents: &Contents, all: bool) -> Result<()> {
    say!("format  {}", contents.title)?;
    for (key, value) in contents.facts.iter().filter(|(_, value)| value.is_array()) {
        say!("{key} = {}", cut(&value.to_string()))?;
    }
    for (key, value) in &contents.metadata {
        say!("{} = {}", key.escape_debug(), cut(&value.to_string()))?;
    }
    let mut types: BTreeMap<&str, (usize, u64)> = BTreeMap::new();
    for row in &contents.tensors {
        let (count, bytes) = types.entry(&row.dtype).or_default();
        *count += 1;
        *bytes = bytes.saturating_add(row.bytes.unwrap_or(0));
    }
    say!("\n{:<14} {:>8} {:>12}", "type", "tensors", "size")?;
    for (dtype, (count, bytes)) in types {
        say!("{dtype:<14} {count:>8} {:>12}", progress::human(bytes))?;
        if !all {
            continue;
        }
        for row in contents.tensors.iter().filter(|row| row.dtype == dtype) {
            let shape: Vec<String> = row.shape.iter().map(ToString::to_string).collect();
            say!(
                "  {:<40} {:<16} {:>12}  {}",
                row.name.escape_debug().to_string(),
                shape.join(" x "),
                row.bytes.map_or_else(|| "?".to_owned(), progress::human),
                row.place.as_deref().unwrap_or_default().escape_debug()
            )?;
        }
    }
    let total = contents.tensors.iter().filter_map(|row| row.bytes).fold(0, u64::saturating_add);
    say!("\n{} tensors, {}", contents.tensors.len(), progress::human(total))
}

/// Text of a file for people: without what a terminal obeys, and not too long.
fn cut(text: &str) -> String {
    let mut out: String =
        text.chars().take(SHOWN_CHARS).filter(|char| !char.is_control()).collect();
    if text.chars().nth(SHOWN_CHARS).is_some() {
        out.push_str("...");
    }
    out
}
