import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from feedback.durable import canonical, write_json
from models import adapters
from models.adapters import CONFIG, MARKER, WEIGHTS, AdapterInvalid, adapter_config, make_manifest, read_adapter, verify
from models.bases import Base

BASE = Base("somewhere", "tiny-0123456789ab", "r" * 64, "t" * 64, "c" * 64)


Q = "base_model.model.model.layers.0.q_proj"


def lora(**changes: torch.Tensor) -> dict[str, torch.Tensor]:
    """A LoRA of rank 2 on one module with 3 inputs and 4 outputs."""
    whole = {"A": torch.ones(2, 3), "B": torch.ones(4, 2)} | changes
    return {f"{Q}.lora_{side}.weight": tensor for side, tensor in whole.items()}


def candidate(root: Path) -> tuple[Path, str]:
    """A candidate with a LoRA of one module, and its digest."""
    path = root / "candidate"
    adapter = path / "adapter"
    adapter.mkdir(parents=True)
    save_file(lora(), adapter / WEIGHTS)
    (adapter / CONFIG).write_bytes(canonical(adapter_config(BASE, 2, 4, ["q_proj"])))
    manifest = make_manifest(adapter, BASE)
    write_json(path / "manifest.json", {name: getattr(manifest, name) for name in manifest.__struct_fields__})
    write_json(path / "report.json", {})
    (path / MARKER).touch()
    return path, manifest.digest


def change_config(path: Path, **changes: object) -> None:
    config = path / "adapter" / CONFIG
    config.write_text(json.dumps(json.loads(config.read_bytes()) | changes))


def test_a_candidate_that_nobody_touched_is_valid(tmp_path: Path) -> None:
    path, digest = candidate(tmp_path)
    manifest = verify(path, digest)
    assert manifest.digest == digest
    assert manifest.fits(BASE)


def test_the_digest_does_not_depend_on_how_the_config_is_written(tmp_path: Path) -> None:
    path, digest = candidate(tmp_path)
    config = path / "adapter" / CONFIG
    config.write_text(json.dumps(json.loads(config.read_bytes()), indent=4))
    assert verify(path, digest).digest == digest


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda p: (p / MARKER).unlink(), "incomplete"),
        (lambda p: (p / "adapter" / "adapter_model.bin").write_bytes(b"x"), "refused"),
        (lambda p: (p / "adapter" / "more.json").write_text("{}"), "must hold"),
        (lambda p: (p / "run.json").write_text("{}"), "no part of a candidate"),
        (lambda p: (p / "report.json").chmod(0o755), "executable"),
        (lambda p: ((p / "report.json").unlink(), (p / "report.json").symlink_to("/etc/passwd")), "link"),
        (lambda p: (p / "reward_model").symlink_to("/tmp"), "link"),
        (lambda p: (p / "adapter" / WEIGHTS).write_bytes(b"\x80\x04pickle"), "not a safetensors file"),
        (lambda p: (p / "adapter" / WEIGHTS).write_bytes(b""), "not a safetensors file"),
        (lambda p: save_file({"lm_head.weight": torch.ones(1)}, p / "adapter" / WEIGHTS), "no plain LoRA matrix"),
        (lambda p: save_file({}, p / "adapter" / WEIGHTS), "no tensors"),
        (
            lambda p: save_file(lora(A=torch.zeros(2, 3)), p / "adapter" / WEIGHTS),
            "changed after training",
        ),
        (
            lambda p: save_file({f"{Q}.lora_magnitude_vector": torch.ones(2)}, p / "adapter" / WEIGHTS),
            r"hold DoRA .* only plain LoRA",
        ),
        (lambda p: save_file(lora(B=torch.full((4, 2), float("nan"))), p / "adapter" / WEIGHTS), "no number"),
        (lambda p: change_config(p, lora_alpha=float("inf")), "lora_alpha"),
        (lambda p: change_config(p, lora_alpha=-4), "lora_alpha"),
        (lambda p: change_config(p, lora_bias=True), r"bias \(lora_bias\)"),
        (lambda p: change_config(p, r=True), "has rank True"),
        (lambda p: change_config(p, base_model_name_or_path="llama"), "of another base"),
        (lambda p: change_config(p, r=3), "its rank is not the config's, 3"),
        (lambda p: change_config(p, lora_alpha=5), "changed after training"),
        (lambda p: change_config(p, use_dora=True), r"DoRA .* only plain LoRA"),
        (lambda p: change_config(p, modules_to_save=["lm_head"]), "only plain LoRA"),
        (lambda p: change_config(p, bias="all"), "only plain LoRA"),
        (lambda p: change_config(p, r=100_000), "rank"),
        (lambda p: change_config(p, layers_to_transform=[7]), r"layers \[7\], the weights other"),
        (lambda p: change_config(p, layers_to_transform=0), "layers 0, the weights other"),
        (lambda p: change_config(p, layers_to_transform=[0]), "changed after training"),
        (lambda p: change_config(p, target_modules=".*"), "plain module names"),
        (lambda p: change_config(p, peft_type="IA3"), "does not describe a LoRA"),
        (lambda p: (p / "adapter" / CONFIG).write_text("{"), "not JSON"),
        (lambda p: (p / "manifest.json").write_text('{"digest": 1}'), "not an adapter's manifest"),
    ],
)
def test_what_was_tampered_with_is_refused_with_its_reason(
    tmp_path: Path, spoil: Callable[[Path], object], reason: str
) -> None:
    path, digest = candidate(tmp_path)
    spoil(path)
    with pytest.raises(AdapterInvalid, match=reason):
        verify(path, digest)


