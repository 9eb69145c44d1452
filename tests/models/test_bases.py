import json
from pathlib import Path
from typing import Any

import pytest

from models.bases import describe, find_base, served_base, tiny_content, tiny_pointer
from models.errors import JobFailed
from models.settings import BaseModelSettings, TinySettings


@pytest.fixture
def directory(chat: Any, model: Any, tmp_path: Path) -> Path:
    path = tmp_path / "my-model"
    model.save_pretrained(path)
    chat.tokenizer.save_pretrained(path)
    return path


def test_a_local_directory_is_known_by_its_content(directory: Path, tmp_path: Path) -> None:
    base = find_base(BaseModelSettings(name=str(directory)), TinySettings(), tmp_path)
    assert base is not None
    assert base.name == "my-model"
    (directory / "config.json").write_text((directory / "config.json").read_text() + "\n")
    assert describe(directory, "my-model").revision != base.revision


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        ("config.json", "no config.json"),
        ("tokenizer.json", "no tokenizer.json"),
        ("model.safetensors", "no .safetensors weights"),
        ("chat_template.jinja", "no chat template"),
    ],
)
def test_an_incomplete_directory_says_what_it_lacks(directory: Path, missing: str, reason: str) -> None:
    (directory / missing).unlink()
    with pytest.raises(JobFailed, match=reason):
        describe(directory, "my-model")


def test_pickled_weights_are_no_weights(directory: Path) -> None:
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")
    with pytest.raises(JobFailed, match="pickled weights are refused"):
        describe(directory, "my-model")


def test_a_directory_that_is_not_there_is_an_error_and_no_download(tmp_path: Path) -> None:
    with pytest.raises(JobFailed, match="there is no base model directory"):
        find_base(BaseModelSettings(name=str(tmp_path / "gone")), TinySettings(), tmp_path)


def test_the_tiny_base_is_none_until_it_is_trained_and_an_error_once_it_is_lost(tmp_path: Path) -> None:
    settings, tiny = BaseModelSettings(), TinySettings()
    assert find_base(settings, tiny, tmp_path) is None
    pointer = tiny_pointer(settings, tiny, tmp_path)
    pointer.parent.mkdir()
    pointer.write_text('{"directory": "tiny-0123456789ab"}')
    with pytest.raises(JobFailed, match="is gone or incomplete"):
        find_base(settings, tiny, tmp_path)


def test_other_tiny_settings_are_another_base(tmp_path: Path) -> None:
    pointers = {
        tiny_pointer(BaseModelSettings(max_length=n), TinySettings(steps=s), tmp_path) for n in (64, 65) for s in (1, 2)
    }
    assert len(pointers) == 4


def test_a_tiny_base_of_other_settings_is_none_to_train_with_and_said_to_who_would_serve_it(tmp_path: Path) -> None:
    settings, tiny = BaseModelSettings(), TinySettings(layers=2)
    assert served_base(settings, tiny, tmp_path) is None
    pointer = tiny_pointer(settings, tiny, tmp_path)
    pointer.parent.mkdir()
    pointer.write_text(json.dumps({"directory": "tiny-0123456789ab", "settings": tiny_content(settings, tiny)}))
    now = BaseModelSettings(max_length=100), TinySettings(layers=3)
    assert find_base(*now, tmp_path) is None
    with pytest.raises(
        JobFailed, match=r"others: base\.max_length is 100, and was 256, tiny\.layers is 3, and was 2\. "
    ):
        served_base(*now, tmp_path)
    pointer.write_text('{"directory": "tiny-0123456789ab"}')  # as versions wrote it that did not note them
    with pytest.raises(JobFailed, match=r"others: \[tiny\] or base\.max_length was changed"):
        served_base(*now, tmp_path)


@pytest.mark.parametrize(
    "config",
    [
        {"attn_implementation": "someone/fast-attention"},
        {"_attn_implementation": "someone/fast-attention:run"},
        {"experts_implementation": "someone/fast-attention"},
        {"a": [{"b": {"_attn_implementation_internal": "someone/fast-attention"}}]},
        {"text_config": {"attn_implementation": {"": "sdpa", "x": "someone/fast-attention"}}},
    ],
)
def test_attention_that_would_be_fetched_and_run_is_refused(directory: Path, config: dict[str, Any]) -> None:
    known = json.loads((directory / "config.json").read_bytes())
    (directory / "config.json").write_text(json.dumps(known | config))
    with pytest.raises(JobFailed, match="wants the attention someone/fast-attention"):
        describe(directory, "my-model")


@pytest.mark.parametrize("layers", [{"num_hidden_layers": 10**9}, {"num_hidden_layers": 0}, {"a": {"n_layer": 3}}])
def test_a_config_that_tells_of_other_layers_than_there_are_weights_of_is_refused(
    directory: Path, layers: dict[str, Any]
) -> None:
    known = json.loads((directory / "config.json").read_bytes())
    (directory / "config.json").write_text(
        json.dumps({name: known[name] for name in known if "layers" not in name} | layers)
    )
    with pytest.raises(JobFailed, match=r"tells of \d+ layers, its weights hold 2"):
        describe(directory, "my-model")


@pytest.mark.parametrize("config", ["[]", "{", "[" * 100_000])
def test_a_config_that_is_none_is_refused(directory: Path, config: str) -> None:
    (directory / "config.json").write_text(config)
    with pytest.raises(JobFailed, match=r"config\.json is not"):
        describe(directory, "my-model")


def test_weights_that_are_no_safetensors_are_refused(directory: Path) -> None:
    (directory / "model.safetensors").write_bytes(b"PK not at all")
    with pytest.raises(JobFailed, match="are not safetensors files"):
        describe(directory, "my-model")
