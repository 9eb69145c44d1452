"""What a base says of itself."""

from pathlib import Path
from typing import Any

import pytest

from models.context import context_of
from tests.models.test_lengths import base_of


@pytest.mark.parametrize(
    ("config", "tokenizer", "context"),
    [
        ({"max_position_embeddings": 2_048}, {"model_max_length": 512}, 512),
        ({"max_position_embeddings": 2_048}, {"model_max_length": 10**30}, 2_048),
        ({"max_position_embeddings": 2_048}, {"model_max_length": 1e30}, 2_048),
        ({"n_positions": 1_024}, {}, 1_024),
        ({"text_config": {"max_position_embeddings": 4_096}}, {}, 4_096),
        ({}, {}, None),
    ],
)
def test_a_base_says_what_it_reads(
    tmp_path: Path, config: dict[str, Any], tokenizer: dict[str, Any], context: int | None
) -> None:
    assert context_of(base_of(tmp_path, config, tokenizer)) == context
