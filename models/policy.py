"""The policy update: a fresh LoRA on the base, from demonstrations (SFT), pairs (DPO) and unpaired labels (KTO).

Each batch holds one kind. The reference is the base itself, the adapter switched off. What the snapshot holds decides
which kinds there are. Every loss keeps a likelihood term on the wanted reply: without it DPO collapses while its own
accuracy still rises.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from msgspec import Struct
from peft import TaskType, get_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor

from feedback.durable import canonical, staged
from feedback.records import Demonstration, PreferencePair, UnpairedLabel
from feedback.texts import is_blank
from models import losses
from models.adapters import CONFIG, WEIGHTS, adapter_config
from models.bases import Base
from models.batches import Row, can_share, lay_out, plan_batches, reply_logps
from models.best_of import SampledPair
from models.chat import Chat
from models.errors import JobFailed
from models.lengths import encode
from models.loading import load_causal, pad_id, training_dtype
from models.loop import Report, train
from models.lora import adapted_layers, with_lora
from models.prefix import beside_base
from models.settings import PolicySettings
from models.snapshot import SnapshotData

Kind = Literal["sft", "dpo", "kto"]
Example = Demonstration | PreferencePair | UnpairedLabel

_MOST_WANTED = 4 / 3  # of KTO's wanted to its unwanted
_MOST_RAISED = 4.0


class Method(Struct, frozen=True):
    """How many examples of each kind a policy was trained on."""

    sft: int
    dpo: int
    kto: int
    reward_model_pairs: int


def choose_examples(data: SnapshotData, extra: Sequence[PreferencePair], most: int) -> dict[Kind, list[Example]]:
    """The train split's examples by kind, at most `most` together, the newest first; `extra` are pairs to add."""
    kinds: dict[Kind, Sequence[Example]] = {
        "sft": data.demonstrations,
        "dpo": [*data.pairs, *extra],
        "kto": data.labels,
    }
    eligible = [
        (kind, x) for kind, rows in kinds.items() for x in rows if x.split == "train" and x.weight > 0 and _written(x)
    ]
    eligible.sort(key=lambda pair: (-pair[1].provenance.at_us, pair[1].id))
    chosen: dict[Kind, list[Example]] = {kind: [x for k, x in eligible[:most] if k == kind] for kind in kinds}
    if len(chosen["kto"]) == 1:  # no mismatched reply to estimate KTO's KL term from
        chosen["kto"] = []
    return chosen


def train_policy(
    base: Base, chat: Chat, examples: dict[Kind, list[Example]], settings: PolicySettings, max_length: int,
    work: Path, report: Report,
) -> Path:  # fmt: skip
    """Train the adapter and keep it in `work`/adapter, in peft's format; the path is returned."""
    kept = work / "adapter"
    if not kept.exists():
        if not any(examples.values()):
            raise JobFailed("the snapshot's train split has nothing to learn from: collect ratings or verdicts first")
        model = with_policy_lora(load_causal(base.path, training_dtype(base.path)), settings)
        plan = plan_policy(chat, examples, settings, max_length)
        share, balance = can_share(model), kto_balance(examples["kto"])

        def collate(batch: tuple[Kind, list[Example]]) -> dict[str, Any]:
            return tensors(chat, *batch, max_length, share, balance)

        def loss(model: Any, batch: dict[str, Any]) -> Tensor:
            return policy_loss(model, batch, settings.beta, settings.likelihood)

        train(
            model, plan, collate, loss, work / "checkpoints",
            learning_rate=settings.rate(base.tiny), seed=settings.seed, report=report,
        )  # fmt: skip
        with staged(work) as fresh:
            save_adapter(model, base, settings, fresh.path)
            fresh.publish(kept.name)
    return kept


def with_policy_lora(model: Any, settings: PolicySettings) -> Any:
    """The base with a fresh LoRA."""
    return with_lora(model, TaskType.CAUSAL_LM, settings.lora_rank, settings.lora_layers, settings.seed)


def kto_balance(labels: Sequence[Example]) -> tuple[float, float]:
    """KTO's weights of wanted and of unwanted, by how many labels of each there are; soft labels count in part.

    Their weighted sums stand as 1 to 1 up to 4 to 3 (Ethayarajh et al. 2024, arXiv 2402.01306, below eq. 8), and together
    weigh what they did before; but no kind is raised more than fourfold, so that a handful does not take over a training.
    (1, 1) where there is one kind only: nothing balances that (models.unlearned says so).
    """
    shares = [(x.weight, x.desirable) for x in labels if isinstance(x, UnpairedLabel)]
    wanted, unwanted = sum(w * d for w, d in shares), sum(w * (1 - d) for w, d in shares)
    if not (wanted > 0 and unwanted > 0):
        return 1.0, 1.0
    ratio = min(max(wanted / unwanted, 1.0), _MOST_WANTED)
    each = (wanted + unwanted) / (1 + ratio)  # what the unwanted weigh together
    raised = max(ratio * each / wanted, each / unwanted, 1.0)
    each *= min(raised, _MOST_RAISED) / raised
    return ratio * each / wanted, each / unwanted


