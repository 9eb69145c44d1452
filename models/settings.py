"""Settings of what is learned. No torch here: settings parse before torch is imported."""

from __future__ import annotations

from pydantic import Field

from feedback.settings import Section

TINY_LENGTH = 256
"""Tokens that a `tiny` base reads at least, where no setting says otherwise."""
_TINY_RATE = 1e-3  # of a LoRA on two million parameters; a pretrained base loses at it what it knows
_LORA_LAYERS = (
    "Adapt so many of the base's last layers. Without it all; with a third of them a step takes less than half the time and "
    "memory, and less can be learned."
)


class BaseModelSettings(Section):
    """The model that is adapted and served."""

    name: str = Field(
        "tiny",
        description="`tiny` (a small model trained here, for machines without a network), `smollm2` (SmolLM2-135M-Instruct, "
        "Apache-2.0, 93 MB from the Python registry), a local directory, or a Hugging Face name.",
    )
    revision: str | None = Field(None, description="Revision of a Hugging Face model.")
    max_length: int | None = Field(
        None,
        gt=32,
        description="Most tokens of prompt and reply together in a training. Without it the length that leaves 95 of 100 "
        "examples whole, from 256 to 1,024 and no more than the base reads. A longer one takes more memory.",
    )


class TinySettings(Section):
    """The `tiny` base: a Llama-style model with its own byte-level BPE tokenizer, trained on the train split."""

    vocabulary: int = Field(1_500, ge=300, description="Tokens of its tokenizer.")
    layers: int = Field(4, gt=0, description="Transformer layers.")
    width: int = Field(192, gt=0, description="Hidden size.")
    steps: int = Field(450, gt=0, description="Training steps.")
    batch_tokens: int = Field(
        1_500, gt=0, description="Most tokens of one batch, so that a step costs the same on any data."
    )
    learning_rate: float = Field(2e-3, gt=0, description="Peak learning rate.")


class RewardSettings(Section):
    """The reward model."""

    lora_rank: int = Field(16, gt=0, description="Rank of its LoRA adapter.")
    lora_layers: int | None = Field(None, gt=0, description=_LORA_LAYERS)
    learning_rate: float | None = Field(
        None, gt=0, description="Peak learning rate. Without it by the base: 1e-3 for `tiny`, 3e-4 for others."
    )
    epochs: int = Field(2, gt=0, description="Passes over its labels.")
    batch_size: int = Field(16, gt=0, description="Labels in one step.")
    max_labels: int = Field(4_000, gt=0, description="Most labels of one training run, the newest first.")

    def rate(self, tiny: bool) -> float:
        """The peak learning rate on a `tiny` base, or on a pretrained one."""
        return self.learning_rate or (_TINY_RATE if tiny else 3e-4)


class PolicySettings(Section):
    """The policy update."""

    lora_rank: int = Field(16, gt=0, description="Rank of the LoRA adapter.")
    lora_layers: int | None = Field(None, gt=0, description=_LORA_LAYERS)
    learning_rate: float | None = Field(
        None, gt=0, description="Peak learning rate. Without it by the base: 1e-3 for `tiny`, 2e-4 for others."
    )
    epochs: int = Field(2, gt=0, description="Passes over the data.")
    batch_size: int = Field(16, gt=1, description="Examples in one step (KTO's KL term needs more than one).")
    beta: float = Field(0.1, gt=0, description="Strength of the pull towards the reference policy, for DPO and KTO.")
    likelihood: float = Field(
        1.0, ge=0, description="Weight of the likelihood term on the chosen reply; without it DPO collapses."
    )
    max_examples: int = Field(4_000, gt=0, description="Most examples of one training run, the newest first.")
    best_of: int = Field(
        4, ge=0, description="Samples per prompt among which the reward model chooses best and worst (0: none)."
    )
    best_of_prompts: int = Field(128, ge=0, description="Train prompts that are sampled for that.")
    best_of_weight: float = Field(
        0.3,
        ge=0,
        le=1,
        description="Weight of a pair that the reward model chose; together at most half the weight of all other labels.",
    )
    sample_tokens: int | None = Field(
        None,
        gt=0,
        description="Most tokens of one sampled reply. Without it by the base: 48 for `tiny`, 160 for others.",
    )
    seed: int = Field(0, description="Seed of every random choice in training.")

    def rate(self, tiny: bool) -> float:
        """The peak learning rate on a `tiny` base, or on a pretrained one."""
        return self.learning_rate or (_TINY_RATE if tiny else 2e-4)

    def reply_tokens(self, tiny: bool) -> int:
        """Most tokens of one sampled reply of a `tiny` base, or of a pretrained one."""
        return self.sample_tokens or (48 if tiny else 160)
