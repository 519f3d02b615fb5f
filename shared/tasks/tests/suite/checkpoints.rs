//! Checkpoints as tools and trainers write them: other names, other folders, other spellings, adapters, masks. What means
//! the same packs to the same bytes; what cannot be computed rightly is refused by name.

use super::cases::{copied, packed, refused};
use super::common::LINKED;

use std::path::Path;

use defrost_model::Precision;
use defrost_pack::{AttentionMask, ModelKind, OnnxSource, SpecOptions, open_checkpoint, pack_onnx};
use defrost_tasks::{EmbedTask, Embedder, EmbedderOptions, Error};
use serde_json::{Map, Value, json};

const BERT: &str = "golden/bert-embedding";
const QWEN3: &str = "golden/qwen3-embedding";

#[allow(clippy::needless_pass_by_value, reason = "so that callers can write `json!` in place")]
pub(crate) fn edit(dir: &Path, file: &str, keys: Value) {
    let path = dir.join(file);
    let mut all: Value = std::fs::read(&path)
        .map_or_else(|_| json!({}), |text| serde_json::from_slice(&text).unwrap());
    for (key, value) in keys.as_object().unwrap() {
        if value.is_null() {
            all.as_object_mut().unwrap().remove(key);
        } else {
            all[key] = value.clone();
        }
    }
    std::fs::write(path, all.to_string()).unwrap();
}

/// Rewrites the header of model.safetensors; the data stay where they are.
fn edit_header(dir: &Path, edit: impl Fn(Map<String, Value>) -> Map<String, Value>) {
    let path = dir.join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let len = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    let header = edit(serde_json::from_slice(&bytes[8..8 + len]).unwrap());
    let header = serde_json::to_vec(&header).unwrap();
    let length = (header.len() as u64).to_le_bytes();
    std::fs::write(path, [&length[..], &header, &bytes[8 + len..]].concat()).unwrap();
}

fn rename(dir: &Path, name: impl Fn(&str) -> String) {
    edit_header(dir, |header| {
        header
            .into_iter()
            .map(|(key, value)| (if key == "__metadata__" { key } else { name(&key) }, value))
            .collect()
    });
}

/// The snapshot's name.
#[track_caller]
fn root(dir: &Path, spec: SpecOptions) -> String {
    packed(dir, Precision::F32, spec).unwrap().0.root.to_string()
}

fn told(dir: &Path, spec: SpecOptions) -> String {
    let told = packed(dir, Precision::F32, spec).unwrap().0.told;
    told.iter().map(|told| format!("{} {told}", told.what)).collect::<Vec<_>>().join("\n")
}

fn none() -> SpecOptions {
    SpecOptions::default()
}

#[test]
fn what_was_around_a_model_when_it_was_saved_changes_nothing() {
    for (folder, prefixes) in [
        (
            BERT,
            &[
                "_orig_mod.",
                "module.",
                "model.",
                "auto_model.",
                "0.auto_model.",
                "module._orig_mod.bert.",
            ][..],
        ),
        (
            QWEN3,
            &[
                "_orig_mod.",
                "module.",
                "auto_model.",
                "0.auto_model.",
                "model.",
                "model.model.",
                "module.model.",
            ],
        ),
        ("golden/qwen3-reranker", &["_orig_mod.", "module.", "model."]),
    ] {
        let expected = root(copied(folder).path(), none());
        for prefix in prefixes {
            let dir = copied(folder);
            rename(dir.path(), |name| format!("{prefix}{name}"));
            assert_eq!(root(dir.path(), none()), expected, "{folder} {prefix}");
        }
    }
    let dir = copied(BERT);
    rename(dir.path(), |name| name.replace("layer.1.", "layer.1._orig_mod."));
    assert_eq!(root(dir.path(), none()), root(copied(BERT).path(), none()));
    let twice = copied(BERT);
    rename(twice.path(), |name| {
        name.replace("pooler.dense.bias", "module.embeddings.LayerNorm.bias")
    });
    let error = refused(twice.path(), none());
    assert!(error.contains("both stand for \"embeddings.LayerNorm.bias\""), "{error}");
}

#[test]
fn a_transformer_in_a_folder_of_its_own_is_found() {
    let dir = copied(BERT);
    let inner = dir.path().join("0_Transformer");
    std::fs::create_dir(&inner).unwrap();
    for file in ["config.json", "tokenizer.json", "model.safetensors", "sentence_bert_config.json"]
    {
        std::fs::rename(dir.path().join(file), inner.join(file)).unwrap();
    }
    let modules = std::fs::read_to_string(dir.path().join("modules.json")).unwrap();
    let mut modules: Value = serde_json::from_str(&modules).unwrap();
    modules[0]["path"] = "0_Transformer".into();
    std::fs::write(dir.path().join("modules.json"), modules.to_string()).unwrap();
    assert_eq!(root(dir.path(), none()), root(copied(BERT).path(), none()));
    std::fs::write(inner.join("adapter_config.json"), "{}").unwrap();
    assert!(refused(dir.path(), none()).contains("is an adapter"));
    modules[0]["path"] = "../elsewhere".into();
    std::fs::write(dir.path().join("modules.json"), modules.to_string()).unwrap();
    assert!(refused(dir.path(), none()).contains("leads out of the checkpoint"));
}

