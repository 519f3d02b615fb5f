//! Files as llama.cpp writes them, made up small: what they are packed as, and what is refused of them.

use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;
use defrost_model::parts::plan;
use defrost_model::{Attention, LocalLayers, RopeScaling};

use super::keys::{MODEL, OTHERS, Rule, Sample, TOKENIZER};
use super::*;
use crate::checkpoint::{check_all_read, prepare, read};
use crate::formats::gguf::writing::Content;
use crate::formats::{GgufArray, GgufKind, GgufType, to_f32};
use crate::{Quantization, Shape, SpecOptions, synthesize, synthesize_gguf};

/// Presets of each architecture, and one that has more of GGUF's keys.
const PRESETS: [&str; 4] = ["qwen2.5-0.5b-instruct", "qwen3-0.6b", "llama-3.2-1b", "gemma-3-270m"];

fn small(preset: &str) -> Shape {
    let mut shape = Shape::preset(preset).unwrap();
    for (dimension, size) in [
        ("hidden", 64),
        ("layers", 8),
        ("heads", 4),
        ("kv_heads", 2),
        ("head_dim", 16),
        ("intermediate", 96),
        ("vocab", 272),
    ] {
        shape.set(dimension, size).unwrap();
    }
    shape
}

fn file(shape: &Shape, quantization: &str) -> Gguf {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    let quantization = Quantization::by_name(quantization).unwrap();
    synthesize_gguf(shape, quantization, None, 5, &path).unwrap();
    Gguf::parse(Bytes::from(std::fs::read(path).unwrap())).unwrap()
}

/// What a file is made of, with random weights left out.
fn content(preset: &str) -> Content {
    let gguf = file(&small(preset), "q8_0");
    let tensors = gguf.tensors().iter();
    // The weights of such files are one byte again and again; these factors are read.
    let tensors = tensors.filter(|tensor| tensor.name != "rope_freqs.weight");
    Content {
        version: 3,
        metadata: gguf.metadata().map(|(key, value)| (key.to_owned(), value.clone())).collect(),
        tensors: tensors.map(|one| (one.name.clone(), one.kind, one.shape.clone())).collect(),
    }
}

fn put(content: &mut Content, key: &str, value: Option<GgufValue>) {
    content.metadata.retain(|(own, _)| own != key);
    content.metadata.extend(value.map(|value| (key.to_owned(), value)));
}

/// All that is read of a file, as text.
fn all_of(content: &Content) -> Result<String, String> {
    let gguf = Gguf::parse(Bytes::from(content.encode())).map_err(|error| error.to_string())?;
    let opened = of(&gguf, Path::new("m.gguf")).map_err(|error| error.to_string())?;
    let checkpoint = prepare(&opened).map_err(|error| error.to_string())?;
    let found = read(&checkpoint, &SpecOptions::default()).map_err(|error| error.to_string())?;
    let groups = plan(&found.spec.config, &found.naming);
    check_all_read(&checkpoint, &groups, found.spec.config.family)
        .map_err(|error| error.to_string())?;
    let tensors: Vec<_> = checkpoint
        .names()
        .map(|name| {
            let tensor = checkpoint.get(name).unwrap();
            let mut hasher = DefaultHasher::new();
            tensor.bytes.hash(&mut hasher);
            (name.to_owned(), tensor.shape, tensor.dtype, tensor.blocks, hasher.finish())
        })
        .collect();
    Ok(format!("{found:?} {tensors:?}"))
}

fn value(sample: Sample) -> GgufValue {
    match sample {
        Sample::N(number) if number.fract() == 0.0 => {
            GgufValue::U32(format!("{number}").parse().unwrap())
        }
        Sample::N(number) => GgufValue::F32(number),
        Sample::T(text) => GgufValue::String(text.to_owned()),
        Sample::B(flag) => GgufValue::Bool(flag),
    }
}

