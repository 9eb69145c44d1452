"""SmolLM2 as a training would have it; kept in .make/real, so that it is fetched and converted once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from models.bases import Base
from models.errors import JobFailed
from models.smollm2 import install_smollm2

STATE = Path(__file__).parents[2] / ".make" / "real"


@pytest.fixture(scope="session")
def smollm2() -> Base:
    try:
        return install_smollm2(STATE, lambda *_: None)
    except JobFailed as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
