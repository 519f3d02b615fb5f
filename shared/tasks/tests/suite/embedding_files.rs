//! What an embedding checkpoint's files say reaches the embedder, through snapshots of any kind and age.

use super::common::{self, LINKED, embed_one};
use super::embedding_rules::{TEXT, refusal, with};

use std::collections::BTreeMap;
use std::path::Path;

use defrost_loader::{Plan, SegmentPlan, Snapshot, SnapshotWriter, TensorPlan};
use defrost_model::{Matryoshka, Precision, isa};
use defrost_pack::{Checkpoint, Outliers, PackOptions, SpecOptions, pack};
use defrost_tasks::{
    EmbedTask, Embedder, EmbedderOptions, Outputs, PromptChoice, Reranker, RerankerOptions,
    RestoreOptions, restore,
};
use defrost_testing::golden::{self, EMBEDDING_MODELS, TOKEN_HEADS_MODEL};

/// Packs a copy of a checkpoint, some of its files edited, and restores it.
fn packed(model: &str, spec: SpecOptions, edit: impl Fn(&Path)) -> Result<Snapshot, String> {
    let dir = tempfile::tempdir().unwrap();
    let source = golden::checkpoint(model);
    std::fs::create_dir(dir.path().join("1_Pooling")).unwrap();
    for folder in ["", "1_Pooling"] {
        for entry in std::fs::read_dir(source.join(folder)).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_file() {
                std::fs::copy(entry.path(), dir.path().join(folder).join(entry.file_name()))
                    .unwrap();
            }
        }
    }
    edit(dir.path());
    let options = PackOptions {
        spec,
        precision: Precision::F32,
        isa: isa::NATIVE.to_owned(),
        outliers: Outliers::Auto,
        store_prefix: true,
    };
    let out = dir.path().join("out.snap");
    let checkpoint = Checkpoint::open(dir.path()).map_err(|error| error.to_string())?;
    pack(&checkpoint, &options, &out, &mut |_, _| {}).map_err(|error| error.to_string())?;
    Ok(restore(LINKED, &out.as_path().into(), &RestoreOptions::default()).unwrap())
}

fn load(snapshot: &Snapshot) -> Embedder {
    Embedder::load(LINKED, snapshot, &EmbedderOptions::default()).unwrap()
}

#[test]
fn what_the_files_say_is_recorded() {
    let modules = r#"[{"type":"sentence_transformers.models.Transformer"},{"type":"sentence_transformers.models.Pooling","path":"1_Pooling"}]"#;
    let prompts = r#"{"prompts":{"query":"q: ","passage":"p: ","sts":"s: ","none":null},"default_prompt_name":"sts"}"#;
    let name = "Qwen/Qwen3-Embedding-0.6B".to_owned();
    let snapshot =
        packed("qwen3-embedding", SpecOptions { name, ..SpecOptions::default() }, |dir| {
            std::fs::write(dir.join("modules.json"), modules).unwrap();
            std::fs::write(dir.join("config_sentence_transformers.json"), prompts).unwrap();
        });
    let embedder = load(&snapshot.unwrap());
    let info = embedder.info();
    assert!(!info.normalizes && !info.takes_instruction);
    assert_eq!(
        (info.pooling, info.hidden, &info.matryoshka),
        ("lasttoken", 32, &Matryoshka::From(32))
    );
    assert_eq!(info.default_prompt.as_deref(), Some("sts"));
    let expected = [("passage", "p: "), ("query", "q: "), ("sts", "s: ")];
    let expected: BTreeMap<_, _> =
        expected.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
    assert_eq!(info.prompts, expected);
    let dense = |request: &EmbedTask| embed_one(&embedder, TEXT.into(), request).dense;
    let length = |dense: &[f32]| dense.iter().map(|value| value * value).sum::<f32>().sqrt();
    let default = dense(&EmbedTask::default());
    assert_eq!(default, dense(&with(PromptChoice::Prefix("s: ".into()))));
    assert_eq!(
        dense(&with(PromptChoice::Document)),
        dense(&with(PromptChoice::Prefix("p: ".into())))
    );
    assert!((length(&default) - 1.0).abs() > 0.1, "it must not be normalised");
    let normalized = dense(&EmbedTask { normalize: Some(true), ..EmbedTask::default() });
    assert!((length(&normalized) - 1.0).abs() < 1e-6);

    let options =
        SpecOptions { matryoshka: Some("8,16".parse().unwrap()), ..SpecOptions::default() };
    let embedder = load(&packed("bert-embedding", options, |_| {}).unwrap());
    let cut = |dimensions| EmbedTask { dimensions: Some(dimensions), ..EmbedTask::default() };
    assert_eq!(embed_one(&embedder, TEXT.into(), &cut(16)).dense.len(), 16);
    assert!(
        refusal(&embedder, TEXT.into(), &cut(9)).contains("takes other dimensions: 8,16 or 32")
    );
    let wrong = packed("bert-embedding", SpecOptions::default(), |dir| {
        let prompts = r#"{"prompts":{},"default_prompt_name":"sts"}"#;
        std::fs::write(dir.join("config_sentence_transformers.json"), prompts).unwrap();
    });
    assert!(wrong.unwrap_err().contains("default_prompt_name is \"sts\", which is none"));
}

