"""Tiny random language models for golden_generation.py, in the files that the hub's checkpoints have.

Six of them, one for each way that a family departs from the others: Llama 3's scaled angles and a head of its own, a
tied SmolLM, Qwen2's biases, Qwen3's norms of heads, Gemma 3's windows and norms on both sides, and TinyLlama's
SentencePiece vocabulary with a blank before every text.
"""

import json
from pathlib import Path

import numpy as np
import sentencepiece
import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModelForCausalLM

from golden_models import QWEN_SPLIT, write_json
from golden_texts import SENTENCES

LLAMA3_SPLIT = QWEN_SPLIT.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'"
    " + message['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] + '\\n\\n' %}"
    "{% set loop_messages = messages[1:] %}{% else %}{% set first = '' %}{% set loop_messages = messages %}{% endif %}"
    "{% for message in loop_messages %}{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
    "{{ '<start_of_turn>' + role + '\\n' + (first if loop.first else '') + message['content'] | trim + '<end_of_turn>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)
ZEPHYR = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\\n' + message['content'] + eos_token + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)


def byte_level(splits, special, merges, ignore_merges=False, bos=None):
    """A byte-level BPE tokenizer with these splits; `special` come last, as in the published vocabularies."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = splits
    trainer = trainers.BpeTrainer(
        vocab_size=256 + merges, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    for content in special:
        tokenizer.add_special_tokens([AddedToken(content, special=True, normalized=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    if bos:
        first = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, tokenizer.token_to_id(bos))]
        )
        tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), first])
    if ignore_merges:
        form = json.loads(tokenizer.to_str())
        form["model"]["ignore_merges"] = True
        tokenizer = Tokenizer.from_str(json.dumps(form))
    return tokenizer


def split_by(pattern):
    """Splits by a pattern, then bytes, as Qwen and Llama 3 do."""
    return pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False),
    ])  # fmt: skip


def llama3_tokenizer():
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>"]
    return byte_level(split_by(LLAMA3_SPLIT), special, 130, ignore_merges=True, bos="<|begin_of_text|>")


def smollm_tokenizer():
    splits = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True),
    ])  # fmt: skip
    return byte_level(splits, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], 130)


def qwen_tokenizer():
    tokenizer = byte_level(split_by(QWEN_SPLIT), ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], 130)
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_tokens([AddedToken(word, special=False, normalized=False) for word in ("<think>", "</think>")])
    return tokenizer


def sentencepiece_tokenizer(folder, vocab_size, prefix, control, user_defined=()):
    """A SentencePiece BPE vocabulary with bytes for what it lacks: tokenizer.model, and the same as a tokenizer.json.

    `prefix`: a blank is put before every text, as Llama 2 does and Gemma does not.
    """
    model = folder / "tokenizer.model"
    bos, eos, ids = ("<bos>", "<eos>", (0, 1, 2, 3)) if "<bos>" in control else ("<s>", "</s>", (-1, 2, 1, 0))
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(line for text in SENTENCES for line in text.split("\n")), model_prefix=str(folder / "tokenizer"),
        model_type="bpe", vocab_size=vocab_size, byte_fallback=True, split_digits=True, add_dummy_prefix=prefix,
        remove_extra_whitespaces=False, normalization_rule_name="identity", character_coverage=0.99, hard_vocab_limit=False,
        allow_whitespace_only_pieces=True, pad_id=ids[0], eos_id=ids[1], bos_id=ids[2], unk_id=ids[3],
        bos_piece=bos, eos_piece=eos, user_defined_symbols=list(user_defined), minloglevel=2, num_threads=1,
    )  # fmt: skip
    (folder / "tokenizer.vocab").unlink()
    processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
    vocab = {processor.id_to_piece(at): at for at in range(processor.get_piece_size())}
    scores = {piece: processor.get_score(at) for piece, at in vocab.items()}
    merges = []
    for piece, at in vocab.items():
        if processor.is_control(at) or processor.is_byte(at) or piece in user_defined:
            continue
        cuts = [(piece[:cut], piece[cut:]) for cut in range(1, len(piece))]
        cuts = [cut for cut in cuts if cut[0] in vocab and cut[1] in vocab]
        merges += [(scores[piece], vocab[left], vocab[right], left, right) for left, right in cuts]
    merges = [merge[3:] for merge in sorted(merges, key=lambda merge: (-merge[0], merge[1], merge[2]))]
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    strip = []
    if prefix:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        strip = [decoders.Strip(" ", 1, 0)]
    else:
        tokenizer.normalizer = normalizers.Replace(" ", "▁")
        tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", behavior="merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip])
    tokenizer.add_special_tokens([AddedToken(content, special=True, normalized=False) for content in control])
    tokenizer.add_tokens([AddedToken(content, special=False, normalized=False) for content in user_defined])
    for text in SENTENCES:
        assert processor.encode(text) == tokenizer.encode(text, add_special_tokens=False).ids, text
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, tokenizer.token_to_id(bos))]
    )
    return tokenizer


def config(name, vocab):
    """config.json in the form of the published checkpoints."""
    common = {
        "attention_dropout": 0.0, "initializer_range": 0.02, "torch_dtype": "bfloat16", "transformers_version": "4.51.3",
        "use_cache": True, "vocab_size": vocab, "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4,
        "num_key_value_heads": 2, "intermediate_size": 96, "max_position_embeddings": 1024, "rms_norm_eps": 1e-6,
    }  # fmt: skip
    llama = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "attention_bias": False,
        "mlp_bias": False, "pretraining_tp": 1, "rms_norm_eps": 1e-5, "rope_scaling": None, "rope_theta": 10000.0,
    }  # fmt: skip
    qwen = {
        "hidden_act": "silu", "max_window_layers": 3, "rope_theta": 1000000.0, "sliding_window": None,
        "use_sliding_window": False, "tie_word_embeddings": True,
    }  # fmt: skip
    scaling = {
        "factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 64,
        "rope_type": "llama3",
    }  # fmt: skip
    own = {
        "llama": llama | {"head_dim": 16, "rope_scaling": scaling, "rope_theta": 500000.0, "tie_word_embeddings": False},
        "smollm": llama | {"num_attention_heads": 2, "num_key_value_heads": 2, "rope_theta": 130000, "tie_word_embeddings": True},
        "tinyllama": llama | {"tie_word_embeddings": False, "num_key_value_heads": 1},
        "qwen2": qwen | {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"},
        "qwen3": qwen | {
            "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "attention_bias": False, "head_dim": 32,
        },
        # Wide enough for blocks of 256.
        "wide": qwen | {
            "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "attention_bias": False, "head_dim": 64,
            "hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 3,
        },
        "gemma3": {
            "architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "attention_bias": False,
            "attn_logit_softcapping": None, "cache_implementation": "hybrid", "final_logit_softcapping": None, "head_dim": 32,
            "hidden_activation": "gelu_pytorch_tanh", "num_hidden_layers": 7, "num_attention_heads": 2, "num_key_value_heads": 1,
            "query_pre_attn_scalar": 32, "rope_local_base_freq": 10000.0, "rope_theta": 1000000.0,
            "rope_scaling": {"factor": 4.0, "rope_type": "linear"}, "sliding_window": 24, "sliding_window_pattern": 6,
        },
    }[name]  # fmt: skip
    return common | own


# `pre`: the name by which llama.cpp knows the splits; its converter finds it by a hash of the real vocabulary.
MODELS = {
    "llama": {
        "tokenizer": lambda folder: llama3_tokenizer(), "pre": "llama-bpe", "template": LLAMA3, "class": "PreTrainedTokenizerFast",
        "bos": "<|begin_of_text|>", "eos": "<|eot_id|>", "ends": ["<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"],
    },
    "smollm": {
        "tokenizer": lambda folder: smollm_tokenizer(), "pre": "smollm", "template": CHATML, "class": "GPT2Tokenizer",
        "bos": "<|im_start|>", "eos": "<|im_end|>", "ends": ["<|im_end|>"],
    },
    "qwen2": {
        "tokenizer": lambda folder: qwen_tokenizer(), "pre": "qwen2", "template": CHATML, "class": "Qwen2Tokenizer",
        "bos": None, "eos": "<|im_end|>", "ends": ["<|im_end|>", "<|endoftext|>"],
    },
    "qwen3": {
        "tokenizer": lambda folder: qwen_tokenizer(), "pre": "qwen2", "template": CHATML, "class": "Qwen2Tokenizer",
        "bos": None, "eos": "<|im_end|>", "ends": ["<|im_end|>", "<|endoftext|>"],
    },
    "wide": {
        "tokenizer": lambda folder: qwen_tokenizer(), "pre": "qwen2", "template": CHATML, "class": "Qwen2Tokenizer",
        "bos": None, "eos": "<|im_end|>", "ends": ["<|im_end|>", "<|endoftext|>"],
    },
    "gemma3": {
        "tokenizer": lambda folder: sentencepiece_tokenizer(
            folder, 420, False, ["<pad>", "<eos>", "<bos>", "<unk>"], ["<start_of_turn>", "<end_of_turn>", "\n\n"]
        ),
        "template": GEMMA, "class": "GemmaTokenizer", "bos": "<bos>", "eos": "<eos>", "ends": ["<eos>", "<end_of_turn>"],
    },
    "tinyllama": {
        "tokenizer": lambda folder: sentencepiece_tokenizer(folder, 400, True, ["<unk>", "<s>", "</s>"]),
        "template": ZEPHYR, "class": "LlamaTokenizer", "bos": "<s>", "eos": "</s>", "ends": ["</s>"],
    },
}  # fmt: skip


def random_weights(model, seed):
    """Replaces every parameter: large matrices, so that a token hangs on all that was before; norms away from 1."""
    rng = np.random.default_rng(seed)
    offset = model.config.model_type == "gemma3_text"
    for name, parameter in sorted(model.named_parameters()):
        values = rng.standard_normal(tuple(parameter.shape))
        if "norm" in name:
            values = (0.0 if offset else 1.0) + 0.2 * values
            # Layers must outweigh Gemma's table, whose rows grow by the root of the width: a token would follow itself.
            if offset and "post_" in name:
                values += 2
        elif name.endswith("bias"):
            values = 0.3 * values
        elif "embed_tokens" in name:
            values = (0.1 if offset else 0.25) * values
        else:
            values = values * (1.6 / np.sqrt(parameter.shape[-1]))
        parameter.data = torch.from_numpy(values.astype(np.float32)).to(torch.bfloat16).to(torch.float32)


def tokenizer_config(spec, tokenizer):
    """tokenizer_config.json: the words with a role, every added token, the template."""
    added = {
        str(at): {
            "content": token.content, "lstrip": token.lstrip, "normalized": token.normalized, "rstrip": token.rstrip,
            "single_word": token.single_word, "special": token.special,
        }
        for at, token in sorted(tokenizer.get_added_tokens_decoder().items())
    }  # fmt: skip
    values = {
        "added_tokens_decoder": added, "clean_up_tokenization_spaces": False, "eos_token": spec["eos"],
        "model_max_length": 1024, "tokenizer_class": spec["class"],
    }  # fmt: skip
    if spec["class"] in ("GemmaTokenizer", "LlamaTokenizer"):
        values |= {"add_bos_token": True, "add_eos_token": False, "unk_token": "<unk>"}
    if spec["bos"]:
        values["bos_token"] = spec["bos"]
    # Both places of a template are in use on the hub.
    if spec["class"] != "GemmaTokenizer":
        values["chat_template"] = spec["template"]
    return dict(sorted(values.items()))


def write_model(name, folder, seed):
    """Writes a whole checkpoint."""
    spec = MODELS[name]
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = spec["tokenizer"](folder)
    ids = {key: tokenizer.token_to_id(spec[key]) if spec[key] else None for key in ("bos", "eos")}
    ends = [tokenizer.token_to_id(token) for token in spec["ends"]]
    assert None not in ends, ends
    # Wider than the tokenizer where the published tables are.
    wider = 5 if name.startswith(("qwen", "wide")) else 0
    values = config(name, tokenizer.get_vocab_size() + wider)
    values |= {"bos_token_id": ids["bos"], "eos_token_id": ends if len(ends) > 1 else ends[0]}
    write_json(folder / "config.json", dict(sorted(values.items())))
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    write_json(folder / "tokenizer_config.json", tokenizer_config(spec, tokenizer))
    if spec["class"] == "GemmaTokenizer":
        (folder / "chat_template.jinja").write_text(spec["template"])
    write_json(folder / "generation_config.json", {
        "bos_token_id": ids["bos"], "do_sample": True, "eos_token_id": ends, "temperature": 0.6, "top_k": 20, "top_p": 0.9,
        "transformers_version": "4.51.3",
    })  # fmt: skip
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    random_weights(model, seed)
    tied = values.get("tie_word_embeddings", name == "gemma3")
    tensors = {k: v.to(torch.bfloat16).contiguous() for k, v in model.state_dict().items() if not (tied and k == "lm_head.weight")}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def load_model(folder, dtype=torch.float32):
    """The model as transformers reads it back on the CPU; every tensor of the file must be used."""
    model, info = AutoModelForCausalLM.from_pretrained(
        Path(folder), dtype=dtype, attn_implementation="eager", output_loading_info=True
    )
    assert not info["missing_keys"] and not info["unexpected_keys"], info
    return model.eval()