/// Each of these is how some tool writes what the other file says.
#[test]
fn other_spellings_of_the_same_change_nothing() {
    for (folder, keys) in [
        (BERT, json!({"hidden_act": "gelu_python"})),
        (BERT, json!({"pad_token_id": -1})),
        (BERT, json!({"hidden_size": 32.0, "num_hidden_layers": 3.0, "vocab_size": 480.0})),
        (BERT, json!({"is_causal": false})),
        (QWEN3, json!({"rope_scaling": {"type": "default"}, "rope_theta": 1e6})),
        (QWEN3, json!({"rope_scaling": {"rope_type": "default", "rope_theta": 1e6}})),
        (
            QWEN3,
            json!({
                "rope_parameters": null, "rope_theta": 1e6, "rope_scaling": {"rope_type": "default", "factor": 1.0}
            }),
        ),
        (BERT, json!({"rope_scaling": {"type": "default"}})),
        (BERT, json!({"layer_types": ["sliding_attention", "a", "b"]})),
        (QWEN3, json!({"rope_parameters": null, "rope_theta": 1e6})),
        (
            QWEN3,
            json!({"rope_parameters": null, "rope_scaling": {"type": "default", "rope_theta": 1e6}}),
        ),
        (QWEN3, json!({"hidden_act": "swish", "pad_token_id": -1})),
        (QWEN3, json!({"layer_types": ["full_attention", "full_attention", "full_attention"]})),
        (QWEN3, json!({"is_causal": true, "use_bidirectional_attention": false})),
    ] {
        let dir = copied(folder);
        edit(dir.path(), "config.json", keys.clone());
        assert_eq!(root(dir.path(), none()), root(copied(folder).path(), none()), "{keys}");
    }
    for (keys, part) in [
        (json!({"hidden_size": 32.5}), "a size is 32.5, expected a whole number"),
        (json!({"hidden_size": -1}), "a size is -1"),
        (json!({"pad_token_id": 0.5}), "pad_token_id is 0.5"),
        (json!({"hidden_act": "gelu_new"}), "hidden_act is gelu_new, expected gelu"),
    ] {
        let dir = copied(BERT);
        edit(dir.path(), "config.json", keys);
        let error = refused(dir.path(), none());
        assert!(error.contains(part), "{error}");
    }
    // `transformers` 4 computes with the one, 5 with the other.
    let both = copied(QWEN3);
    edit(both.path(), "config.json", json!({"rope_theta": 10_000.0}));
    assert!(refused(both.path(), none()).contains("rope_theta is 1000000 in one place and 10000"));
    edit(both.path(), "config.json", json!({"rope_theta": 1e6}));
    assert_eq!(root(both.path(), none()), root(copied(QWEN3).path(), none()));
    // Of the two `transformers` reads the one without a base, and takes the usual one.
    for scaling in [json!({"rope_type": "default"}), json!({"type": "default", "factor": 1.0})] {
        let dir = copied(QWEN3);
        edit(dir.path(), "config.json", json!({"rope_scaling": scaling}));
        let error = refused(dir.path(), none());
        assert!(error.contains("rope_scaling is without a rope_theta"), "{error}");
        assert!(error.contains("rope_parameters with 1000000"), "{error}");
        let usual = json!({"rope_type": "default", "rope_theta": 10_000.0});
        edit(dir.path(), "config.json", json!({"rope_parameters": usual}));
        root(dir.path(), none());
    }
    for theta in [json!("1000000.0"), json!(true), json!([1]), Value::Null, json!(0)] {
        let dir = copied(QWEN3);
        let rope = json!({"rope_type": "default", "rope_theta": theta});
        edit(dir.path(), "config.json", json!({"rope_parameters": rope}));
        let error = refused(dir.path(), none());
        assert!(error.contains("rope_theta") && error.contains("a number"), "{error}");
    }
    let shifted = copied("golden/xlmr-embedding");
    edit(shifted.path(), "config.json", json!({"pad_token_id": -1}));
    assert!(refused(shifted.path(), none()).contains("pad_token_id is below 0"));
}

