import copy
import math
from typing import Any

import pytest
import torch

from models.ragged import BARE, KeyValues, bytes_per_token, can_batch, forward

PROMPTS = [[5, 9, 11, 20, 7, 33, 8], [40], [3, 4, 5, 6, 300, 17, 80, 81, 82, 83, 84, 21]]


def after(model: Any, ids: list[int]) -> torch.Tensor:
    """Logits after these ids, read at once and without any cache."""
    with torch.inference_mode():
        logits: torch.Tensor = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].float().cpu()
    return logits


def same(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    return bool((found - wanted).abs().max() < 1e-4)


def test_sequences_of_different_lengths_read_together_as_each_would_alone(model: Any) -> None:
    together = forward(model, [(KeyValues(96), ids) for ids in PROMPTS])
    assert all(same(row, after(model, ids)) for row, ids in zip(together, PROMPTS, strict=True))


def test_a_sequence_reads_in_any_portions_while_others_come_and_go(model: Any) -> None:
    first, long = KeyValues(96), KeyValues(96)
    forward(model, [(first, PROMPTS[0])])
    forward(model, [(first, [2]), (long, PROMPTS[2][:5])])
    found = forward(model, [(long, PROMPTS[2][5:6]), (KeyValues(96), PROMPTS[1]), (first, [4, 6])])
    assert same(found[0], after(model, PROMPTS[2][:6]))
    assert same(found[2], after(model, [*PROMPTS[0], 2, 4, 6]))
    assert same(forward(model, [(long, PROMPTS[2][6:])])[0], after(model, PROMPTS[2]))


def test_several_query_heads_may_share_keys_and_values(model: Any) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(**{**model.config.to_dict(), "num_key_value_heads": 1})
    torch.manual_seed(3)
    shared = LlamaForCausalLM(config).eval()
    assert config.num_attention_heads > 1
    memory = KeyValues(96)
    forward(shared, [(memory, PROMPTS[2][:4]), (KeyValues(96), PROMPTS[0])])
    assert same(forward(shared, [(memory, PROMPTS[2][4:])])[0], after(shared, PROMPTS[2]))


def test_sequences_of_several_adapters_and_of_none_share_a_pass(model: Any) -> None:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    adapted = get_peft_model(copy.deepcopy(model), config, adapter_name="one").eval()
    adapted.add_adapter("two", config)
    adapted.set_adapter("one", inference_mode=True)
    memories = [KeyValues(96) for _ in range(3)]
    names = ["two", BARE, "one"]
    forward(adapted, [(memory, ids[:1]) for memory, ids in zip(memories, PROMPTS, strict=True)], names)
    later = [ids[1:] or [6] for ids in PROMPTS]
    found = forward(adapted, list(zip(memories, later, strict=True)), names)
    for row, name, first, rest in zip(found, names, PROMPTS, later, strict=True):
        if name == BARE:
            assert same(row, after(model, [*first[:1], *rest]))
        else:
            adapted.set_adapter(name, inference_mode=True)
            assert same(row, after(adapted, [*first[:1], *rest]))
            assert not same(row, after(model, [*first[:1], *rest]))


def test_what_was_read_is_copied_as_often_as_its_length_doubles_and_never_has_room_for_more_than_it_may_read() -> None:
    memory, buffers, most = KeyValues(3000), [], 3000
    for at in range(most):
        seen = memory.put(0, torch.full((2, 1, 1, 4), float(at)))
        memory.length += 1
        if not buffers or buffers[-1] != seen.untyped_storage().data_ptr():
            buffers.append(seen.untyped_storage().data_ptr())
        assert seen.untyped_storage().nbytes() <= most * seen[:, :, 0].numel() * seen.element_size()
    assert seen[0, 0, :, 0].tolist() == list(range(most))
    assert len(buffers) <= math.log2(most)


def test_a_pass_that_fails_has_read_nothing_and_leaves_the_model_as_it_was(model: Any) -> None:
    memory, attention = KeyValues(96), model.config._attn_implementation
    forward(model, [(memory, PROMPTS[0])])
    last = model.model.layers[-1].mlp
    hook = last.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(RuntimeError("out of memory")))
    with pytest.raises(RuntimeError, match="out of memory"):
        forward(model, [(memory, [3]), (KeyValues(96), PROMPTS[1])])
    hook.remove()
    assert model.config._attn_implementation == attention
    assert same(forward(model, [(memory, [4])])[0], after(model, [*PROMPTS[0], 4]))


def test_a_token_takes_the_memory_that_its_keys_and_values_take(model: Any) -> None:
    memory = KeyValues(1)
    forward(model, [(memory, [5])])
    assert bytes_per_token(model) == sum(held.numel() * held.element_size() for held in memory._layers)


def test_only_plain_attention_with_positions_of_each_sequences_own_shares_a_pass(model: Any) -> None:
    assert can_batch(model)
    rope = model.config.rope_parameters
    model.config.rope_parameters = {**rope, "rope_type": "dynamic"}
    assert not can_batch(model)
    model.config.rope_parameters = rope
    model.config.sliding_window = 16
    assert not can_batch(model)
    del model.config.sliding_window
    assert can_batch(model)