def test_a_valid_candidate_under_another_digest_is_refused(tmp_path: Path) -> None:
    path, digest = candidate(tmp_path)
    with pytest.raises(AdapterInvalid, match="not " + "0" * 64):
        verify(path, "0" * 64)
    with pytest.raises(AdapterInvalid, match="64 hex digits"):
        verify(path, digest[:16])


def test_an_adapter_fits_its_own_base_only(tmp_path: Path) -> None:
    path, digest = candidate(tmp_path)
    other = Base(BASE.path, BASE.name, "s" * 64, BASE.tokenizer_sha256, BASE.chat_template_sha256)
    assert not verify(path, digest).fits(other)


def test_an_adapter_of_another_base_is_refused_by_name(tmp_path: Path) -> None:
    path, digest = candidate(tmp_path)
    other = Base(BASE.path, "llama", "s" * 64, BASE.tokenizer_sha256, BASE.chat_template_sha256)
    with pytest.raises(AdapterInvalid, match=r"trained on tiny-0123456789ab \(\w+\), not on llama \(s{12}\)"):
        read_adapter(path, digest).check_fits(other)


def test_what_is_written_for_an_engine_is_what_was_checked_whatever_became_of_the_files(tmp_path: Path) -> None:
    path, digest = candidate(tmp_path)
    adapter = read_adapter(path, digest)
    save_file(lora(B=torch.full((4, 2), float("nan"))), path / "adapter" / WEIGHTS)
    served = tmp_path / "served"
    served.mkdir()
    adapter.write(served)
    assert load_file(served / WEIGHTS)[f"{Q}.lora_B.weight"].isfinite().all()
    assert make_manifest(served, BASE) == adapter.manifest
    with pytest.raises(FileExistsError):  # never in place
        adapter.write(served)


def test_a_file_that_became_a_link_or_a_pipe_after_it_was_looked_at_is_not_read(tmp_path: Path) -> None:
    path, _ = candidate(tmp_path)
    weights = path / "adapter" / WEIGHTS
    weights.rename(tmp_path / "moved")
    weights.symlink_to(tmp_path / "moved")
    with pytest.raises(OSError, match="symbolic links"):
        adapters._read_file(weights, 1 << 20)
    weights.unlink()
    os.mkfifo(weights)
    with pytest.raises(AdapterInvalid, match="no plain file"):
        adapters._read_file(weights, 1 << 20)
    with pytest.raises(AdapterInvalid, match="at most 3 bytes"):
        adapters._read_file(tmp_path / "moved", 3)


def test_a_date_is_part_of_the_digest_and_where_there_is_none_the_digest_is_what_it_was(tmp_path: Path) -> None:
    path, digest = candidate(tmp_path)
    known = json.loads((path / "manifest.json").read_bytes())
    del known["template_date"]
    write_json(path / "manifest.json", known)
    assert verify(path, digest).template_date is None
    dated = make_manifest(path / "adapter", BASE, "2026-11-27")
    assert dated.digest != digest
    write_json(path / "manifest.json", dated.content)
    assert verify(path, dated.digest).template_date == "2026-11-27"


def test_a_date_that_is_none_is_refused(tmp_path: Path) -> None:
    path, _ = candidate(tmp_path)
    dated = make_manifest(path / "adapter", BASE, "some day")
    write_json(path / "manifest.json", dated.content)
    with pytest.raises(AdapterInvalid, match="not an adapter's manifest"):
        verify(path, dated.digest)