/// A vocabulary of SentencePiece in miniature: `<unk>`, `<s>`, `</s>`, all bytes, and pieces.
fn with_pieces(mut content: Content) -> Content {
    let mut tokens: Vec<(String, i32, f32)> =
        vec![("<unk>".into(), 2, 0.0), ("<s>".into(), 3, 0.0), ("</s>".into(), 3, 0.0)];
    tokens.extend((0..=255).map(|byte| (format!("<0x{byte:02X}>"), 6, 0.0)));
    for (piece, score) in
        [("\u{2581}", -5.0), ("a", -6.0), ("b", -7.0), ("ab", -1.0), ("\u{2581}ab", -2.0)]
    {
        tokens.push((piece.into(), 1, score));
    }
    tokens.push(("  ".into(), 4, 0.0));
    let list =
        |element, values: Vec<GgufValue>| Some(GgufValue::Array(GgufArray::of(element, &values)));
    let texts = tokens.iter().map(|one| GgufValue::String(one.0.clone())).collect();
    let kinds = tokens.iter().map(|one| GgufValue::I32(one.1)).collect();
    let scores = tokens.iter().map(|one| GgufValue::F32(one.2)).collect();
    put(&mut content, "tokenizer.ggml.model", Some(GgufValue::String("llama".into())));
    put(&mut content, "tokenizer.ggml.tokens", list(GgufType::String, texts));
    put(&mut content, "tokenizer.ggml.token_type", list(GgufType::I32, kinds));
    put(&mut content, "tokenizer.ggml.scores", list(GgufType::F32, scores));
    put(&mut content, "tokenizer.ggml.bos_token_id", Some(GgufValue::U32(1)));
    put(&mut content, "tokenizer.ggml.eos_token_id", Some(GgufValue::U32(2)));
    for key in ["merges", "add_bos_token", "pre"] {
        put(&mut content, &format!("tokenizer.ggml.{key}"), None);
    }
    content
}

/// A folder and a file that are made up alike are one model.
#[test]
fn a_file_is_what_the_folder_is() {
    for preset in PRESETS {
        let shape = small(preset);
        let dir = tempfile::tempdir().unwrap();
        synthesize(&shape, None, 5, dir.path()).unwrap();
        let folder = Checkpoint::open(dir.path()).unwrap();
        let folder = prepare(&folder).unwrap();
        let options = SpecOptions { kind: Some(crate::ModelKind::Chat), ..SpecOptions::default() };
        let expected = read(&folder, &options).unwrap();
        let opened = of(&file(&shape, "f32"), Path::new("m.gguf")).unwrap();
        let opened = prepare(&opened).unwrap();
        let found = read(&opened, &SpecOptions::default()).unwrap();
        assert_eq!(found.spec.config, expected.spec.config, "{preset}");
        let (chat, other) = (found.spec.chat.unwrap(), expected.spec.chat.unwrap());
        assert_eq!(chat.template, other.template);
        assert!(other.ends.is_subset(&chat.ends), "{:?} {:?}", chat.ends, other.ends);
        assert_eq!(chat.quantization.as_deref(), Some("F32"));
        // The folder's weights are rounded to bf16, and some of Gemma's are less one.
        let norms = folder.norm_offset();
        for name in folder.names() {
            let (folder, file) = (folder.get(name).unwrap(), opened.get(name).unwrap());
            assert_eq!(folder.shape, file.shape, "{preset} {name}");
            let offset =
                if folder.shape.len() == 1 && name.ends_with("norm.weight") { norms } else { 0.0 };
            let (folder, file) = (to_f32(&folder).unwrap(), to_f32(&file).unwrap());
            let same = |(a, b): (&f32, &f32)| (a + offset - b).abs() <= b.abs() / 128.0;
            assert!(folder.iter().zip(&file).all(same), "{preset} {name}");
        }
        assert_eq!(folder.names().count(), opened.names().count(), "{preset}");
    }
}

