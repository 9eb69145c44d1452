"""A candidate on a terminal, whatever its report holds."""

from __future__ import annotations

import io
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from deploy.cli.candidate_view import MAX_SAMPLES, WIDTH, print_candidate
from deploy.decisions.operations import Operations
from tests.deploy.candidates import make_candidate
from tests.deploy.pairs import compared


def printed(view: dict[str, Any]) -> str:
    console = Console(file=io.StringIO(), width=4_000, highlight=False)
    print_candidate(console, view)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def view(rules: Operations, folder: Path, **report: Any) -> dict[str, Any]:
    digest = make_candidate(folder, **report)
    assert list(rules.discover()) == []
    return rules.show(digest)


def test_it_says_what_was_measured_and_what_to_type(judged_rules: Operations, folder: Path) -> None:
    out = printed(view(judged_rules, folder))
    assert "accuracy 0.80 on 50 held-out thumbs (95% 0.70–0.90;" in out
    assert "candidate  20.0 tokens a reply, repetition 0.05, in the prompt's language 0.90" in out
    assert out.splitlines()[-1].startswith("next: trimtab approve ")


def test_comparisons_are_told_side_by_side_and_left_out_where_there_are_none(
    rules: Operations, judged_rules: Operations, folder: Path
) -> None:
    assert "compared   " not in printed(view(rules, folder))
    out = printed(view(judged_rules, folder, seed=1))
    assert "compared   260 of 260 pairs count: by people 180 wins, 0 ties, 80 losses; 0 were identical\n" in out
    assert "E 3.13e+07 of 25 that people prefer it, 0.099 that they prefer the incumbent\n" in out


def test_how_far_the_judge_agrees_is_told_where_both_have_decided(rules: Operations, folder: Path) -> None:
    found = view(rules, folder)
    told = asdict(compared(3, 1)) | compared(3, 1).figures
    assert "judge" not in printed(found | {"comparisons": told})
    both = printed(found | {"comparisons": told | {"agreed": 0, "agreed_of": 4}})
    assert "of those that both decided the judge agrees with people on 0 of 4\n" in both


def test_it_tells_the_figures_of_prompts_that_train_has_seen_and_of_those_it_has_not(
    rules: Operations, folder: Path
) -> None:
    few = "3 gate labels are of prompts that train has not seen: 20 are wanted to tell anything"
    known = {"accuracy": 0.9, "interval": [0.7, 0.97], "holdout": 40, "few": None}
    quality = {"metric": "pairs", "accuracy": 0.85, "interval": [0.7, 0.9], "holdout": 43}
    quality |= {"seen": known, "unseen": {"accuracy": 0.33, "interval": [0.06, 0.79], "holdout": 3, "few": few}}
    side = {"count": 20, "mean_tokens": 21.0, "mean_interval": [18.0, 24.0]}
    stats = {"seen": {"candidate": side, "incumbent": side | {"mean_tokens": 19.5}}}
    shown = view(rules, folder, reward_model=quality, sample_stats_by_prompt=stats)
    out = printed(shown)
    assert "seen       accuracy 0.90 on 40 held-out labels (95% 0.70–0.97) whose prompts train has too; on 20 " in out
    assert "21.0 tokens a reply (95% 18.00–24.00), the incumbent 19.5 (18.00–24.00)\n" in out
    assert f"whose prompts train has not\n           • {few}\n" in out
    assert shown["report"]["reward_model"]["unseen"]["holdout"] == 3


def test_only_the_first_samples_are_printed_and_the_rest_is_counted(rules: Operations, folder: Path) -> None:
    samples = [
        {"prompt": f"question {n}.", "candidate": "long " * WIDTH, "incumbent": None} for n in range(MAX_SAMPLES + 3)
    ]
    out = printed(view(rules, folder, samples=samples))
    assert f"question {MAX_SAMPLES - 1}." in out
    assert f"question {MAX_SAMPLES}." not in out
    assert "…" in out
    assert "3 more with --json" in out


def test_it_says_how_much_was_cut_and_what_could_not_be_learned(rules: Operations, folder: Path) -> None:
    cuts = {"examples": 60, "whole": 20, "history_cut": 0, "system_cut": 30, "replies_cut": 40, "pairs_dropped": 36}
    lengths = {"max_length": 128, "cuts": {"train": cuts}, "not_learned": ["36 of 36 pairs: they are the same"]}
    out = printed(view(rules, folder, lengths=lengths))
    assert "length     128 tokens: 20 of 60 train examples whole, 30 with a system message cut, 40 with a reply" in out
    assert "36 pairs dropped\n           • nothing learned from 36 of 36 pairs: they are the same\n" in out


def test_it_says_what_was_kept_of_the_base_and_what_the_limit_hides(rules: Operations, folder: Path) -> None:
    facts = {"said": "the base answers 12 rightly", "base_right": 12, "lost": [], "gained": []}
    kept = {"gate_kl": 0.513, "neutral_kl": 0.04, "facts": facts}
    stats = {"mean_tokens": 31.0, "median_tokens": 30.0, "repetition": 0.05, "language_match": 0.9, "count": 32}
    sides = {"candidate": stats | {"cut": 5}, "incumbent": stats | {"cut": 0}}
    out = printed(view(rules, folder, retention=kept,
                       sample_stats=sides, unlearned=["all 9 unpaired labels are of wanted replies"]))  # fmt: skip
    assert (
        "retention  0.51 nats a token from the base on gate prompts, 0.04 on neutral questions; the base answers" in out
    )
    assert "candidate  at least 31.0 tokens a reply (5 of 32 were cut), repetition 0.05" in out
    assert "incumbent  31.0 tokens a reply, repetition 0.05" in out
    assert "           • all 9 unpaired labels are of wanted replies\n" in out


@pytest.mark.parametrize(
    "report",
    [
        {"lengths": {"max_length": 1, "cuts": {"train": {"examples": 1, "whole": None}}, "not_learned": 7}},
        {"lengths": {"max_length": 1, "cuts": {"train": []}}},
        {"reward_model": {"interval": [None, "x"]}, "sample_stats": {"candidate": 7}},
        {"reward_model": [], "sample_stats": "none", "samples": {}},
        {"unlearned": 7, "sample_stats": {"candidate": {"cut": "x"}, "incumbent": {}}},
        {"retention": [], "unlearned": [None]},
        {"samples": [1, {}, {"prompt": [], "candidate": 7}, {"prompt": [{"content": None}]}]},
    ],
)
def test_a_report_that_is_not_as_it_should_be_is_still_shown(
    rules: Operations, folder: Path, report: dict[str, Any]
) -> None:
    assert "next: " in printed(view(rules, folder, **report))


def test_a_report_that_is_gone_is_said_to_be(rules: Operations, folder: Path) -> None:
    shown = view(rules, folder)
    assert "its report.json is gone" in printed(shown | {"report": None})
    assert "none yet" in printed(shown | {"gate": None})
