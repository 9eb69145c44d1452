"""How bases come into torch: safely, not training, and the same for the same seed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from models import loading
from models.bases import Base
from models.batches import lay_out
from models.errors import JobFailed
from models.loading import load_causal, load_chat, load_scorer, pad_id, training_dtype
from models.reward import rewards, with_reward_lora
from models.settings import RewardSettings
from tests.models.snapshots import said


@pytest.fixture(scope="module")
def directory(chat: Any, model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base in a directory, as one finds them."""
    path = tmp_path_factory.mktemp("loading") / "my-model"
    model.save_pretrained(path)
    chat.tokenizer.save_pretrained(path)
    return path


def test_a_base_answers_as_what_was_saved_and_is_not_training(directory: Path, model: Any) -> None:
    loaded, ids = load_causal(directory), torch.tensor([[5, 6, 7]])
    assert not loaded.training
    with torch.no_grad():
        logits = loaded(ids.to(loaded.device)).logits.float().cpu()
        assert torch.allclose(logits, model(ids).logits, atol=1e-5 if loaded.dtype == torch.float32 else 0.1)


def test_its_tokenizer_reads_as_the_one_that_was_saved(directory: Path, chat: Any) -> None:
    loaded = load_chat(Base(str(directory), "my-model", "r", "0" * 64, "1" * 64))
    assert loaded.prompt(said("Where is order 12?"), 50) == chat.prompt(said("Where is order 12?"), 50)
    assert loaded.end_ids == chat.end_ids


def test_weights_that_are_pickled_are_not_loaded(directory: Path, model: Any, tmp_path: Path) -> None:
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(JobFailed, match="safetensors"):
        load_causal(tmp_path)


def test_a_base_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(JobFailed, match="gone"):
        load_causal(tmp_path / "gone")


def test_reward_heads_are_as_many_as_asked_and_the_same_for_the_same_seed(directory: Path) -> None:
    one, same, other = (load_scorer(directory, 3, seed).score.weight for seed in (1, 1, 2))
    assert one.shape[0] == 3
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert len({tuple(head.tolist()) for head in one}) == 3


@pytest.mark.parametrize(
    ("capabilities", "dtype"),
    [
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
        ({"avx512_f": True}, torch.float32),
    ],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="here the accelerator decides")
def test_a_frozen_base_computes_in_bfloat16_where_the_processor_has_it(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], dtype: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    monkeypatch.setattr(loading, "_SMALL_BYTES", 1)
    assert training_dtype(directory) == dtype
    assert load_causal(directory).dtype == torch.float32  # is served as it always was


def test_a_small_base_stays_in_float32_whatever_the_processor_has(directory: Path) -> None:
    assert training_dtype(directory) == torch.float32


def test_reward_heads_on_a_base_in_bfloat16_move_at_the_smallest_step(directory: Path) -> None:
    model = load_scorer(directory, 3, 1, torch.bfloat16)
    assert {weights.dtype for weights in model.model.parameters()} == {torch.bfloat16}
    reward = with_reward_lora(model, RewardSettings(lora_rank=4)).train()
    before = {name: weights.detach().clone() for name, weights in reward.named_parameters() if weights.requires_grad}
    optimizer = torch.optim.AdamW([p for p in reward.parameters() if p.requires_grad], lr=1e-4, weight_decay=0.0)
    batch = {name: tensor.to(reward.device) for name, tensor in lay_out([([5, 6], [[7, 8]])], 0).items()}
    rewards(reward, batch).sum().backward()
    optimizer.step()
    after = dict(reward.named_parameters())
    assert {weights.dtype for weights in before.values()} == {torch.float32}
    heads = [name for name in before if "score" in name]
    assert heads
    moved = torch.cat([((after[name] - before[name]).abs() > 5e-5).flatten() for name in heads])
    assert moved.float().mean() > 0.95, "all but what reads a state that happens to be 0"


def test_rows_are_filled_up_with_what_ends_a_reply_where_there_is_no_padding(chat: Any) -> None:
    assert pad_id(chat) == chat.tokenizer.pad_token_id
    bare: Any = SimpleNamespace(tokenizer=SimpleNamespace(pad_token_id=None), end_ids=frozenset({7}))
    assert pad_id(bare) == 7


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"model_type": "own", "auto_map": {"AutoConfig": "c.C", "AutoModelForCausalLM": "m.M"}}, "custom code"),
        ({"model_type": "own"}, "model type `own`"),
        ({"num_attention_heads": 0}, "ZeroDivisionError"),
        ({"hidden_size": 1_000_000_000}, "RuntimeError"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "optimum"),
    ],
)
def test_of_a_base_that_would_need_code_of_its_own_or_is_broken_one_sentence_says_so(
    directory: Path, tmp_path: Path, config: dict[str, Any], why: str
) -> None:
    shutil.copytree(directory, tmp_path / "base")
    known = json.loads((directory / "config.json").read_bytes())
    (tmp_path / "base" / "config.json").write_text(json.dumps(known | config))
    for load in (load_causal, partial(load_scorer, heads=1, seed=1)):
        with pytest.raises(JobFailed, match=rf"can't be loaded .*{why}.*choose another base"):
            load(tmp_path / "base")


@pytest.mark.parametrize("name", ["attn_implementation", "_attn_implementation"])
def test_the_attention_is_ours_to_choose_whatever_a_config_asks_for(directory: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(directory, tmp_path / "base")
    known = json.loads((directory / "config.json").read_bytes())
    (tmp_path / "base" / "config.json").write_text(json.dumps(known | {name: "flash_attention_2"}))
    assert load_causal(tmp_path / "base").config._attn_implementation == "sdpa"


def test_an_engine_fetches_no_kernel_from_the_hub_and_brings_in_nothing_that_only_trains() -> None:
    code = "import sys, models.engine; from transformers.integrations import hub_kernels as k; "
    code += "print(k._TRANSFORMERS_USE_HUB_KERNELS, {'transformers.trainer', 'datasets'} & sys.modules.keys())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "NO set()\n"