#[test]
fn every_row_of_the_tables_holds() {
    let mut bases: Vec<Content> = PRESETS.iter().map(|preset| content(preset)).collect();
    bases.push(with_pieces(content("llama-3.2-1b")));
    // What the base has not is added, so that it can be changed.
    for base in &mut bases {
        for key in ["eot", "unknown", "padding"] {
            put(base, &format!("tokenizer.ggml.{key}_token_id"), Some(GgufValue::U32(2)));
        }
    }
    let before: Vec<String> = bases.iter().map(|base| all_of(base).unwrap()).collect();
    let owns: Vec<String> = bases
        .iter()
        .map(|base| {
            match &base.metadata.iter().find(|(key, _)| key == "general.architecture").unwrap().1 {
                GgufValue::String(name) => name.clone(),
                _ => unreachable!(),
            }
        })
        .collect();
    let with = |at: usize, key: &str, value: GgufValue| {
        let mut edited = bases[at].clone();
        put(&mut edited, key, Some(value));
        all_of(&edited)
    };
    let tables = [(None, MODEL), (Some("tokenizer."), TOKENIZER), (Some(""), OTHERS)];
    for (prefix, table) in tables {
        for (name, rule) in table {
            let key = |at: usize| match prefix {
                Some(prefix) => format!("{prefix}{name}"),
                None => format!("{}.{name}", owns[at]),
            };
            match rule {
                Rule::Harmless => {
                    for odd in [GgufValue::Bool(true), GgufValue::String("odd".into())] {
                        assert_eq!(with(0, &key(0), odd).as_ref(), Ok(&before[0]), "{name}");
                    }
                }
                Rule::Only(values) => {
                    for &sample in *values {
                        assert_eq!(
                            with(0, &key(0), value(sample)).as_ref(),
                            Ok(&before[0]),
                            "{name}"
                        );
                    }
                    for odd in [GgufValue::F32(0.25), GgufValue::String("odd".into())] {
                        let error = with(0, &key(0), odd).unwrap_err();
                        assert!(error.contains(&key(0)), "{name}: {error}");
                    }
                }
                Rule::Read(None) => {
                    let odd = GgufValue::String("no list".into());
                    let changes = (0..bases.len())
                        .any(|at| with(at, &key(at), odd.clone()).as_ref() != Ok(&before[at]));
                    assert!(changes, "{name} changes nothing");
                }
                Rule::Read(Some(sample)) => {
                    let changes = (0..bases.len())
                        .any(|at| with(at, &key(at), value(*sample)).as_ref() != Ok(&before[at]));
                    assert!(changes, "{name} changes nothing");
                }
            }
        }
    }
    for key in ["qwen2.no_such_key", "tokenizer.no_such_key"] {
        let error = with(0, key, GgufValue::U32(1)).unwrap_err();
        assert!(error.contains(key) && error.contains("does not know"), "{error}");
    }
    assert_eq!(with(0, "mine.no_such_key", GgufValue::U32(1)).as_ref(), Ok(&before[0]));
}

#[test]
fn tables_are_in_order() {
    for table in [MODEL, TOKENIZER, OTHERS] {
        assert!(table.is_sorted_by(|a, b| a.0 < b.0));
    }
}

#[test]
fn what_a_file_lacks_or_has_too_much_of_is_refused() {
    let number = |value: u32| Some(GgufValue::U32(value));
    let text = |value: &str| Some(GgufValue::String(value.to_owned()));
    for (preset, key, value, part) in [
        (
            0,
            "general.architecture",
            text("bert"),
            "general.architecture is \"bert\", expected one of",
        ),
        (0, "general.architecture", None, "general.architecture is missing"),
        (0, "qwen2.block_count", None, "has no qwen2.block_count"),
        (0, "qwen2.attention.layer_norm_rms_epsilon", None, "layer_norm_rms_epsilon"),
        (0, "qwen2.block_count", number(7), "model.layers.7."),
        (0, "qwen2.rope.dimension_count", number(8), "expected the 16 of a query's head"),
        (0, "qwen2.attention.value_length", number(8), "expected the 16 of a query's head"),
        (0, "qwen2.vocab_size", number(8), "expected the 272 rows"),
        (0, "qwen2.attention.sliding_window", number(8), "have no windows"),
        (0, "qwen2.pooling_type", number(3), "qwen2.pooling_type is 3, which would change results"),
        (0, "qwen2.expert_count", number(8), "qwen2.expert_count is 8"),
        (0, "qwen2.rope.scaling.type", text("yarn"), "expected none or linear"),
        (0, "tokenizer.ggml.model", text("bert"), "expected gpt2 (byte pairs) or llama"),
        (0, "tokenizer.ggml.model", None, "has no tokenizer.ggml.model"),
        (0, "tokenizer.ggml.pre", None, "tokenizer.ggml.pre is missing"),
        (0, "tokenizer.ggml.pre", text("default"), "expected one of gpt-2, qwen2"),
        (0, "tokenizer.ggml.token_type", None, "has no tokenizer.ggml.token_type"),
        (0, "tokenizer.ggml.eos_token_id", number(272), "expected an id below the 272 tokens"),
        (0, "tokenizer.chat_template", number(1), "expected a text"),
        (2, "llama.attention.head_count", number(3), "3 heads of pairs share"),
        (3, "gemma3.attention.sliding_window_pattern", number(0), "from 1"),
    ] {
        let mut edited = content(PRESETS[preset]);
        put(&mut edited, key, value);
        let error = all_of(&edited).err().unwrap_or_else(|| panic!("{key}: accepted"));
        assert!(error.contains(part), "{key}: {error}");
    }
    let mut edited = content(PRESETS[0]);
    edited.tensors.push(("blk.0.ssm_a".into(), GgufKind::F32, vec![4]));
    assert!(all_of(&edited).unwrap_err().contains("\"blk.0.ssm_a\" is none of a qwen2 model's"));
    let mut edited = content(PRESETS[0]);
    edited.tensors[0].1 = GgufKind::Other(23);
    let error = all_of(&edited).unwrap_err();
    assert!(error.contains("is in kind 23") && error.contains("Q4_K, Q5_K, Q6_K"), "{error}");
    let mut edited = content(PRESETS[2]);
    edited.tensors.push(("rope_freqs.weight".into(), GgufKind::F32, vec![8]));
    let error = all_of(&edited).unwrap_err();
    assert!(error.contains("not those of Llama 3.1"), "{error}");
}