#[test]
fn token_heads_are_read_from_any_of_their_files_or_missing() {
    let request = EmbedTask {
        outputs: Outputs { sparse: true, colbert: true, ..Outputs::default() },
        ..EmbedTask::default()
    };
    let published = packed(TOKEN_HEADS_MODEL, SpecOptions::default(), |_| {}).unwrap();
    let expected = embed_one(&load(&published), TEXT.into(), &request);
    assert!(!expected.sparse.is_empty() && !expected.colbert.is_empty());
    // The same tensors as safetensors.
    let converted = packed(TOKEN_HEADS_MODEL, SpecOptions::default(), |dir| {
        let heads =
            Checkpoint::without_weights(dir).with_file("colbert_linear.pt", "").unwrap().unwrap();
        let (weight, bias) = (heads.get("weight").unwrap(), heads.get("bias").unwrap());
        let split = weight.bytes.len();
        let header = format!(
            r#"{{"weight":{{"dtype":"F16","shape":[32,32],"data_offsets":[0,{split}]}},"bias":{{"dtype":"F16","shape":[32],"data_offsets":[{split},{}]}}}}"#,
            split + bias.bytes.len()
        );
        let length = (header.len() as u64).to_le_bytes();
        let file = [&length[..], header.as_bytes(), &weight.bytes, &bias.bytes].concat();
        std::fs::write(dir.join("colbert_linear.safetensors"), file).unwrap();
        std::fs::remove_file(dir.join("colbert_linear.pt")).unwrap();
    });
    assert_eq!(embed_one(&load(&converted.unwrap()), TEXT.into(), &request), expected);
    let without = packed(TOKEN_HEADS_MODEL, SpecOptions::default(), |dir| {
        std::fs::remove_file(dir.join("sparse_linear.pt")).unwrap();
    });
    let without = load(&without.unwrap());
    assert!(!without.info().has_sparse && without.info().has_colbert);
    let swapped = packed(TOKEN_HEADS_MODEL, SpecOptions::default(), |dir| {
        std::fs::copy(dir.join("colbert_linear.pt"), dir.join("sparse_linear.pt")).unwrap();
    });
    assert!(swapped.unwrap_err().contains("sparse_linear gives 32 weights a token, expected 1"));
    let damaged = packed(TOKEN_HEADS_MODEL, SpecOptions::default(), |dir| {
        std::fs::write(dir.join("sparse_linear.pt"), b"\x80\x02}.").unwrap();
    });
    assert!(damaged.unwrap_err().contains("sparse_linear.pt: not a zip archive"));
}

#[test]
fn portable_snapshots_keep_their_token_heads() {
    let request = EmbedTask {
        outputs: Outputs { sparse: true, colbert: true, ..Outputs::default() },
        ..EmbedTask::default()
    };
    let dir = tempfile::tempdir().unwrap();
    let options =
        RestoreOptions { cache_dir: Some(dir.path().join("cache")), ..RestoreOptions::default() };
    let found = [isa::NATIVE, isa::PORTABLE].map(|isa| {
        let path = dir.path().join(format!("{isa}.snap"));
        common::pack_to(&golden::checkpoint(TOKEN_HEADS_MODEL), Precision::Int8, isa, &path);
        let snapshot = restore(LINKED, &path.as_path().into(), &options).unwrap();
        embed_one(&load(&snapshot), TEXT.into(), &request)
    });
    assert_eq!(found[0], found[1]);
}