/// A padding token that was added after training, or a word too many: no text needs them.
#[test]
fn a_token_beyond_the_vocabulary_is_left_out() {
    let expected = root(copied(BERT).path(), none());
    let dir = copied(BERT);
    let path = dir.path().join("tokenizer.json");
    let before: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let mut added = before.clone();
    added["added_tokens"].as_array_mut().unwrap().push(json!({
        "id": 480, "content": "[EXTRA]", "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": true
    }));
    let mut word = before.clone();
    word["model"]["vocab"]["zzz"] = 480.into();
    for edited in [added, word] {
        std::fs::write(&path, edited.to_string()).unwrap();
        let told = told(dir.path(), none());
        assert!(told.contains("tokenizer without \""), "{told}");
        assert!(told.contains("beyond the 480 words"), "{told}");
        let (_, snapshot) = packed(dir.path(), Precision::F32, none()).unwrap();
        let embedder = Embedder::load(LINKED, &snapshot, &EmbedderOptions::default()).unwrap();
        let inputs = vec!["zzz [EXTRA] of a text".into()];
        let request = EmbedTask { inputs, ..EmbedTask::default() };
        embedder.embed(&[request], &|| false).unwrap();
    }
    let mut many = before.clone();
    for id in 480..500 {
        many["model"]["vocab"][format!("zz{id}")] = id.into();
    }
    std::fs::write(&path, many.to_string()).unwrap();
    assert!(refused(dir.path(), none()).contains("belong to different models"));
    std::fs::write(&path, std::fs::read(copied(BERT).path().join("tokenizer.json")).unwrap())
        .unwrap();
    assert_eq!(root(dir.path(), none()), expected);
}

#[test]
fn adapters_are_refused_with_the_way_to_merge_them() {
    let config = r#"{"peft_type": "LORA", "base_model_name_or_path": "org/base"}"#;
    for (file, content, parts) in [
        (
            "adapter_config.json",
            config,
            &["(LORA) of org/base", "merge_and_unload", "save_pretrained"][..],
        ),
        (
            "adapter_model.safetensors",
            "",
            &["adapter_model.safetensors is an adapter", "merge_and_unload"],
        ),
        ("adapter_model.bin", "", &["adapter_model.bin is an adapter"]),
    ] {
        for alone in [false, true] {
            let dir = copied(BERT);
            std::fs::write(dir.path().join(file), content).unwrap();
            if alone {
                std::fs::remove_file(dir.path().join("model.safetensors")).unwrap();
                std::fs::remove_file(dir.path().join("config.json")).unwrap();
            }
            let error = open_checkpoint(dir.path()).unwrap_err().to_string();
            for part in parts {
                assert!(error.contains(part), "{error}");
            }
        }
        let dir = copied("onnx/embedding");
        std::fs::remove_file(dir.path().join("model.safetensors")).unwrap();
        std::fs::write(dir.path().join(file), content).unwrap();
        let source = OnnxSource::find(dir.path()).unwrap();
        let out = dir.path().join("out.snap");
        let error = pack_onnx(&source, &none(), &out, &mut |_, _| {}).unwrap_err().to_string();
        assert!(error.contains("is an adapter") && !out.exists(), "{error}");
    }
    let dir = copied(BERT);
    rename(dir.path(), |name| {
        let wrapped = "encoder.layer.0.attention.self.query.weight";
        if name == wrapped {
            name.replace(".weight", ".lora_A.default.weight")
        } else {
            name.to_owned()
        }
    });
    let error = refused(dir.path(), none());
    assert!(
        error.contains("query.lora_A.default.weight") && error.contains("merge_and_unload"),
        "{error}"
    );
}

