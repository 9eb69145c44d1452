"""The reference pages say what the code says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from deploy.cli import COMMANDS
from deploy.cli.reference import PAGES, cli_reference, config_reference
from deploy.settings import keys
from tests.deploy.commands import ROOT


@pytest.mark.slow
def test_no_reference_page_is_stale(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-P", "-m", "deploy.cli.reference", str(tmp_path)], check=True, timeout=100)
    for name in PAGES:
        kept = (ROOT / "docs" / "reference" / name).read_text()
        assert kept == (tmp_path / name).read_text(), f"docs/reference/{name} is stale: make reference"


def test_every_setting_has_a_row_with_a_meaning_and_no_cell_breaks_the_table() -> None:
    rows = [line for line in config_reference().splitlines() if line.startswith("| `")]
    assert len(rows) == len(list(keys()))
    for row in rows:
        cells = row.strip("|").split(" | ")
        assert len(cells) == 4, row
        assert cells[3].strip() not in ("", "None"), row


def test_every_command_or_one_of_its_group_has_an_example_in_its_help() -> None:
    sections = cli_reference().split("\n## trimtab")[1:]
    exemplified = {section.split()[0] for section in sections if "Example" in section}
    assert [name for name in COMMANDS if name not in exemplified] == []
