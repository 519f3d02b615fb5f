"""Writes the tiny chat model as a GGUF file, with the names and keys that llama.cpp's converter gives a Llama."""

import gguf
import numpy as np
from gguf import GGMLQuantizationType, TokenType, quants

NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip


def name_of(name):
    """The file's name of a tensor."""
    if name == "model.embed_tokens.weight":
        return "token_embd.weight"
    if name == "model.norm.weight":
        return "output_norm.weight"
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{NAMES[rest.removesuffix('.weight')]}.weight"


def paired(weight, heads):
    """Rows of every head as pairs of neighbours: a Llama in a GGUF file turns those, one of the hub turns halves."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def write(path, model, tokenizer, template, ends, about):
    """Writes the file; `ends` are the tokens of the end of a turn and of a text."""
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(about["name"])
    writer.add_description(about["description"])
    writer.add_license(about["license"])
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    vocab = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    added = tokenizer.get_added_tokens_decoder()
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([token for token, _ in vocab])
    writer.add_token_types([TokenType.CONTROL if at in added else TokenType.NORMAL for _, at in vocab])
    writer.add_token_merges([" ".join(merge) for merge in about["merges"]])
    writer.add_bos_token_id(ends["text"])
    writer.add_eos_token_id(ends["turn"])
    writer.add_pad_token_id(ends["text"])
    writer.add_add_bos_token(False)
    writer.add_chat_template(template)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight":
            continue
        values = tensor.detach().float().numpy()
        part = name.split(".")[-2]
        if part in heads:
            values = paired(values, heads[part])
        if values.ndim == 1:
            writer.add_tensor(name_of(name), values.astype(np.float32))
        else:
            kind = GGMLQuantizationType.Q8_0
            writer.add_tensor(name_of(name), quants.quantize(np.ascontiguousarray(values), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
