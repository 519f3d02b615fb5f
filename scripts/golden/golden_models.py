"""Tiny random checkpoints for golden.py: tokenizers, weights and configurations in the shape of the hub's."""

import json
import re
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertConfig,
    DistilBertConfig,
    XLMRobertaConfig,
)

from golden_texts import PROMPTS, SENTENCES

QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LOADERS = {
    "classifier": AutoModelForSequenceClassification,
    "causal": AutoModelForCausalLM,
    "encoder": AutoModel,
}


def pieces(normalizer, pre_tokenizer, vocab_size):
    """Pieces of the words of SENTENCES as {(piece, starts a word): count}.

    Found by the BPE trainer, which always gives the same result; the WordPiece and Unigram trainers do not.
    """
    helper = Tokenizer(models.BPE())
    helper.normalizer, helper.pre_tokenizer = normalizer, pre_tokenizer
    helper.train_from_iterator(SENTENCES, trainers.BpeTrainer(vocab_size=vocab_size, show_progress=False))
    known, counts = helper.get_vocab(), {}
    for sentence in SENTENCES:
        for word, _ in pre_tokenizer.pre_tokenize_str(normalizer.normalize_str(sentence)):
            for start in range(len(word)):
                for end in range(start + 1, len(word) + 1):
                    if word[start:end] in known:
                        key = (word[start:end], start == 0)
                        counts[key] = counts.get(key, 0) + 1
    return counts


def wordpiece(vocab_size):
    """An uncased BERT tokenizer; ids 0..4 are [PAD] [UNK] [CLS] [SEP] [MASK]."""
    normalizer, pre_tokenizer = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    counts = pieces(normalizer, pre_tokenizer, vocab_size)
    ranked = sorted(counts, key=lambda key: (len(key[0]) > 1, -counts[key], key))
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    kept = [piece if starts else f"##{piece}" for piece, starts in ranked][: vocab_size - len(special)]
    vocab = {token: at for at, token in enumerate(special + kept)}
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, pre_tokenizer
    tokenizer.add_special_tokens(special)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return tokenizer


def unigram(vocab_size, camembert=False):
    """An XLM-R tokenizer with NFKC in place of the precompiled character map.

    CamemBERT's splits at white space first and has names of its own in the first places: `<s>` is 5 and `</s>` 6.
    """
    normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    if camembert:
        pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizer])
    counts = {}
    for (piece, _), count in pieces(normalizer, pre_tokenizer, vocab_size).items():
        counts[piece] = counts.get(piece, 0) + count
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    last = []
    if camembert:
        special, last = ["<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED", "<s>", "</s>"], ["<mask>"]
    size = vocab_size - len(special + last)
    ranked = sorted(counts, key=lambda piece: (len(piece) > 1, -counts[piece], piece))[:size]
    total = sum(counts[piece] for piece in ranked)
    scored = [(piece, round(float(np.log(counts[piece] / total)), 4)) for piece in ranked]
    scored = [(token, 0.0) for token in special] + scored + [(token, 0.0) for token in last]
    tokenizer = Tokenizer(models.Unigram(scored, unk_id=3, byte_fallback=False))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, pre_tokenizer
    tokenizer.add_special_tokens(special)
    tokenizer.add_special_tokens([AddedToken(token, lstrip=True, normalized=False, special=True) for token in last])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s>:0 $A:0 </s>:0",
        pair="<s>:0 $A:0 </s>:0 </s>:0 $B:0 </s>:0",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("<s>", "</s>")],
    )
    return tokenizer


def byte_bpe(vocab_size, append_eos):
    """A Qwen tokenizer; the added tokens come last, as in the real vocabulary."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(QWEN_SPLIT), behavior="isolated"), byte_level]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 5, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    plain = [re.sub(r"<\|?/?\w+\|?>", "", prompt) for prompt in PROMPTS]
    tokenizer.train_from_iterator(SENTENCES + plain * 2, trainer)
    for content in ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]:
        tokenizer.add_special_tokens([AddedToken(content, special=True, normalized=False)])
    for content in ["<think>", "</think>"]:
        tokenizer.add_tokens([AddedToken(content, special=False, normalized=False)])
    post = processors.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    if append_eos:
        eos = [("<|endoftext|>", tokenizer.token_to_id("<|endoftext|>"))]
        template = processors.TemplateProcessing(
            single="$A:0 <|endoftext|>:0", pair="$A:0 <|endoftext|>:0 $B:1 <|endoftext|>:1", special_tokens=eos
        )
        post = processors.Sequence([post, template])
    tokenizer.post_processor = post
    for word in ["0", "1", "yes", "no"]:
        assert len(tokenizer.encode(word, add_special_tokens=False).ids) == 1, word
    return tokenizer


def roberta_bpe(vocab_size):
    """A RoBERTa tokenizer: GPT-2's splits without a blank before a text, ids 0..3 as XLM-R has them, `<mask>` last."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(special) - 1, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    trained.train_from_iterator(SENTENCES, trainer)
    model = json.loads(trained.to_str())["model"]
    kept = sorted(model["vocab"], key=model["vocab"].get)
    vocab = {token: at for at, token in enumerate([*special, *kept, "<mask>"])}
    tokenizer = Tokenizer(models.BPE(vocab, [tuple(merge) for merge in model["merges"]]))
    tokenizer.pre_tokenizer = trained.pre_tokenizer
    tokenizer.add_special_tokens(special)
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=False, special=True)])
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=False
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def bert(tokenizer, **dims):
    """Configuration of a BERT of these dimensions."""
    return BertConfig(
        vocab_size=tokenizer.get_vocab_size(), type_vocab_size=2, layer_norm_eps=1e-12, pad_token_id=0, **dims
    )


