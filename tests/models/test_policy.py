import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from peft import PeftModel, get_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file

from feedback.records import Demonstration
from models import losses
from models.adapters import CONFIG, WEIGHTS
from models.bases import Base
from models.batches import lay_out, reply_logps
from models.best_of import SampledPair
from models.policy import (
    choose_examples,
    kto_balance,
    plan_policy,
    policy_loss,
    save_adapter,
    tensors,
    with_policy_lora,
)
from models.prefix import beside_base
from models.settings import PolicySettings
from models.snapshot import SnapshotData
from models.tiny import fresh_model
from models.weights import layer_of
from tests.models.conftest import TINY
from tests.models.moved import move, moved_policy
from tests.models.snapshots import common, pair, said, thumb


def data(*records: Any) -> SnapshotData:
    kinds = {"PreferencePair": [], "UnpairedLabel": [], "Demonstration": []}  # type: dict[str, list[Any]]
    for record in records:
        kinds[type(record).__name__].append(record)
    return SnapshotData("s", "sha256:0", kinds["PreferencePair"], kinds["UnpairedLabel"], kinds["Demonstration"], [])


def demonstration(number: int, split: Any = "train") -> Demonstration:
    return Demonstration(id=f"d{number}", prompt=said("Hi"), reply="Hello", **common(number, split))


def test_what_the_snapshot_holds_decides_the_method() -> None:
    chosen = choose_examples(
        data(demonstration(1), pair(2, "train", said("a"), "b", "c"), *[thumb(n, "train", said("a"), "b", True) for n in (3, 4)]),
        [], 10,
    )  # fmt: skip
    assert {kind: len(rows) for kind, rows in chosen.items()} == {"sft": 1, "dpo": 1, "kto": 2}


def test_only_the_train_split_is_learned_from() -> None:
    records = [demonstration(n, split) for n, split in enumerate(["train", "calibrate", "gate"])]
    assert [x.id for x in choose_examples(data(*records), [], 10)["sft"]] == ["d0"]


def test_of_too_many_examples_the_newest_stay() -> None:
    chosen = choose_examples(data(*[demonstration(n) for n in range(5)]), [], 2)
    assert [x.id for x in chosen["sft"]] == ["d4", "d3"]


def test_a_single_thumb_is_left_out_because_kto_needs_two() -> None:
    assert choose_examples(data(thumb(1, "train", said("a"), "b", True)), [], 10)["kto"] == []


def test_an_empty_reply_teaches_nothing() -> None:
    assert choose_examples(data(pair(1, "train", said("a"), "b", " ")), [], 10)["dpo"] == []


def test_a_logged_reply_that_was_cut_is_learned_without_an_end(chat: Any) -> None:
    def targets(kind: Any, *examples: Any) -> list[int]:
        found: list[int] = tensors(chat, kind, examples, 96, share=True)["replies"]["targets"].tolist()
        return found

    end = chat.closing[-1]
    whole = pair(1, "train", said("a"), "good", "bad one")
    assert targets("dpo", whole).count(end) == 2
    cut = targets("dpo", msgspec.structs.replace(whole, rejected_ended=False))
    assert cut == [*chat.content("good"), *chat.closing, *chat.content("bad one")]
    one, two = (thumb(n, "train", said("a"), f"reply {n}", False) for n in (1, 2))
    assert targets("kto", one, two).count(end) == 4
    assert targets("kto", msgspec.structs.replace(one, ended=False), two).count(end) == 2


def test_every_batch_is_of_one_kind_and_every_example_is_seen_each_epoch(chat: Any) -> None:
    examples = choose_examples(
        data(*[demonstration(n) for n in range(5)], *[thumb(n, "train", said("a"), "b", True) for n in range(5, 22)]), [], 99
    )  # fmt: skip
    plan = plan_policy(chat, examples, PolicySettings(batch_size=4, epochs=2), 96)
    seen = [x.id for _, batch in plan for x in batch]
    assert all(seen.count(x.id) >= 2 for rows in examples.values() for x in rows)
    assert all(len(batch) > 1 for kind, batch in plan if kind == "kto")
    assert {(kind, type(x).__name__) for kind, batch in plan for x in batch} == {
        ("sft", "Demonstration"),
        ("kto", "UnpairedLabel"),
    }


@pytest.fixture
def adapted(chat: Any) -> Any:
    return moved_policy(chat)


def test_the_reference_is_the_base_without_the_adapter(chat: Any, adapted: Any) -> None:
    batch = lay_out([(chat.prompt(said("Hi"), 50), [chat.reply("Hello", 50)])], 0)
    policy, reference = beside_base(adapted, lambda: reply_logps(adapted, batch))
    with torch.no_grad():
        bare = reply_logps(adapted.unload(), batch)
    assert reference.item() == pytest.approx(bare.item())
    assert policy.item() != pytest.approx(bare.item(), abs=1e-3)


def test_dpo_adds_the_likelihood_of_the_chosen_reply(chat: Any, adapted: Any) -> None:
    batch = tensors(chat, "dpo", [pair(1, "train", said("a"), "good", "bad one")], 96, share=True)
    a = reply_logps(adapted, batch["replies"]).tolist()[0]
    without, with_it = (policy_loss(adapted, batch, 0.1, likelihood).item() for likelihood in (0.0, 1.0))
    assert with_it - without == pytest.approx(-a / int(batch["replies"]["lengths"][0]), rel=1e-4)