#[test]
fn the_mask_comes_from_the_key_the_code_or_the_user() {
    let bidirectional = |keys: Value, code: Option<&str>, attention| {
        let dir = copied(QWEN3);
        edit(dir.path(), "config.json", keys);
        if let Some(code) = code {
            std::fs::write(dir.path().join("modeling.py"), code).unwrap();
        }
        let spec = SpecOptions { attention, ..none() };
        let packed = packed(dir.path(), Precision::F32, spec).map(|(packed, _)| packed);
        packed.map(|packed| packed.spec.config.bidirectional)
    };
    let map =
        |class: &str| json!({"auto_map": {"AutoModel": class, "AutoConfig": "configuration.Own"}});
    let both = |one: &str, other: &str| json!({"auto_map": {"AutoModel": one, "AutoModelForCausalLM": other}});
    let mark = "class Own(Qwen3Model):\n    def forward(self, is_causal: Optional[bool] = False):\n        pass";
    let set = "class Own(Qwen3Model):\n    def __init__(self):\n        layer.self_attn.is_causal = False";
    let silent = "class Own(Qwen3Model):\n    pass  # is_causal=False";
    let inherits = "class Own(Mixin, Base): pass\nclass Base(Qwen3Model):\n  def f(s):\n    s.is_causal = False\n";
    let builds = "LAYERS = {'x': Built}\nclass Built(Layer):\n  def f(s):\n    s.is_causal = False\nclass Own(M):\n  layer = LAYERS['x']\nclass Other(M): pass";
    let anothers = "class Other(Qwen3Model):\n  def f(s):\n    s.is_causal = False\n\nclass Own(Qwen3Model):\n  \'\'\'Not as\nOther does\'\'\'\n";
    let loose = "class Own(Qwen3Model): pass\nif True:\n  Qwen3Attention.is_causal = False\n";
    let mentions = [
        "out = scaled_dot_product_attention(q, k, v, attn_mask=causal_mask, is_causal=False)",
        "\"\"\"sets is_causal=False? no.\"\"\"",
        "MSG = \"set is_causal=False to drop\"",
        "def forward(self, x, is_causal=False):",
        "self.is_causal = False if config.both else True",
    ];
    for (keys, code, expected) in [
        (json!({}), None, false),
        (json!({"is_causal": false}), None, true),
        (json!({"use_bidirectional_attention": true}), None, true),
        (json!({"is_causal": false, "use_bidirectional_attention": true}), None, true),
        (json!({"is_causal": true, "auto_map": {"AutoModel": "modeling.Own"}}), None, false),
        (json!({"auto_map": {"AutoConfig": "configuration.Own"}}), None, false),
        (map("modeling.Own"), Some(mark), true),
        (map("modeling.Own"), Some(set), true),
        (map("modeling.BidirectionalQwen3Model"), None, true),
        (map("org/other--modeling.BidirectionalOwn"), None, true),
        (map("modeling.Own"), Some(inherits), true),
        (map("modeling.Own"), Some(builds), true),
        (both("modeling.Own", "modeling.Built"), Some(builds), true),
    ] {
        assert_eq!(bidirectional(keys.clone(), code, None), Ok(expected), "{keys}");
    }
    let asked = [
        (json!({"is_causal": true, "use_bidirectional_attention": true}), None),
        (map("modeling.Own"), Some(silent)),
        (map("modeling.Own"), None),
        (map("org/other--modeling.Own"), Some(mark)),
        (map("org/other--bidirectional.Own"), None),
        (map("modeling.Own"), Some(anothers)),
        (map("modeling.Own"), Some(loose)),
        (map("modeling.Elsewhere"), Some(mark)),
        (both("modeling.Own", "modeling.Other"), Some(builds)),
    ];
    let conditional = "class Own(Qwen3Model):\n  def __init__(s):\n    if False:\n      for l in s.layers:\n        l.is_causal = False\n";
    let set_back = "class Own(Qwen3Model):\n  def __init__(s):\n    for l in s.layers: l.is_causal = False\n    for l in s.layers: l.is_causal = True\n";
    for code in [conditional, set_back] {
        let error = bidirectional(map("modeling.Own"), Some(code), None).unwrap_err();
        assert!(error.contains("does not show"), "{error}");
    }
    // An embedder is loaded as AutoModel.
    let causal_only = json!({"auto_map": {"AutoModelForCausalLM": "modeling.Own"}});
    let error = bidirectional(causal_only, Some(set), None).unwrap_err();
    assert!(error.contains("names no AutoModel") && error.contains("--attention"), "{error}");
    for key in [json!({"is_causal": true}), json!({"use_bidirectional_attention": false})] {
        let mut keys = map("modeling.Own");
        keys.as_object_mut().unwrap().extend(key.as_object().unwrap().clone());
        let error = bidirectional(keys.clone(), Some(set), None).unwrap_err();
        assert!(error.contains("expected both to say the same"), "{error}");
        assert_eq!(bidirectional(keys.clone(), Some(silent), None), Ok(false));
        assert_eq!(bidirectional(keys, Some(set), Some(AttentionMask::Bidirectional)), Ok(true));
    }
    let dir = copied(QWEN3);
    edit(dir.path(), "config.json", json!({"use_bidirectional_attention": true}));
    let unread = told(dir.path(), none());
    assert!(unread.contains("which `transformers` does not read of qwen3 models"), "{unread}");
    let lines = mentions.map(|line| format!("class Own(Qwen3Model):\n    {line}\n"));
    let mentioned = lines.iter().map(|code| (map("modeling.Own"), Some(&code[..])));
    for (keys, code) in asked.into_iter().chain(mentioned) {
        let error = bidirectional(keys.clone(), code, None).unwrap_err();
        assert!(error.contains("--attention causal"), "{keys}: {error}");
        for (said, expected) in
            [(AttentionMask::Causal, false), (AttentionMask::Bidirectional, true)]
        {
            assert_eq!(bidirectional(keys.clone(), code, Some(said)), Ok(expected));
        }
    }
    for keys in [json!({"is_causal": true}), json!({"auto_map": {"AutoModel": "modeling.Own"}})] {
        let dir = copied(BERT);
        edit(dir.path(), "config.json", keys);
        let error = refused(dir.path(), none());
        assert!(error.contains("causal attention") || error.contains("is not run"), "{error}");
    }
}