/// The golden tokenizers other than RoBERTa's have no decoder; these are those of the real ones.
fn with_decoder(model: &str) -> Embedder {
    let decoder = match model {
        "roberta-mean" => return load(&packed(model, SpecOptions::default(), |_| {}).unwrap()),
        "bert-embedding" | "distilbert-cls" => {
            r###"{"type":"WordPiece","prefix":"##","cleanup":true}"###
        }
        "qwen3-embedding" => {
            r#"{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":false,"use_regex":false}"#
        }
        _ => r#"{"type":"Metaspace","replacement":"▁","prepend_scheme":"always","split":true}"#,
    };
    let snapshot = packed(model, SpecOptions::default(), |dir| {
        let path = dir.join("tokenizer.json");
        let json = std::fs::read_to_string(&path).unwrap();
        let edited = json.replace(r#""decoder":null"#, &format!(r#""decoder":{decoder}"#));
        assert_ne!(edited, json);
        std::fs::write(path, edited).unwrap();
    });
    load(&snapshot.unwrap())
}

#[test]
fn texts_become_tokens_and_texts_again() {
    for model in EMBEDDING_MODELS {
        let embedder = with_decoder(model);
        let text = "Snow melts, Schnee 中国 schmilzt";
        let tokens = embedder.tokenize(text, true).unwrap();
        let chars: Vec<char> = text.chars().collect();
        for token in &tokens {
            assert_eq!(token.bytes.is_some(), token.chars.is_some());
            if let (Some(bytes), Some(range)) = (&token.bytes, &token.chars) {
                assert!(!token.special && !token.piece.is_empty(), "{model} {token:?}");
                let slice: String = chars[range.clone()].iter().collect();
                assert_eq!(text[bytes.clone()], slice, "{model} {token:?}");
            }
        }
        let around = tokens.iter().filter(|token| token.bytes.is_none());
        assert!(around.clone().all(|token| token.special), "{model}");
        assert_eq!(around.count(), embedder.tokenize("", true).unwrap().len(), "{model}");
        let all: Vec<u32> = tokens.iter().map(|token| token.id).collect();
        let back = embedder.detokenize(&all, true).unwrap();
        let expected = match model {
            "bert-embedding" | "distilbert-cls" => "snow melts, schnee 中 国 schmilzt",
            _ => text,
        };
        assert_eq!(back, expected, "{model}");
        let whole = embedder.detokenize(&all, false).unwrap();
        assert!(whole.len() > back.len() && whole.contains(&back[1..]), "{model}: {whole}");
        let message = embedder.detokenize(&[1 << 20], true).unwrap_err().to_string();
        assert!(message.contains("not in the model's vocabulary"), "{message}");
    }
}

/// A copy of a snapshot without the metadata that embedders need, as older versions wrote them.
fn aged(snapshot: &Snapshot, out: &Path) {
    let (_, manifest) = defrost_loader::inspect(snapshot.path()).unwrap();
    let plan = Plan {
        isa: manifest.isa.to_string(),
        layout_abi: manifest.layout_abi,
        meta: manifest
            .meta
            .iter()
            .filter(|(key, _)| !key.starts_with("embedding."))
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect(),
        segments: manifest
            .segments
            .iter()
            .enumerate()
            .map(|(at, segment)| SegmentPlan {
                name: segment.name.to_string(),
                sparse: segment.sparse,
                tensors: manifest
                    .tensors
                    .iter()
                    .filter(|tensor| tensor.segment == at)
                    .map(|tensor| TensorPlan {
                        name: tensor.name.to_string(),
                        dtype: tensor.dtype,
                        layout: tensor.layout.to_string(),
                        shape: tensor.shape.clone(),
                        len: snapshot.tensor(&tensor.name).unwrap().bytes.len(),
                    })
                    .collect(),
            })
            .collect(),
    };
    let names: Vec<String> = plan
        .segments
        .iter()
        .flat_map(|segment| segment.tensors.iter().map(|tensor| tensor.name.clone()))
        .collect();
    let mut writer = SnapshotWriter::create(out, plan).unwrap();
    for name in names {
        writer.write(&name, &snapshot.tensor(&name).unwrap().bytes).unwrap();
    }
    writer.finish().unwrap();
}

#[test]
fn snapshots_of_older_versions_rerank_and_ask_to_be_packed_again() {
    let dir = tempfile::tempdir().unwrap();
    let (new, old) = (dir.path().join("new.snap"), dir.path().join("old.snap"));
    let checkpoint = golden::checkpoint("qwen3-embedding");
    common::pack_to(&checkpoint, Precision::F32, isa::NATIVE, &new);
    let open = |path: &Path| restore(LINKED, &path.into(), &RestoreOptions::default()).unwrap();
    aged(&open(&new), &old);
    let snapshot = open(&old);
    assert!(Reranker::load(LINKED, &snapshot, &RerankerOptions::default()).is_ok());
    let message = |snapshot: &Snapshot| {
        Embedder::load(LINKED, snapshot, &EmbedderOptions::default()).unwrap_err().to_string()
    };
    assert!(message(&snapshot).contains("pack the model again"), "{}", message(&snapshot));
    let reranker = dir.path().join("reranker.snap");
    common::pack_to(&golden::checkpoint("qwen3-reranker"), Precision::F32, isa::NATIVE, &reranker);
    assert!(message(&open(&reranker)).contains("is no embedding model"));
}
