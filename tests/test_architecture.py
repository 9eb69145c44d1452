"""The house as docs/architecture.md draws it: its picture, its rooms and its arrows are those of the tree."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("feedback", "streams", "models", "deploy")
PAGE = (ROOT / "docs" / "architecture.md").read_text()
WITHOUT_CODE = {"deploy.stack"}
"""Rooms that hold other files than Python's."""

MAX_FUNCTION, MEDIAN_FUNCTION, MAX_FILE, MEDIAN_FILE = 60, 8, 400, 130


@cache
def modules() -> dict[str, Path]:
    """Every module by its dotted name."""
    files = [file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))]
    return {".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


@cache
def imports() -> dict[str, set[str]]:
    """What each module imports of ours, wherever in the file it does so."""
    found: dict[str, set[str]] = {}
    for name, file in modules().items():
        mine: set[str] = set()
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                full = [f"{node.module}.{alias.name}" for alias in node.names]
                mine |= {one if one in modules() else node.module for one in full}
            elif isinstance(node, ast.Import):
                mine |= {alias.name for alias in node.names}
        found[name] = {one for one in mine if one in modules() and one != name}
    return found


def room_of(module: str) -> str:
    return ".".join(module.split(".")[:2])


def picture() -> dict[str, list[list[str]]]:
    """The rooms of each package as the page draws them, row by row, from the top."""
    drawn = re.search(r"<!-- rooms -->\n```text\n(.*?)```", PAGE, re.DOTALL)
    assert drawn, "docs/architecture.md draws the rooms behind <!-- rooms -->"
    rows: dict[str, list[list[str]]] = {}
    package = ""
    for line in drawn[1].splitlines():
        if line.strip():
            first, _, rest = line.partition(" ") if not line.startswith(" ") else ("", "", line)
            package = first or package
            rows.setdefault(package, []).append([name.strip() for name in rest.split("·") if name.strip()])
    return rows


def rooms() -> set[str]:
    """What lies directly in each package: folders and files."""
    found = {room_of(name) for name in modules() if "." in name and not name.startswith("models.")}
    return found | WITHOUT_CODE


def cycle(graph: dict[str, set[str]]) -> list[str] | None:
    """Modules that import each other in a circle; None where there are none."""
    state: dict[str, int] = {}

    def visit(name: str, path: list[str]) -> list[str] | None:
        state[name] = 1
        for other in sorted(graph[name]):
            if state.get(other) == 1:
                return [*path[path.index(other) if other in path else 0 :], name, other]
            if other not in state and (found := visit(other, [*path, name])):
                return found
        state[name] = 2
        return None

    return next((found for name in graph if name not in state and (found := visit(name, []))), None)


def test_no_files_import_each_other_in_a_circle() -> None:
    assert cycle(imports()) is None


def test_a_circle_would_be_found() -> None:
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": set()}) == ["a", "b", "c", "a"]


def test_the_picture_shows_every_room_and_no_other() -> None:
    drawn = [f"{package}.{room}" for package, rows in picture().items() for row in rows for room in row]
    assert sorted(drawn) == sorted(rooms())


def test_no_arrow_goes_from_a_lower_room_to_a_higher_one() -> None:
    height = {
        f"{package}.{room}": level
        for package, rows in picture().items()
        for level, row in enumerate(rows)
        for room in row
    }
    back = [
        f"{name} → {other}"
        for name, others in imports().items()
        for other in others
        if room_of(name) != room_of(other) and room_of(name).split(".")[0] == room_of(other).split(".")[0]
        if room_of(name) in height and room_of(other) in height
        if height[room_of(name)] >= height[room_of(other)]
    ]
    assert back == []


def test_no_arrow_leaves_a_package_upwards() -> None:
    below = {"feedback": set(), "streams": {"feedback"}, "models": {"feedback"}, "deploy": set(PACKAGES)}
    wrong = [
        f"{name} → {other}"
        for name, others in imports().items()
        for other in others
        if (mine := name.split(".")[0]) != (theirs := other.split(".")[0]) and theirs not in below[mine]
    ]
    assert wrong == []


def test_import_linter_holds_the_same_rows() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    held = {one["containers"][0]: one["layers"] for one in contracts if "containers" in one}
    for package, rows in picture().items():
        drawn = [sorted(set(row) - {name.split(".")[1] for name in WITHOUT_CODE}) for row in rows]
        assert [sorted(layer.split(" | ")) for layer in held[package]] == [row for row in drawn if row]


def table(title: str) -> list[list[str]]:
    """The rows of the table under a heading."""
    section = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert section, f"docs/architecture.md has a section {title!r}"
    lines = [line for line in section[1].splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def test_each_room_has_one_sentence() -> None:
    told = [(row[0].strip("`"), row[1]) for row in table("The rooms")]
    named = [name.rstrip("/").removesuffix(".py").replace("/", ".") for name, _ in told]
    assert sorted(named) == sorted({*rooms(), "models"})
    for name, sentence in told:
        assert re.fullmatch(r"[^.]+\.", sentence.replace("e.g.", "").replace(".toml", "")), f"{name}: one sentence"


def test_a_rooms_docstring_says_what_it_knows_and_must_not_know() -> None:
    for name, file in modules().items():
        if file.name == "__init__.py":
            doc = ast.get_docstring(ast.parse(file.read_text())) or ""
            assert "Knows:" in doc, name
            assert "Must not know:" in doc, name


def test_where_does_it_go_names_places_that_are_there() -> None:
    rows = table("Where does … go?")
    assert len(rows) >= 15
    for question, place in rows:
        named = re.findall(r"`([\w/.]+)`", place)
        assert named, question
        assert [path for path in named if not (ROOT / path).exists()] == [], question


def test_the_way_of_a_chat_turn_names_files_in_its_order() -> None:
    section = re.search(r"^## The way of one chat turn\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert section
    steps = re.findall(r"^\d+\. `([\w/.]+\.py)`", section[1], re.MULTILINE)
    assert len(steps) >= 8
    assert [step for step in steps if not (ROOT / step).is_file()] == []
    assert all(one != other for one, other in pairwise(steps))


def functions() -> Iterator[tuple[str, int]]:
    for name, file in modules().items():
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                yield f"{name}.{node.name}", node.end_lineno - node.lineno + 1


def test_functions_fit_in_a_glance() -> None:
    lengths = sorted(functions(), key=lambda one: one[1])
    assert lengths[-1][1] <= MAX_FUNCTION, lengths[-1]
    assert lengths[len(lengths) // 2][1] <= MEDIAN_FUNCTION


def test_files_answer_one_question() -> None:
    lengths = sorted((len(file.read_text().splitlines()), name) for name, file in modules().items())
    assert lengths[-1][0] <= MAX_FILE, lengths[-1]
    assert lengths[len(lengths) // 2][0] <= MEDIAN_FILE


def defines_functions(file: Path) -> bool:
    return any(
        isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in ast.walk(ast.parse(file.read_text()))
    )


def test_the_tests_of_a_module_are_found_where_its_name_says() -> None:
    """Modules that hold only names, records or constants need none."""
    missing = []
    for file in modules().values():
        if not file.stem.startswith("__") and defines_functions(file):
            tests = ROOT / "tests" / file.relative_to(ROOT).with_name(f"test_{file.name}")
            missing += [str(tests.relative_to(ROOT))] if not tests.is_file() else []
    assert missing == []


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_says_what_it_is(package: str) -> None:
    assert ast.get_docstring(ast.parse((ROOT / package / "__init__.py").read_text()))