/// Without the mask nothing is shared or stored, and an older version refuses what it would overlook.
#[test]
fn a_snapshot_says_what_must_not_be_overlooked() {
    for (folder, family) in [
        ("cases/F2-is-causal-false", "qwen3+bidirectional"),
        ("cases/F3-do-lower-case", "bert+lowercase"),
        (QWEN3, "qwen3"),
        (BERT, "bert"),
    ] {
        let (packed, snapshot) = packed(copied(folder).path(), Precision::F32, none()).unwrap();
        assert_eq!(snapshot.meta("model.family"), Some(family));
        assert_eq!(packed.spec.stored_prefix.is_empty(), family != "qwen3");
    }
    let dir = copied("cases/G1-dense-module");
    let modules = std::fs::read_to_string(dir.path().join("modules.json")).unwrap();
    let (first, last) = modules.rsplit_once(r#""name": "2""#).unwrap();
    std::fs::write(dir.path().join("modules.json"), format!(r#"{first}"name": "3"{last}"#))
        .unwrap();
    let (_, snapshot) = packed(dir.path(), Precision::F32, none()).unwrap();
    assert_eq!(snapshot.meta("model.family"), Some("bert+dense"));
    assert_eq!(snapshot.meta("model.dense"), Some("16:tanh:bias"));
    let embedder = Embedder::load(LINKED, &snapshot, &EmbedderOptions::default()).unwrap();
    assert_eq!((embedder.info().hidden, embedder.info().has_tokens), (16, false));
    let inputs = vec!["a".into(), "b".into()];
    let request = EmbedTask { inputs, late_chunking: true, ..EmbedTask::default() };
    let refused = embedder.embed(&[request], &|| false).unwrap_err();
    assert!(matches!(refused, Error::InvalidInput { param: "late_chunking", .. }), "{refused}");
}

#[test]
fn dense_modules_that_do_not_fit_are_refused() {
    for (keys, part) in [
        (json!({"in_features": 31}), "in_features is 31, expected the 32"),
        (json!({"out_features": 17}), "expected [17, 32]"),
        (
            json!({"activation_function": "torch.nn.modules.activation.Softmax"}),
            "Softmax\" is not supported",
        ),
        (json!({"activation_function": "own.Tanh"}), "\"own.Tanh\" is not supported"),
        (json!({"use_residual": true}), "use_residual is true"),
        (json!({"module_output_name": "scores"}), "module_output_name is \"scores\""),
        (json!({"bias": false}), "dense.0.linear.bias"),
    ] {
        let dir = copied("cases/G1-dense-module");
        std::fs::write(
            dir.path().join("modules.json"),
            r#"[{"type":"sentence_transformers.models.Transformer"},{"type":"sentence_transformers.models.Pooling","path":"1_Pooling"},{"type":"sentence_transformers.models.Dense","path":"2_Dense"}]"#,
        )
        .unwrap();
        edit(dir.path(), "2_Dense/config.json", keys);
        let error = refused(dir.path(), none());
        assert!(error.contains(part), "{error}");
        std::fs::remove_file(dir.path().join("2_Dense/model.safetensors")).unwrap();
        edit(dir.path(), "2_Dense/config.json", json!({"bias": true}));
        if part.starts_with("in_features") {
            assert!(refused(dir.path(), none()).contains("2_Dense has no weights"));
        }
    }
}

#[test]
fn an_untied_model_needs_its_head() {
    for tied in [json!(false), Value::Null] {
        let dir = copied("golden/qwen2-mxbai");
        edit(dir.path(), "config.json", json!({"tie_word_embeddings": tied}));
        let error = refused(dir.path(), none());
        assert!(
            error.contains("no tensor \"lm_head.weight\"") && error.contains("--kind embedder"),
            "{error}"
        );
        let pooling = Some("lasttoken".to_owned());
        packed(dir.path(), Precision::F32, SpecOptions { pooling, ..none() }).unwrap();
    }
    // Tied, and there all the same: as a copy of the words it changes nothing, as another matrix it is a contradiction.
    let expected = root(copied("golden/qwen2-mxbai").path(), none());
    for (changed, tied) in [(false, true), (true, true), (true, false)] {
        let dir = copied("golden/qwen2-mxbai");
        edit(dir.path(), "config.json", json!({"tie_word_embeddings": tied}));
        append(dir.path(), "lm_head.weight", "model.embed_tokens.weight", changed);
        match (changed, tied) {
            (false, _) => assert_eq!(root(dir.path(), none()), expected),
            (true, false) => assert_ne!(root(dir.path(), none()), expected),
            (true, true) => {
                let error = refused(dir.path(), none());
                assert!(error.contains("is another matrix than"), "{error}");
            }
        }
    }
}

/// Adds a copy of a tensor, the first half of its bytes in reverse if it is `changed`.
fn append(dir: &Path, name: &str, like: &str, changed: bool) {
    let path = dir.join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let len = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    let header: Value = serde_json::from_slice(&bytes[8..8 + len]).unwrap();
    let [start, end] = [0, 1]
        .map(|at| usize::try_from(header[like]["data_offsets"][at].as_u64().unwrap()).unwrap());
    let data = &bytes[8 + len..];
    let mut copy = data[start..end].to_vec();
    if changed {
        // Whole numbers of two bytes stay whole, so all of them stay finite.
        let half = copy.len() / 4 * 2;
        let reversed: Vec<u8> = copy[..half].chunks(2).rev().flatten().copied().collect();
        copy[..half].copy_from_slice(&reversed);
    }
    let (from, to) = (data.len(), data.len() + copy.len());
    std::fs::write(&path, [&bytes, &copy[..]].concat()).unwrap();
    edit_header(dir, |mut header| {
        let mut tensor = header[like].clone();
        tensor["data_offsets"] = json!([from, to]);
        header.insert(name.into(), tensor);
        header
    });
}

#[test]
fn a_folder_that_does_not_say_what_it_is_for_is_asked() {
    for (folder, architecture, parts) in [
        (BERT, json!(["BertModel"]), &["--pooling", "mean", "cls"][..]),
        (BERT, json!(["BertForMaskedLM"]), &["names BertForMaskedLM", "SPLADE", "--kind embedder"]),
        (BERT, json!(["BertForPreTraining"]), &["names BertForPreTraining", "--kind"]),
        (BERT, Value::Null, &["names no architecture", "--kind"]),
        (QWEN3, json!(["Qwen3Model"]), &["--pooling", "lasttoken"]),
        (QWEN3, json!(["Qwen3ForSequenceClassification"]), &["classifier head", "--kind"]),
    ] {
        let dir = copied(folder);
        edit(dir.path(), "config.json", json!({"architectures": architecture}));
        // With modules.json the architecture's own head does not matter.
        packed(dir.path(), Precision::F32, none()).unwrap();
        std::fs::remove_file(dir.path().join("modules.json")).unwrap();
        let with_pooling = refused(dir.path(), none());
        assert!(with_pooling.contains("1_Pooling/config.json"), "{with_pooling}");
        std::fs::remove_file(dir.path().join("1_Pooling/config.json")).unwrap();
        let error = refused(dir.path(), none());
        for part in parts {
            assert!(error.contains(part), "{architecture}: {error}");
        }
        let pooling = Some("mean".to_owned());
        let told = told(dir.path(), SpecOptions { pooling, ..none() });
        assert!(told.contains("pooling mean (--pooling)"), "{told}");
    }
    for (spec, part) in [
        (
            SpecOptions { pooling: Some("median".into()), ..none() },
            "--pooling \"median\" is not known",
        ),
        (
            SpecOptions { kind: Some(ModelKind::Reranker), pooling: Some("mean".into()), ..none() },
            "--pooling belongs to embedders",
        ),
        (
            SpecOptions {
                kind: Some(ModelKind::Reranker),
                template: Some("embedding".into()),
                ..none()
            },
            "contradict each other",
        ),
    ] {
        let error = refused(copied(QWEN3).path(), spec);
        assert!(error.contains(part), "{error}");
    }
}

/// Bad weights of every type, in every kind of part, are told with their place.
#[test]
fn the_place_of_a_bad_weight_is_named() {
    let spoil = |dir: &Path, tensor: &str, at: usize, value: &[u8]| {
        let path = dir.join("model.safetensors");
        let mut bytes = std::fs::read(&path).unwrap();
        let len = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
        let header: Value = serde_json::from_slice(&bytes[8..8 + len]).unwrap();
        let start = header[tensor]["data_offsets"][0].as_u64().unwrap();
        let start = 8 + len + usize::try_from(start).unwrap() + at * value.len();
        bytes[start..start + value.len()].copy_from_slice(value);
        std::fs::write(path, bytes).unwrap();
    };
    let bf16 =
        |value: f32| value.to_bits().to_be_bytes()[..2].iter().rev().copied().collect::<Vec<u8>>();
    let f32 = |value: f32| value.to_le_bytes().to_vec();
    for (folder, tensor, at, value, part) in [
        (BERT, "embeddings.word_embeddings.weight", 33, f32(f32::NAN), "has NaN at [1, 1]"),
        (BERT, "embeddings.LayerNorm.bias", 5, f32(f32::INFINITY), "has inf at [5]"),
        (
            BERT,
            "encoder.layer.2.output.dense.weight",
            64,
            f32(f32::NEG_INFINITY),
            "has -inf at [1, 0]",
        ),
        (QWEN3, "layers.1.self_attn.k_norm.weight", 3, bf16(f32::NAN), "has NaN at [3]"),
        (QWEN3, "layers.0.mlp.up_proj.weight", 40, bf16(f32::INFINITY), "has inf at [1, 8]"),
    ] {
        for precision in Precision::ALL {
            let dir = copied(folder);
            spoil(dir.path(), tensor, at, &value);
            let error = packed(dir.path(), precision, none()).map(|_| ()).unwrap_err();
            assert!(error.contains(tensor) && error.contains(part), "{precision:?}: {error}");
        }
    }
}

#[test]
fn a_prompt_that_a_reranker_would_not_get_is_refused() {
    let dir = copied("golden/qwen3-reranker");
    let file = "config_sentence_transformers.json";
    let own = "Given a web search query, retrieve relevant passages that answer the query";
    for (keys, part) in [
        (json!({"prompts": {"own": own}, "default_prompt_name": "own"}), None),
        (json!({"prompts": {"x": "Rank: "}, "default_prompt_name": null}), None),
        (
            json!({"prompts": {"x": "Rank: "}, "default_prompt_name": "x"}),
            Some("puts \"Rank: \" before"),
        ),
        (json!({"model_type": "SparseEncoder"}), Some("model_type is \"SparseEncoder\"")),
    ] {
        std::fs::write(dir.path().join(file), keys.to_string()).unwrap();
        match part {
            None => drop(packed(dir.path(), Precision::F32, none()).unwrap()),
            Some(part) => {
                let error = refused(dir.path(), none());
                assert!(error.contains(part), "{error}");
            }
        }
    }
}

const QUERY: &str =
    r#"{{ messages | selectattr("role", "eq", "query") | map(attribute="content") | first }}"#;
const INSTRUCTION: &str =
    "Given a web search query, retrieve relevant passages that answer the query";

/// The chat template of Qwen3-Reranker.
fn qwen3_template() -> String {
    let document = QUERY.replace("\"query\"", "\"document\"");
    format!(
        "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct \
         provided. Note that the answer can only be \"yes\" or \"no\".<|im_end|>\n<|im_start|>user\n\
         <Instruct>: {INSTRUCTION}\n<Query>: {QUERY}\n<Document>: {document}<|im_end|>\n<|im_start|>assistant\n\
         <think>\n\n</think>\n\n\n"
    )
}

/// Puts a chat template where it may lie.
fn with_template(folder: &str, template: &str, in_config: bool) -> tempfile::TempDir {
    let dir = copied(folder);
    if in_config {
        edit(dir.path(), "tokenizer_config.json", json!({"chat_template": template}));
    } else {
        std::fs::write(dir.path().join("chat_template.jinja"), template).unwrap();
    }
    dir
}

#[test]
fn a_chat_template_decides_if_it_is_known_to_the_letter() {
    const LOGITS: &str = "cases/F1b-logit-score";
    let own = qwen3_template();
    let chat = "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>\n{% endfor %}";
    let others = [
        own.replace("retrieve", "find"),
        own.replace("<think>\n\n</think>\n\n", ""),
        own.strip_suffix('\n').unwrap().to_owned(),
        own.replace("\"query\"", "\"x\"")
            .replace("\"document\"", "\"query\"")
            .replace("\"x\"", "\"document\""),
        own.replace("<Query>", "Hello\n<Query>"),
        own.replace("first }}", "first | upper }}"),
        chat.to_owned(),
    ];
    let said = || SpecOptions { template: Some("qwen3-reranker".into()), ..none() };
    for in_config in [false, true] {
        for folder in [LOGITS, "golden/qwen3-reranker"] {
            let expected = root(copied(folder).path(), none());
            let dir = with_template(folder, &own, in_config);
            assert_eq!(root(dir.path(), none()), expected);
            assert!(told(dir.path(), none()).contains("qwen3-reranker (the chat template)"));
            for other in &others {
                let dir = with_template(folder, other, in_config);
                let error = refused(dir.path(), none());
                for part in ["chat template", "cannot be told", "--template"] {
                    assert!(error.contains(part), "{error}");
                }
                assert_eq!(root(dir.path(), said()), expected);
            }
        }
        // Several of them by name.
        let several =
            json!([{"name": "tools", "template": chat}, {"name": "default", "template": own}]);
        let dir = copied(LOGITS);
        edit(dir.path(), "tokenizer_config.json", json!({"chat_template": several}));
        root(dir.path(), none());
        // sentence-transformers puts pairs into it.
        for folder in ["golden/bert-classifier", "golden/xlm-roberta-classifier"] {
            let dir = with_template(folder, &own, in_config);
            let error = refused(dir.path(), none());
            assert!(
                error.contains("chat template") && error.contains("--template pair"),
                "{error}"
            );
            let pair = SpecOptions { template: Some("pair".into()), ..none() };
            assert_eq!(root(dir.path(), pair), root(copied(folder).path(), none()));
        }
        // Texts that are embedded go into none.
        let dir = with_template(QWEN3, chat, in_config);
        assert_eq!(root(dir.path(), none()), root(copied(QWEN3).path(), none()));
        // mxbai-rerank-v2 keeps that of the model it was made from.
        let dir = with_template("golden/qwen2-mxbai", chat, in_config);
        assert!(told(dir.path(), none()).contains("although the chat template is another"));
    }
}

#[test]
fn a_causal_model_that_may_be_anything_is_asked() {
    let chat = with_template("golden/qwen3-reranker", "{{ messages[0].content }}", false);
    let embedder = copied(QWEN3);
    std::fs::remove_file(embedder.path().join("modules.json")).unwrap();
    std::fs::remove_dir_all(embedder.path().join("1_Pooling")).unwrap();
    for (dir, part) in [(&chat, "the chat template is not"), (&embedder, "prompt called")] {
        let error = refused(dir.path(), none());
        for part in [part, "--kind embedder", "--kind reranker"] {
            assert!(error.contains(part), "{error}");
        }
    }
    let named = SpecOptions { name: "Qwen/Qwen3-Reranker-0.6B".into(), ..none() };
    assert!(told(chat.path(), named).contains("called Qwen/Qwen3-Reranker-0.6B"));
    let kind = |kind| SpecOptions { kind: Some(kind), ..none() };
    assert!(told(chat.path(), kind(ModelKind::Reranker)).contains("prompt qwen3-reranker"));
    let pooling = SpecOptions { pooling: Some("lasttoken".into()), ..kind(ModelKind::Embedder) };
    assert!(told(embedder.path(), pooling).contains("pooling lasttoken"));
}

#[test]
fn how_a_model_is_loaded_changes_nothing_where_numbers_stay() {
    for keys in [
        json!({"attn_implementation": "eager"}),
        json!({"attn_implementation": "sdpa", "torch_dtype": "float32"}),
        json!({"dtype": "float32", "trust_remote_code": true}),
    ] {
        for key in ["model_args", "model_kwargs"] {
            let dir = copied(BERT);
            edit(dir.path(), "sentence_bert_config.json", json!({ key: keys }));
            assert_eq!(root(dir.path(), none()), root(copied(BERT).path(), none()), "{keys}");
        }
    }
    for keys in [json!({"torch_dtype": "bfloat16"}), json!({"own": 1}), json!([])] {
        let dir = copied(BERT);
        edit(dir.path(), "sentence_bert_config.json", json!({"model_args": keys}));
        let error = refused(dir.path(), none());
        assert!(error.contains("model_args") && error.contains("dtype"), "{error}");
    }
}

/// `transformers` has the epsilon of `DistilBERT`'s norms in its code and reads no key for it; found with a file that had one.
#[test]
fn a_key_that_the_family_does_not_read_changes_nothing() {
    let dir = copied("golden/distilbert-classifier");
    let (plain, _) = packed(dir.path(), Precision::F32, SpecOptions::default()).unwrap();
    edit(dir.path(), "config.json", json!({"layer_norm_eps": 0.5}));
    let (edited, _) = packed(dir.path(), Precision::F32, SpecOptions::default()).unwrap();
    assert_eq!(edited.root, plain.root);
}

/// A message names the key that the file has or should have, not the one that other families have in its place.
#[test]
fn messages_name_the_family_s_own_keys() {
    for (key, value, part) in [
        ("dim", Value::Null, "config.json has no dim"),
        ("activation", json!("relu"), "activation is relu, expected gelu"),
        ("hidden_size", json!(7), "hidden_size is, which means the same"),
    ] {
        let dir = copied("golden/distilbert-classifier");
        edit(dir.path(), "config.json", json!({key: value}));
        let message = refused(dir.path(), SpecOptions::default());
        assert!(message.contains(part), "{message}");
    }
}