def distilbert(tokenizer, **dims):
    """Configuration of a DistilBERT of these dimensions."""
    return DistilBertConfig(vocab_size=tokenizer.get_vocab_size(), pad_token_id=0, **dims)


def xlm_roberta(tokenizer, config_class=XLMRobertaConfig, **dims):
    """Configuration of an XLM-RoBERTa of these dimensions, or of its relatives."""
    bos, eos = (tokenizer.token_to_id(token) for token in ("<s>", "</s>"))
    return config_class(
        vocab_size=tokenizer.get_vocab_size(), type_vocab_size=1, layer_norm_eps=1e-5,
        bos_token_id=bos, pad_token_id=1, eos_token_id=eos, **dims,
    )  # fmt: skip


def tokenizer_config(kind):
    """tokenizer_config.json in the form of the published checkpoints."""
    if kind == "distilbert":
        return {
            "cls_token": "[CLS]", "do_lower_case": True, "mask_token": "[MASK]", "model_max_length": 512,
            "pad_token": "[PAD]", "sep_token": "[SEP]", "strip_accents": None, "tokenize_chinese_chars": True,
            "tokenizer_class": "DistilBertTokenizer", "unk_token": "[UNK]",
        }  # fmt: skip
    named = {
        "bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "mask_token": "<mask>", "model_max_length": 512,
        "pad_token": "<pad>", "sep_token": "</s>", "unk_token": "<unk>",
    }  # fmt: skip
    if kind == "camembert":
        more = {"additional_special_tokens": ["<s>NOTUSED", "</s>NOTUSED"], "tokenizer_class": "CamembertTokenizer"}
    else:
        more = {"add_prefix_space": False, "errors": "replace", "tokenizer_class": "RobertaTokenizer", "trim_offsets": True}
    return dict(sorted({**named, **more}.items()))


def qwen(config_class, tokenizer, **dims):
    """Configuration of a Qwen of these dimensions; the table is wider than the tokenizer, as the real ones are."""
    return config_class(
        vocab_size=tokenizer.get_vocab_size() + 7, rms_norm_eps=1e-6, tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6}, max_position_embeddings=4096,
        bos_token_id=tokenizer.token_to_id("<|endoftext|>"), eos_token_id=tokenizer.token_to_id("<|im_end|>"), **dims,
    )  # fmt: skip


def random_weights(model, seed, head_std, word_std):
    """Replaces every parameter: matrices larger than at initialisation, biases random, norms around 1."""
    rng = np.random.default_rng(seed)
    parameters = dict(model.named_parameters())
    for name in sorted(parameters):
        parameter = parameters[name]
        values = rng.standard_normal(tuple(parameter.shape))
        if "norm" in name.lower() and name.endswith("weight"):
            values = 1 + 0.2 * values
        elif name.endswith("bias"):
            values = 0.3 * values
        elif name.startswith(("classifier.weight", "classifier.out_proj.weight")):
            values = head_std * values
        elif "word_embeddings" in name:
            values = word_std * values
        elif "embed" in name:
            values = 0.25 * values
        else:
            values = values * (1.6 / np.sqrt(parameter.shape[-1]))
        parameter.data = torch.from_numpy(values.astype(np.float32))