#[test]
fn attention_is_what_the_metadata_say() {
    let config = |edited: &Content| {
        let gguf = Gguf::parse(Bytes::from(edited.encode())).unwrap();
        let opened = of(&gguf, Path::new("m.gguf")).unwrap();
        let prepared = prepare(&opened).unwrap();
        read(&prepared, &SpecOptions::default()).unwrap().spec.config.attention
    };
    let mut linear = content(PRESETS[1]);
    put(&mut linear, "qwen3.rope.scaling.type", Some(GgufValue::String("linear".into())));
    put(&mut linear, "qwen3.rope.scaling.factor", Some(GgufValue::F32(4.0)));
    let rope = RopeScaling::Linear { factor: 4.0 };
    assert_eq!(config(&linear), Attention { rope, ..Attention::PLAIN });
    let local = |every| Some(LocalLayers { window: 512, every, theta: 1e4 });
    let mut gemma = content(PRESETS[3]);
    for key in ["attention.sliding_window_pattern", "rope.freq_base_swa"] {
        put(&mut gemma, &format!("gemma3.{key}"), None);
    }
    assert_eq!(config(&gemma), Attention { local: local(6), ..Attention::PLAIN });
    let flags: Vec<GgufValue> = (1..9).map(|layer| GgufValue::Bool(layer % 4 != 0)).collect();
    let flags = GgufValue::Array(GgufArray::of(GgufType::Bool, &flags));
    put(&mut gemma, "gemma3.attention.sliding_window_pattern", Some(flags));
    assert_eq!(config(&gemma), Attention { local: local(4), ..Attention::PLAIN });
    put(&mut gemma, "gemma3.attention.sliding_window", None);
    assert_eq!(config(&gemma), Attention::PLAIN);
}

/// Factors as converters compute them, of Llama 3.1 and 3.2.
#[test]
fn stretched_angles_are_known_by_their_factors() {
    for factor in [8.0, 32.0] {
        let scaling = RopeScaling::Llama3 { factor, low: 1.0, high: 4.0, original: 8192.0 };
        let mut shape = small("llama-3.2-1b");
        shape.config.head_dim = 64;
        shape.config.attention.rope = scaling;
        let opened = of(&file(&shape, "f16"), Path::new("m.gguf")).unwrap();
        let found = read(&prepare(&opened).unwrap(), &SpecOptions::default()).unwrap();
        assert_eq!(found.spec.config.attention.rope, scaling);
    }
}

/// The one that is named, the only one of a folder, and no guess among several.
#[test]
fn files_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    assert_eq!(find(path).unwrap(), None);
    std::fs::write(path.join("a.gguf"), "").unwrap();
    std::fs::write(path.join("mmproj-a.gguf"), "").unwrap();
    assert_eq!(find(path).unwrap(), Some(path.join("a.gguf")));
    std::fs::write(path.join("b.gguf"), "").unwrap();
    let error = find(path).unwrap_err().to_string();
    assert!(error.contains("2 GGUF files (a.gguf, b.gguf)"), "{error}");
    assert_eq!(find(&path.join("b.gguf")).unwrap(), Some(path.join("b.gguf")));
    std::fs::write(path.join("model.safetensors"), "").unwrap();
    assert_eq!(find(path).unwrap(), None);
}

