//! Language models of Hugging Face's folders as snapshots: what is read of their files, and who refuses them.

use super::cases::{copied, packed};
use super::checkpoints::edit;
use super::common::LINKED;

use std::collections::BTreeSet;
use std::path::Path;

use defrost_engine::blocks;
use defrost_loader::{OpenOptions, Snapshot, Tensor};
use defrost_model::spec::Description;
use defrost_model::{
    Attention, BlockKind, Family, Head, LocalLayers, ModelSpec, Precision, RopeScaling, isa, stored,
};
use defrost_pack::{
    CheckpointTensor, ModelKind, Outliers, PackOptions, Packed, Quantization, Shape, SpecOptions,
    open_checkpoint, pack, quantized, synthesize, synthesize_gguf, to_f32, usual_precision,
};
use defrost_tasks::{Embedder, EmbedderOptions, Reranker, RerankerOptions, TextTokenizer};
use defrost_testing::golden::repository;
use serde_json::{Value, json};

/// A language model of a preset's kind with few weights.
fn small(preset: &str) -> tempfile::TempDir {
    let mut shape = Shape::preset(preset).unwrap();
    for (dimension, size) in [
        ("hidden", 48),
        ("layers", 7),
        ("heads", 4),
        ("kv_heads", 2),
        ("head_dim", 16),
        ("intermediate", 80),
        ("vocab", 272),
    ] {
        shape.set(dimension, size).unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    synthesize(&shape, None, 3, dir.path()).unwrap();
    dir
}

fn chat() -> SpecOptions {
    SpecOptions { name: "m".into(), kind: Some(ModelKind::Chat), ..SpecOptions::default() }
}

/// Packed row by row, as it can be looked at.
fn portable(dir: &Path, spec: SpecOptions) -> Result<(Packed, Snapshot), String> {
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("m.snap");
    let options = PackOptions {
        spec,
        precision: Precision::F32,
        isa: isa::PORTABLE.to_owned(),
        outliers: Outliers::Auto,
        store_prefix: true,
    };
    let checkpoint = open_checkpoint(dir).map_err(|error| error.to_string())?;
    let packed =
        pack(&checkpoint, &options, &file, &mut |_, _| {}).map_err(|error| error.to_string())?;
    let open = OpenOptions::new([isa::PORTABLE], isa::LAYOUT_ABI);
    Ok((packed, Snapshot::open(&file, &open).unwrap()))
}

fn told(packed: &Packed) -> String {
    packed.told.iter().map(|told| format!("{} {told}\n", told.what)).collect()
}

#[test]
fn families_are_packed_as_what_they_compute() {
    let llama3 = RopeScaling::Llama3 { factor: 32.0, low: 1.0, high: 4.0, original: 8192.0 };
    let local = LocalLayers { window: 512, every: 6, theta: 1e4 };
    for (preset, attention, theta) in [
        ("qwen2.5-0.5b-instruct", Attention::PLAIN, 1e6),
        ("qwen3-0.6b", Attention::PLAIN, 1e6),
        ("smollm2-1.7b", Attention::PLAIN, 130_000.0),
        ("llama-3.2-1b", Attention { rope: llama3, ..Attention::PLAIN }, 5e5),
        ("gemma-3-270m", Attention { local: Some(local), scale: None, ..Attention::PLAIN }, 1e6),
    ] {
        let dir = small(preset);
        let (made, snapshot) = portable(dir.path(), chat()).unwrap();
        let spec = ModelSpec::from_snapshot(&snapshot).unwrap();
        assert_eq!(spec, made.spec, "{preset}");
        let config = &spec.config;
        assert_eq!(config.family, Family::preset(preset).unwrap().0);
        assert_eq!((config.head, config.tied), (Head::LanguageModel, true), "{preset}");
        assert_eq!((config.attention, config.rope_theta), (attention, theta), "{preset}");
        assert_eq!(spec.max_length, config.max_positions);
        let chat = spec.chat.unwrap();
        assert!(chat.template.as_deref().is_some_and(|text| text.contains("<|im_start|>")));
        assert_eq!(chat.special_tokens["eos_token"], "<|im_end|>");
        assert_eq!((chat.ends, chat.add_bos), (BTreeSet::from([5]), false));
        assert_eq!((chat.sampling.temperature, chat.sampling.top_k), (Some(0.7), Some(20)));
        // One table for words and head; norms as they are multiplied.
        assert!(snapshot.has("embedding.words.weight") && !snapshot.has("head.words.weight"));
        let norm = snapshot.tensor("layer.3.attention_norm.weight").unwrap().bytes;
        assert!(norm.chunks(4).all(|value| value == 1f32.to_le_bytes()), "{preset}");
        let description = Description::of(&snapshot).unwrap();
        assert!(description.common(&snapshot).language_model(Path::new("m")).is_ok());
    }
}

/// The same bytes, native or laid out from portable ones.
#[test]
fn every_precision_is_packed() {
    let dir = small("qwen3-0.6b");
    for precision in [Precision::F32, Precision::Bf16, Precision::Int8] {
        let (_, native) = packed(dir.path(), precision, chat()).unwrap();
        assert_eq!(native.meta(stored::PRECISION), Some(precision.name()));
        let words = native.tensor("embedding.words.weight").unwrap();
        assert_eq!((words.layout.as_str(), words.dtype), ("panel64", precision.dtype()));
        assert!(native.has("embedding.words.scale") == (precision == Precision::Int8));
    }
}

#[test]
fn heads_of_their_own_are_stored() {
    let dir = small("llama-3.2-1b");
    edit(dir.path(), "config.json", json!({"tie_word_embeddings": false}));
    let error = portable(dir.path(), chat()).unwrap_err();
    assert!(error.contains("lm_head.weight"), "{error}");
    let mut shape = Shape::preset("llama-3.2-1b").unwrap();
    for (dimension, size) in [("hidden", 32), ("layers", 1), ("intermediate", 64), ("vocab", 272)] {
        shape.set(dimension, size).unwrap();
    }
    shape.config.tied = false;
    let dir = tempfile::tempdir().unwrap();
    synthesize(&shape, None, 3, dir.path()).unwrap();
    let (made, snapshot) = portable(dir.path(), chat()).unwrap();
    assert!(!made.spec.config.tied && snapshot.has("head.words.weight"));
}

#[test]
fn other_functions_refuse_them_and_name_the_one_that_serves_them() {
    let dir = small("qwen3-0.6b");
    let (_, snapshot) = packed(dir.path(), Precision::F32, chat()).unwrap();
    let reranker = Reranker::load(LINKED, &snapshot, &RerankerOptions::default()).unwrap_err();
    let embedder = Embedder::load(LINKED, &snapshot, &EmbedderOptions::default()).unwrap_err();
    for error in [reranker, embedder] {
        let error = error.to_string();
        assert!(error.contains("a language model") && error.contains("with `chat`"), "{error}");
    }
    for (folder, function) in
        [("golden/qwen3-embedding", "`embed`"), ("golden/qwen3-reranker", "`rerank-cpu-int8`")]
    {
        let dir = copied(folder);
        let (_, snapshot) = packed(dir.path(), Precision::F32, SpecOptions::default()).unwrap();
        let common = Description::of(&snapshot).unwrap().common(&snapshot);
        let error = common.language_model(snapshot.path()).unwrap_err().to_string();
        assert!(error.contains("expected a language model") && error.contains(function), "{error}");
    }
}

/// Families that nobody has made a reranker of are for chat; the others must be asked for.
#[test]
fn who_is_for_chat() {
    let options =
        |name: &str, kind| SpecOptions { name: name.to_owned(), kind, ..SpecOptions::default() };
    for preset in ["llama-3.2-1b", "gemma-3-270m"] {
        let dir = small(preset);
        let (made, _) = portable(dir.path(), options("m", None)).unwrap();
        assert!(told(&made).contains("kind chat (config.json: "), "{}", told(&made));
        let error = portable(dir.path(), options("my-reranker", None)).unwrap_err();
        assert!(error.contains("--kind chat for a language model"), "{error}");
        let error = portable(dir.path(), options("m", Some(ModelKind::Reranker))).unwrap_err();
        assert!(error.contains("no prompt of a reranker is known"), "{error}");
    }
    let error = portable(small("qwen3-0.6b").path(), options("m", None)).unwrap_err();
    assert!(error.contains("--kind chat for a language model"), "{error}");
    let pooling = SpecOptions { pooling: Some("mean".into()), ..chat() };
    let error = portable(small("qwen3-0.6b").path(), pooling).unwrap_err();
    assert!(error.contains("this is packed for chat"), "{error}");
    let embedder =
        SpecOptions { kind: Some(ModelKind::Embedder), pooling: Some("mean".into()), ..chat() };
    let error = portable(small("gemma-3-270m").path(), embedder).unwrap_err();
    assert!(error.contains("as language models only"), "{error}");
}

#[test]
fn templates_lie_in_several_places() {
    let dir = small("llama-3.2-1b");
    let path = dir.path();
    let read = || portable(path, chat()).map(|(made, _)| (told(&made), made.spec.chat.unwrap()));
    let two = json!([{"name": "default", "template": "A"}, {"name": "tool_use", "template": "B"}]);
    edit(path, "tokenizer_config.json", json!({"chat_template": two}));
    let (_, spec) = read().unwrap();
    assert_eq!(spec.template.as_deref(), Some("A"));
    assert_eq!(spec.named_templates["tool_use"], "B");
    std::fs::write(path.join("chat_template.jinja"), "C").unwrap();
    std::fs::create_dir(path.join("additional_chat_templates")).unwrap();
    std::fs::write(path.join("additional_chat_templates/rag.jinja"), "D").unwrap();
    let (told, spec) = read().unwrap();
    assert_eq!(spec.template.as_deref(), Some("C"));
    assert_eq!(spec.named_templates.len(), 2);
    assert!(
        told.contains("template of the model, and rag, tool_use (chat_template.jinja)"),
        "{told}"
    );
    std::fs::remove_file(path.join("chat_template.jinja")).unwrap();
    edit(path, "tokenizer_config.json", json!({"chat_template": null}));
    let (told, spec) = read().unwrap();
    assert_eq!(spec.template, None);
    assert!(told.contains("messages are refused"), "{told}");
    for (wrong, part) in [(json!(7), "expected a text"), (json!([{"name": "x"}]), "a name and a")] {
        edit(path, "tokenizer_config.json", json!({"chat_template": wrong}));
        let error = read().unwrap_err();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn turns_end_where_files_say() {
    let dir = small("llama-3.2-1b");
    let path = dir.path();
    let read = || portable(path, chat()).map(|(made, _)| (told(&made), made.spec.chat.unwrap()));
    edit(path, "config.json", json!({"eos_token_id": 1}));
    assert_eq!(read().unwrap().1.ends, BTreeSet::from([1, 5]));
    edit(path, "generation_config.json", json!({"eos_token_id": [2, 3], "do_sample": false}));
    let (_, spec) = read().unwrap();
    assert_eq!(spec.ends, BTreeSet::from([2, 3, 5]));
    assert_eq!(spec.sampling.temperature, None);
    for (key, value, part) in [
        ("eos_token_id", json!(272), "eos_token_id is 272, expected ids below the 272 words"),
        ("eos_token_id", json!(["a"]), "eos_token_id is \"a\""),
        ("repetition_penalty", json!(0), "repetition_penalty is 0"),
        ("top_k", json!(-1), "generation_config.json"),
    ] {
        edit(path, "generation_config.json", json!({ key: value }));
        let error = read().unwrap_err();
        assert!(error.contains(part), "{error}");
        edit(path, "generation_config.json", json!({ key: Value::Null }));
    }
    edit(path, "generation_config.json", json!({"no_repeat_ngram_size": 3, "num_beams": 1}));
    let (told, _) = read().unwrap();
    assert!(told.contains("no_repeat_ngram_size is 3") && !told.contains("num_beams"), "{told}");
    edit(path, "tokenizer_config.json", json!({"eos_token": null}));
    edit(path, "config.json", json!({"eos_token_id": null}));
    let (told, spec) = read().unwrap();
    assert!(spec.ends.is_empty() && told.contains("no token ends the model's turn"), "{told}");
}

/// A file in blocks, packed: every row has the values that the file has, to the bit.
#[test]
fn blocks_keep_their_values() {
    let mut shape = Shape::preset("llama-3.2-1b").unwrap();
    for (dimension, size) in [
        ("hidden", 256),
        ("layers", 3),
        ("heads", 4),
        ("kv_heads", 2),
        ("head_dim", 64),
        ("intermediate", 512),
        ("vocab", 272),
    ] {
        shape.set(dimension, size).unwrap();
    }
    for (quantization, tied) in
        [("q8_0", true), ("q4_k_m", false), ("q5_k_m", true), ("q4_0", false)]
    {
        shape.config.tied = tied;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("m.gguf");
        let kind = Quantization::by_name(quantization).unwrap();
        synthesize_gguf(&shape, kind, None, 3, &file).unwrap();
        let checkpoint = open_checkpoint(&file).unwrap();
        assert_eq!(usual_precision(&checkpoint), Precision::Blocks);
        let (made, snapshot) = packed(&file, Precision::Blocks, SpecOptions::default()).unwrap();
        assert_eq!(made.spec.config.tied, tied);
        let label = made.spec.chat.unwrap().quantization.unwrap();
        assert_eq!(label.to_lowercase(), quantization);
        assert_eq!(snapshot.meta(stored::PRECISION), Some("blocks"));
        let model = "model.layers.1.";
        for (name, sources) in [
            (
                "layer.1.qkv.weight",
                &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"][..],
            ),
            ("layer.1.gate_up.weight", &["mlp.gate_proj", "mlp.up_proj"]),
            ("layer.1.down.weight", &["mlp.down_proj"]),
        ] {
            for (at, source) in sources.iter().enumerate() {
                let source = checkpoint.get(&format!("{model}{source}.weight")).unwrap();
                let tensor = snapshot.tensor(&format!("{name}.{at}")).unwrap();
                same_rows(&source, &tensor);
            }
        }
        let words = checkpoint.get("model.embed_tokens.weight").unwrap();
        if tied {
            same_rows(&words, &snapshot.tensor("embedding.words.weight.0").unwrap());
            assert!(!snapshot.has("head.words.weight.0"));
        } else {
            let rows = snapshot.tensor("embedding.words.weight").unwrap();
            assert_eq!(rows.layout, format!("block-rows/{}", words.blocks.unwrap().name()));
            assert_eq!(rows.bytes, words.bytes);
            let head = checkpoint.get("lm_head.weight").unwrap();
            same_rows(&head, &snapshot.tensor("head.words.weight.0").unwrap());
        }
        let error = portable_blocks(&file);
        assert!(error.contains("blocks are laid out for CPUs only"), "{error}");
        let reranker = SpecOptions { kind: Some(ModelKind::Reranker), ..SpecOptions::default() };
        let error = packed(&file, Precision::F32, reranker).unwrap_err();
        assert!(error.contains("no prompt of a reranker"), "{error}");
        for precision in [Precision::F32, Precision::Int8] {
            packed(&file, precision, SpecOptions::default()).unwrap();
        }
    }
    let error = packed(small("qwen3-0.6b").path(), Precision::Blocks, chat()).unwrap_err();
    assert!(error.contains("blocks is that of GGUF files"), "{error}");
}

fn portable_blocks(file: &Path) -> String {
    let options = PackOptions {
        spec: SpecOptions::default(),
        precision: Precision::Blocks,
        isa: isa::PORTABLE.to_owned(),
        outliers: Outliers::Auto,
        store_prefix: true,
    };
    let checkpoint = open_checkpoint(file).unwrap();
    let out = file.with_extension("snap");
    pack(&checkpoint, &options, &out, &mut |_, _| {}).unwrap_err().to_string()
}

fn same_rows(source: &CheckpointTensor, tensor: &Tensor) {
    let kind = source.blocks.unwrap();
    assert_eq!(tensor.layout, format!("blocks64/{}", kind.name()));
    let (n, k) = (source.shape[0], source.shape[1]);
    let expected = to_f32(source).unwrap();
    let mut row = vec![0.0; k];
    for (at, expected) in expected.chunks(k).enumerate() {
        blocks::unpack_row(kind, &tensor.bytes, n, k, at, &mut row);
        let same = row.iter().zip(expected).all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(same, "{} row {at}", tensor.name);
    }
}

/// Files of floats are stored as such: bf16 as it is, f16 as f32, which holds it.
#[test]
fn floats_of_files_stay_floats() {
    for (quantization, precision) in
        [("f16", Precision::F32), ("bf16", Precision::Bf16), ("f32", Precision::F32)]
    {
        let mut shape = Shape::preset("qwen3-0.6b").unwrap();
        for (dimension, size) in
            [("hidden", 48), ("layers", 1), ("intermediate", 64), ("vocab", 272)]
        {
            shape.set(dimension, size).unwrap();
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("m.gguf");
        let kind = Quantization::by_name(quantization).unwrap();
        synthesize_gguf(&shape, kind, None, 3, &file).unwrap();
        let usual = usual_precision(&open_checkpoint(&file).unwrap());
        assert_eq!(usual, precision, "{quantization}");
        let (_, snapshot) = packed(&file, usual, SpecOptions::default()).unwrap();
        assert_eq!(snapshot.tensor("layer.0.qkv.weight").unwrap().dtype, precision.dtype());
    }
}

/// A folder in floats is packed as the GGUF file that is made of it.
#[test]
fn folders_are_quantised_as_files_are() {
    let dir = small("qwen3-0.6b");
    let checkpoint = open_checkpoint(dir.path()).unwrap();
    let to = Quantization::by_name("q8_0").unwrap();
    // Rows of 48 are no whole blocks of 32.
    let odd = quantized(&checkpoint, to).unwrap();
    assert_eq!(odd.get("model.layers.0.self_attn.q_proj.weight").unwrap().blocks, None);
    let down = odd.get("model.layers.0.self_attn.o_proj.weight").unwrap();
    assert_eq!(down.blocks, Some(BlockKind::Q8_0));
    assert_eq!((odd.quantization(), odd.is_gguf()), (Some("Q8_0"), false));
    let options = PackOptions {
        spec: chat(),
        precision: Precision::Blocks,
        isa: isa::NATIVE.to_owned(),
        outliers: Outliers::Auto,
        store_prefix: true,
    };
    let out = dir.path().join("m.snap");
    let made = pack(&odd, &options, &out, &mut |_, _| {}).unwrap();
    assert_eq!(made.spec.chat.unwrap().quantization.as_deref(), Some("Q8_0"));
    let error = quantized(&odd, to).unwrap_err().to_string();
    assert!(error.contains("for folders of decoders in floats"), "{error}");
    let bert = open_checkpoint(copied("golden/bert-embedding").path()).unwrap();
    assert!(quantized(&bert, to).is_err());
}

/// Folders that `transformers` reads and files that were converted from them: one model, and one tokenizer.
#[test]
fn converted_files_are_what_their_folders_are() {
    let texts = [
        "Where do plants get their food?",
        " It's  what we'LL say, they've SAID;  don't!\r\n\r\n  Twice\t",
        "3.14159, 1 000 and naïve café \u{4e2d}\u{6587} \u{1f600}\u{301}",
        "",
        "   three blanks\n\n\n",
    ];
    for model in ["gemma3", "llama", "qwen2", "qwen3", "smollm", "tinyllama"] {
        let folder = repository("data/golden").join(format!("generate-{model}"));
        let file = repository("data/golden/gguf-models").join(format!("{model}-bf16.gguf"));
        let (of_folder, first) = portable(&folder, chat()).unwrap();
        let (of_file, second) = portable(&file, chat()).unwrap();
        assert_eq!(of_file.spec.config, of_folder.spec.config, "{model}");
        let compiled = |made: &Packed| made.tokenizer_not_compiled.is_none();
        assert_eq!(compiled(&of_file), compiled(&of_folder), "{model}");
        assert!(compiled(&of_file) || !model.starts_with("qwen"));
        let (one, other) = (of_file.spec.chat.unwrap(), of_folder.spec.chat.unwrap());
        assert_eq!((&one.template, one.bos), (&other.template, other.bos), "{model}");
        assert_eq!(one.add_bos, other.add_bos, "{model}");
        assert!(other.ends.is_subset(&one.ends), "{model}: {:?} {:?}", one.ends, other.ends);
        for key in ["bos_token", "eos_token"] {
            assert_eq!(one.special_tokens.get(key), other.special_tokens.get(key), "{model} {key}");
        }
        for tensor in &first.manifest().tensors {
            let name = &*tensor.name;
            if name.starts_with("layer.") || name.starts_with("embedding.") || name == "norm.weight"
            {
                let (one, other) = (first.tensor(name).unwrap(), second.tensor(name).unwrap());
                assert!(one.bytes == other.bytes, "{model} {name}");
            }
        }
        let tokenizer = |snapshot: &Snapshot| {
            TextTokenizer::from_json(&snapshot.tensor(stored::TOKENIZER).unwrap().bytes).unwrap()
        };
        let (one, other) = (tokenizer(&first), tokenizer(&second));
        for text in texts {
            let ids = one.ids(text, usize::MAX).unwrap();
            assert_eq!(other.ids(text, usize::MAX).unwrap(), ids, "{model} {text:?}");
        }
        assert_eq!(one.single(&[7]).unwrap(), other.single(&[7]).unwrap(), "{model}");
    }
}
