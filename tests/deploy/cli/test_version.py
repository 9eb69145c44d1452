"""What runs here, in words and as JSON."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version

from tests.deploy.cli.typed import typed


def test_the_version_is_told_with_pythons_and_that_of_the_main_parts() -> None:
    found = json.loads(typed("version", "--json").out)
    assert (found["trimtab"], found["python"]) == (version("trimtab"), platform.python_version())
    assert found["deltalake"] == version("deltalake")
    assert f"trimtab {version('trimtab')}\n" in typed("version").out
