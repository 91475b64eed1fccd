"""The whole stack against transformers' Llama with the same random weights."""

import pytest
import torch

from genvlm.models.build import build_transformer
from genvlm.models.mixed_modal.transformer import KVCache
from genvlm.testing.tiny import tiny_transformer_config

transformers = pytest.importorskip("transformers", reason="transformers is not installed")

VOCAB = 50
NAMES = {
    "model.embed_tokens.weight": "embedding.weight",
    "model.norm.weight": "norm.weight",
    "lm_head.weight": "head.proj.weight",
}


def rename(name: str) -> str:
    if name in NAMES:
        return NAMES[name]
    name = (
        name.removeprefix("model.").replace("layers.", "blocks.").replace("self_attn", "attention")
    )
    name = name.replace("input_layernorm", "attention_norm")
    return name.replace("post_attention_layernorm", "mlp_norm")


@torch.no_grad()
@pytest.mark.parametrize("num_kv_heads", [4, 2, 1])
def test_hidden_states_and_logits_equal_llama(num_kv_heads: int) -> None:
    config = tiny_transformer_config(num_kv_heads=num_kv_heads, qk_norm=None, rotary_dims=None)
    torch.manual_seed(0)
    reference = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=VOCAB,
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            num_key_value_heads=config.num_kv_heads,
            head_dim=config.head_dim,
            max_position_embeddings=config.context_length,
            rms_norm_eps=config.norm_eps,
            rope_theta=config.rope_theta,
            initializer_range=0.15,
            tie_word_embeddings=False,
            pad_token_id=None,
        )
    ).eval()
    for name, parameter in reference.named_parameters():
        if "norm" in name:
            parameter.uniform_(0.5, 1.5)
    model = build_transformer(config, VOCAB).eval()
    model.load_state_dict({rename(n): t for n, t in reference.state_dict().items()})
    ids = torch.randint(VOCAB, (2, 40))
    expected = reference(ids, output_hidden_states=True)
    hidden = model(ids)
    assert (hidden - expected.hidden_states[-1]).abs().max() <= 1e-5
    assert (model.head(hidden) - expected.logits).abs().max() <= 1e-4 * expected.logits.abs().max()
    assert expected.logits.std() > 0.1
    cache = KVCache(config, 2, 40)
    for at in range(40):
        step = model(ids[:, at : at + 1], cache=cache)[:, 0]
        cache.lengths = cache.lengths + 1
        assert (step - expected.hidden_states[-1][:, at]).abs().max() <= 1e-5