def plan_policy(
    chat: Chat, examples: dict[Kind, list[Example]], settings: PolicySettings, max_length: int
) -> list[tuple[Kind, list[Example]]]:
    """Every batch of the training, in order: one kind each, the kinds mixed."""
    chosen = random.Random(settings.seed)  # noqa: S311 - reproducible, not secret
    plan: list[tuple[Kind, list[Example]]] = []
    for epoch in range(settings.epochs):
        batches: list[tuple[Kind, list[Example]]] = []
        for kind, rows in examples.items():
            lengths = [len(chat.prompt(x.prompt, max_length)) for x in rows]
            for batch in plan_batches(lengths, settings.batch_size, settings.seed + epoch):
                if kind == "kto" and len(batch) == 1:
                    batch = [*batch, (batch[0] + 1) % len(rows)]  # the KL term needs a second reply
                batches.append((kind, [rows[n] for n in batch]))
        chosen.shuffle(batches)
        plan += batches
    return plan


def tensors(
    chat: Chat,
    kind: Kind,
    batch: Sequence[Example],
    max_length: int,
    share: bool,
    balance: tuple[float, float] = (1.0, 1.0),
) -> dict[str, Any]:
    """The batch as tensors: `replies` (see models.batches), `weights`, the soft labels in `target`; and KTO's `balance`.

    DPO's rows have two replies, chosen and rejected. So have KTO's: a prompt's own, and the next example's reply.
    """
    rows: list[Row]
    if kind == "sft":
        rows = [encode(chat, x.prompt, [x.reply], max_length) for x in batch if isinstance(x, Demonstration)]
        target = [1.0] * len(rows)
    elif kind == "dpo":
        pairs = [x for x in batch if isinstance(x, PreferencePair)]
        rows = [_pair_row(chat, x, max_length) for x in pairs]
        target = [x.preference for x in pairs]
    else:
        labels = [x for x in batch if isinstance(x, UnpairedLabel)]
        others = [*labels[1:], labels[0]]
        rows = [
            _ended(chat, encode(chat, x.prompt, [x.reply, y.reply], max_length), x.ended, y.ended)
            for x, y in zip(labels, others, strict=True)
        ]
        target = [x.desirable for x in labels]
    return {
        "kind": kind,
        "replies": lay_out(rows, pad_id(chat), share),
        "target": torch.tensor(target),
        "weights": torch.tensor([x.weight for x in batch], dtype=torch.float32),
        "balance": balance,
    }


def policy_loss(model: Any, batch: dict[str, Any], beta: float, likelihood: float) -> Tensor:
    """The loss of one batch, a scalar: SFT, or DPO or KTO with the likelihood term on what is wanted."""
    replies, weights, target = batch["replies"], batch["weights"], batch["target"]
    if batch["kind"] == "sft":
        return losses.sft(reply_logps(model, replies), replies["lengths"], weights)
    ours, reference = beside_base(model, lambda: reply_logps(model, replies))
    a, b = ours.unflatten(0, (-1, 2)).unbind(1)
    reference_a, reference_b = reference.unflatten(0, (-1, 2)).unbind(1)
    lengths = replies["lengths"].unflatten(0, (-1, 2))[:, 0]
    if batch["kind"] == "dpo":
        loss = losses.dpo(a, b, reference_a, reference_b, target, weights, beta)
    else:
        loss = losses.kto(a, reference_a, b, reference_b, target, weights, beta, *batch["balance"])
    wanted = weights * (2 * target - 1).clamp(min=0)  # what is as likely unwanted as wanted is not to be imitated
    return loss + likelihood * losses.sft(a, lengths, wanted)


def save_adapter(model: Any, base: Base, settings: PolicySettings, path: Path) -> None:
    """Write the adapter in peft's format; the same weights give the same bytes."""
    state = get_peft_model_state_dict(model)
    tensors = {name: value.detach().float().cpu().contiguous() for name, value in state.items()}
    save_file(tensors, path / WEIGHTS, metadata={"format": "pt"})
    # of an adapted layer every linear one was, so the last part of its name says enough (and is what engines expect)
    modules = list({name.rsplit(".", 1)[-1] for name in model.peft_config["default"].target_modules})
    layers = adapted_layers(model.config.num_hidden_layers, settings.lora_layers)
    config = adapter_config(base, settings.lora_rank, 2 * settings.lora_rank, modules, layers)
    (path / CONFIG).write_bytes(canonical(config))


def _pair_row(chat: Chat, pair: PreferencePair, max_length: int) -> Row:
    row = encode(chat, pair.prompt, [pair.chosen, pair.rejected], max_length)
    whole = not isinstance(pair, SampledPair) or pair.ended
    return _ended(chat, row, whole, whole and pair.rejected_ended)


def _ended(chat: Chat, row: Row, *ended: bool) -> Row:
    """The row; of replies that have not ended, without their ends."""
    prompt, replies = row
    return prompt, [ids if whole else chat.without_end(ids) for ids, whole in zip(replies, ended, strict=True)]


def _written(example: Example) -> bool:
    replies = [example.chosen, example.rejected] if isinstance(example, PreferencePair) else [example.reply]
    return not any(map(is_blank, replies))