/// Ids as SentencePiece gives them.
#[test]
fn pieces_merge_by_their_scores() {
    let ids = |content: &Content, texts: &[&str]| -> Vec<Vec<u32>> {
        let gguf = Gguf::parse(Bytes::from(content.encode())).unwrap();
        let opened = of(&gguf, Path::new("m.gguf")).unwrap();
        let json = opened.file("tokenizer.json").unwrap().unwrap();
        let tokenizer = defrost_tasks::TextTokenizer::from_json(&json).unwrap();
        texts.iter().map(|text| tokenizer.ids(text, usize::MAX).unwrap()).collect()
    };
    let base = with_pieces(content("llama-3.2-1b"));
    let [blank, a, b, ab, blank_ab, blanks] = [259, 260, 261, 262, 263, 264];
    let texts = ["ab", "ab ab", "ba", "</s>ab", "a  b", "é"];
    assert_eq!(
        ids(&base, &texts),
        [
            vec![blank_ab],
            vec![blank_ab, blank_ab],
            vec![blank, b, a],
            vec![2, blank_ab],
            vec![blank, a, blanks, blank, b],
            vec![blank, 3 + 0xc3, 3 + 0xa9],
        ]
    );
    let mut without = base.clone();
    put(&mut without, "tokenizer.ggml.add_space_prefix", Some(GgufValue::Bool(false)));
    assert_eq!(ids(&without, &["ab", " ab"]), [vec![ab], vec![blank_ab]]);
}

/// A model of each tokenizer, a few words and weights each, for the fuzz target.
pub(crate) fn seeds() -> Vec<(&'static str, Content)> {
    let text = |text: &str| GgufValue::String(text.to_owned());
    let texts = |all: &[&str]| {
        let all: Vec<GgufValue> = all.iter().map(|one| text(one)).collect();
        GgufValue::Array(GgufArray::of(GgufType::String, &all))
    };
    let kinds = |all: &[i32]| {
        let all: Vec<GgufValue> = all.iter().map(|&kind| GgufValue::I32(kind)).collect();
        GgufValue::Array(GgufArray::of(GgufType::I32, &all))
    };
    let model = |own: &str, mut metadata: Vec<(String, GgufValue)>| {
        metadata.insert(0, ("general.architecture".to_owned(), text(own)));
        for (key, size) in [
            ("context_length", 64),
            ("embedding_length", 32),
            ("block_count", 1),
            ("feed_forward_length", 32),
            ("attention.head_count", 2),
            ("attention.head_count_kv", 1),
        ] {
            metadata.push((format!("{own}.{key}"), GgufValue::U32(size)));
        }
        let epsilon = format!("{own}.attention.layer_norm_rms_epsilon");
        metadata.push((epsilon, GgufValue::F32(1e-5)));
        metadata.push(("tokenizer.chat_template".to_owned(), text("{{ messages }}")));
        let tensors = [
            ("token_embd.weight", GgufKind::Q8_0, vec![8, 32]),
            ("output_norm.weight", GgufKind::F32, vec![32]),
            ("blk.0.attn_q.weight", GgufKind::Q4_0, vec![32, 32]),
        ];
        let tensors = tensors.map(|(name, kind, shape)| (name.to_owned(), kind, shape)).into();
        Content { version: 3, metadata, tensors }
    };
    let key = |key: &str, value: GgufValue| (format!("tokenizer.ggml.{key}"), value);
    let pieces = ["<unk>", "<s>", "</s>", "<0x41>", "\u{2581}", "a", "b", "ab"];
    let scores = [0.0, 0.0, 0.0, 0.0, -1.0, -2.0, -3.0, -0.5].map(GgufValue::F32);
    let sentence_piece = vec![
        key("model", text("llama")),
        key("tokens", texts(&pieces)),
        key("token_type", kinds(&[2, 3, 3, 6, 1, 1, 1, 1])),
        key("scores", GgufValue::Array(GgufArray::of(GgufType::F32, &scores))),
        key("bos_token_id", GgufValue::U32(1)),
        key("eos_token_id", GgufValue::U32(2)),
    ];
    let byte_pairs = vec![
        key("model", text("gpt2")),
        key("pre", text("qwen2")),
        key("tokens", texts(&["a", "b", "c", "ab", "abc", "<|im_end|>", "<think>", "[PAD7]"])),
        key("token_type", kinds(&[1, 1, 1, 1, 1, 3, 4, 5])),
        key("merges", texts(&["a b", "ab c"])),
        key("eos_token_id", GgufValue::U32(5)),
    ];
    vec![("pieces", model("llama", sentence_piece)), ("byte-pairs", model("qwen2", byte_pairs))]
}