def test_a_pair_of_which_neither_is_better_teaches_no_reply(chat: Any, adapted: Any) -> None:
    even = msgspec.structs.replace(pair(1, "train", said("a"), "good", "bad one"), preference=0.5)
    batch = tensors(chat, "dpo", [even], 96, share=True)
    assert policy_loss(adapted, batch, 0.1, 0.0).item() == policy_loss(adapted, batch, 0.1, 1.0).item()


def test_the_likelihood_term_grows_with_the_preference(chat: Any, adapted: Any) -> None:
    def term(preference: float) -> float:
        one = msgspec.structs.replace(pair(1, "train", said("a"), "good", "bad one"), preference=preference)
        batch = tensors(chat, "dpo", [one], 96, share=True)
        return policy_loss(adapted, batch, 0.1, 1.0).item() - policy_loss(adapted, batch, 0.1, 0.0).item()

    assert term(0.75) == pytest.approx(term(1.0) / 2, rel=1e-3)


def test_a_pair_of_samples_that_were_cut_teaches_no_end(chat: Any) -> None:
    whole = pair(1, "train", said("a"), "good", "bad one")
    fields = {name: getattr(whole, name) for name in whole.__struct_fields__}
    for ended in (True, False):
        targets = tensors(chat, "dpo", [SampledPair(**fields, ended=ended)], 96, share=True)["replies"][
            "targets"
        ].tolist()
        assert targets.count(chat.closing[-1]) == (2 if ended else 0)
        assert len(targets) == len(chat.content("good")) + len(chat.content("bad one")) + (2 if ended else 0)


def labelled(*desirable: float) -> list[Any]:
    return [
        msgspec.structs.replace(thumb(n, "train", said("a"), "b", True), desirable=x) for n, x in enumerate(desirable)
    ]


@pytest.mark.parametrize("labels", [[1] * 10 + [0] * 40, [1] * 30 + [0] * 10, [0.8] * 9 + [0.1] * 3, [1, 0]])
def test_kto_balances_wanted_and_unwanted_within_the_papers_bounds(labels: list[float]) -> None:
    wanted, unwanted = kto_balance(labelled(*labels))
    n_wanted, n_unwanted = sum(labels), len(labels) - sum(labels)
    assert 1 - 1e-9 <= wanted * n_wanted / (unwanted * n_unwanted) <= 4 / 3 + 1e-9
    assert wanted * n_wanted + unwanted * n_unwanted == pytest.approx(len(labels))


def test_a_handful_of_one_kind_is_not_raised_more_than_fourfold() -> None:
    wanted, unwanted = kto_balance(labelled(*[1] * 200, 0))
    assert unwanted == pytest.approx(4)
    assert wanted * 200 / unwanted == pytest.approx(4 / 3)


def test_labels_that_are_balanced_or_of_one_kind_keep_their_weights() -> None:
    for labels in ([1, 1, 1, 1, 0, 0, 0], [1, 1], [0, 0], []):
        assert kto_balance(labelled(*labels)) == pytest.approx((1, 1))


def test_ktos_balance_is_of_the_whole_training_and_not_of_a_batch(chat: Any, adapted: Any) -> None:
    batch = labelled(1, 0)
    plain, raised = (tensors(chat, "kto", batch, 96, True, balance) for balance in ((1.0, 1.0), (1.0, 3.0)))
    assert policy_loss(adapted, raised, 0.1, 0.0).item() > policy_loss(adapted, plain, 0.1, 0.0).item()


def test_kto_takes_its_kl_term_from_the_next_examples_reply(chat: Any, adapted: Any) -> None:
    first, second = thumb(1, "train", said("a"), "one", True), thumb(2, "train", said("b"), "two", False)
    batch = tensors(chat, "kto", [first, second], 96, share=True)
    rows = [
        (chat.prompt(said(p), 90), [chat.reply(r, 90)])
        for p, r in (("a", "one"), ("a", "two"), ("b", "two"), ("b", "one"))
    ]
    own, reference = beside_base(adapted, lambda: reply_logps(adapted, lay_out(rows, 0)).detach())
    expected = losses.kto(
        own[[0, 2]], reference[[0, 2]], own[[1, 3]], reference[[1, 3]], torch.tensor([1.0, 0.0]), torch.ones(2), 0.1
    )
    assert policy_loss(adapted, batch, 0.1, likelihood=0.0).item() == pytest.approx(float(expected), abs=1e-5)


def test_an_adapter_of_the_last_layers_says_so_and_is_loaded_as_it_was(chat: Any, tmp_path: Path) -> None:
    settings = PolicySettings(lora_rank=4, lora_layers=1)
    model = with_policy_lora(fresh_model(chat.tokenizer, TINY, 96), settings)
    move(model, 0.05)
    save_adapter(model, Base("somewhere", "tiny-0123456789ab", "r" * 64, "t" * 64, "c" * 64), settings, tmp_path)
    assert json.loads((tmp_path / CONFIG).read_bytes())["layers_to_transform"] == [TINY.layers - 1]
    base = fresh_model(chat.tokenizer, TINY, 96)
    base.load_state_dict(model.unload().state_dict())
    loaded = PeftModel.from_pretrained(base, str(tmp_path))
    adapted = [name for name, module in loaded.named_modules() if isinstance(module, LoraLayer)]
    assert {layer_of(name) for name in adapted} == {TINY.layers - 1}
    weights = load_file(tmp_path / WEIGHTS)
    assert weights.keys() == get_peft_model_state_dict(loaded).keys()
    assert all(torch.equal(weights[name], value) for name, value in get_peft_model_state_dict(loaded).items())