def write_json(path, value):
    """Writes readable JSON with a final newline."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def hub_config(config, architecture, dtype, rope_parameters):
    """config.json in the form of the published checkpoints (transformers 4), or with rope_parameters (5)."""
    values = {k: v for k, v in config.to_diff_dict().items() if k not in ("dtype", "layer_types", "transformers_version")}
    values["architectures"] = [architecture]
    values["torch_dtype"] = str(dtype).removeprefix("torch.")
    for key in ("hidden_act", "max_position_embeddings", "num_attention_heads", "num_hidden_layers", "vocab_size"):
        values[key] = getattr(config, key, None)
    for key in ("hidden_size", "intermediate_size", "layer_norm_eps", "type_vocab_size", "pad_token_id", "rms_norm_eps",
                "num_key_value_heads", "head_dim", "tie_word_embeddings", "attention_bias"):  # fmt: skip
        if getattr(config, key, None) is not None:
            values[key] = getattr(config, key)
    if config.model_type == "distilbert":
        # Its own names for the dimensions, and what the published files have beside them.
        for key in ("hidden_act", "num_attention_heads", "num_hidden_layers", "hidden_size", "tie_word_embeddings"):
            values.pop(key, None)
        for key in ("activation", "attention_dropout", "dim", "dropout", "hidden_dim", "initializer_range", "n_heads",
                    "n_layers", "qa_dropout", "seq_classif_dropout", "sinusoidal_pos_embds"):  # fmt: skip
            values[key] = getattr(config, key)
        values["tie_weights_"] = True
    if config.model_type in ("bert", "roberta", "camembert"):
        values["position_embedding_type"] = "absolute"
        values.pop("tie_word_embeddings", None)
    if "rope_parameters" in values and not rope_parameters:
        values["rope_theta"] = values.pop("rope_parameters")["rope_theta"]
        values["rope_scaling"] = None
    return dict(sorted(values.items()))


def write_model(folder, spec, tokenizer, config):
    """Writes tokenizer.json, config.json, model.safetensors and, for an embedder, the sentence-transformers files."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    write_json(folder / "config.json", hub_config(config, spec["architecture"], spec["dtype"], spec.get("rope_parameters")))
    if spec.get("tokenizer_config"):
        write_json(folder / "tokenizer_config.json", tokenizer_config(config.model_type))
    model = LOADERS[spec["loader"]].from_config(config)
    random_weights(model, spec["seed"], spec.get("head_std", 0.3), spec.get("word_std", 0.25))
    tensors = {k: v.to(spec["dtype"]).contiguous() for k, v in model.state_dict().items() if k != "lm_head.weight"}
    if spec.get("position_ids"):  # older checkpoints, all-MiniLM-L6-v2 among them, carry this buffer
        tensors["embeddings.position_ids"] = torch.arange(config.max_position_embeddings).unsqueeze(0)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    if "pooling" in spec:
        write_embedder(folder, spec, config)
    if spec.get("token_heads"):
        write_token_heads(folder, config.hidden_size, spec["seed"])


def write_embedder(folder, spec, config):
    """The files by which sentence-transformers knows pooling, length and prompts."""
    kinds = ["Transformer", "Pooling", "Normalize"]
    paths = ["", "1_Pooling", "2_Normalize"]
    write_json(folder / "modules.json", [
        {"idx": i, "name": str(i), "path": paths[i], "type": f"sentence_transformers.models.{kinds[i]}"} for i in range(3)
    ])  # fmt: skip
    modes = ["cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken"]
    write_json(folder / "1_Pooling/config.json", {
        "word_embedding_dimension": config.hidden_size,
        **{f"pooling_mode_{mode}": mode == spec["pooling"] for mode in modes},
        "include_prompt": True,
    })  # fmt: skip
    if spec.get("sentence_bert_config"):
        write_json(folder / "sentence_bert_config.json", {"max_seq_length": spec["max_length"], "do_lower_case": False})
    prompts = {"query": spec.get("query_prompt", ""), "document": ""}
    write_json(folder / "config_sentence_transformers.json", {
        "prompts": prompts, "default_prompt_name": None, "similarity_fn_name": "cosine",
    })  # fmt: skip


def write_token_heads(folder, hidden, seed):
    """BGE-M3's sparse and ColBERT layers, in the files and the precision that it is published with."""
    rng = np.random.default_rng(seed + 1000)
    for name, width in [("sparse_linear", 1), ("colbert_linear", hidden)]:
        layer = torch.nn.Linear(hidden, width)
        weight = rng.standard_normal((width, hidden)) / np.sqrt(hidden)
        layer.weight.data = torch.from_numpy(weight.astype(np.float32))
        layer.bias.data = torch.from_numpy((0.3 * rng.standard_normal(width)).astype(np.float32))
        torch.save(layer.half().state_dict(), folder / f"{name}.pt")


def load_model(folder, spec):
    """The model as transformers reads it back, f32 on CPU; every tensor of the file must be used."""
    model, info = LOADERS[spec["loader"]].from_pretrained(
        Path(folder), dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    assert not info["missing_keys"], info
    assert not set(info["unexpected_keys"]) - {"embeddings.position_ids"}, info
    return model.eval()
