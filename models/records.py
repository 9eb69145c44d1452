"""The record that proves an adapter (see models/proof.py): in its report, or beside the candidates where it was made anew.

    candidates/<digest>/report.json     its `probes.record`, since records are made at training
    records/<digest>.json               for a candidate from before: {"sha256": of the record's canonical form, "record": …}

A record says which adapter and which base it was measured with; one that says another, or is damaged, is not used. No torch.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec

from feedback.durable import canonical, write_json
from models.adapters import Manifest
from models.errors import AdapterInvalid
from models.proof import Record, damage


def find_record(candidate: Path, manifest: Manifest) -> Record | None:
    """The record of the candidate directory `candidate`; None where one has to be made (models.probes.remake).

    Raises AdapterInvalid where the report has a record that is damaged or of something else.
    """
    report = _read(candidate / "report.json")
    probes = report.get("probes") if isinstance(report, dict) else None
    if isinstance(probes, dict) and "record" in probes:
        return _checked(probes["record"], manifest, f"the report of {manifest.digest[:16]}")
    stored = _read(_place(candidate, manifest.digest))
    try:
        whole = isinstance(stored, dict) and stored["sha256"] == _sha256(stored["record"])
        return _checked(stored["record"], manifest, "the stored record") if whole else None
    except (AdapterInvalid, KeyError, ValueError):  # damaged: it can be made again
        return None


def store_record(candidate: Path, record: Record) -> None:
    """Keep a record that was made anew for `candidate`, all of it or nothing; nothing in the candidate changes."""
    place = _place(candidate, record.digest)
    place.parent.mkdir(exist_ok=True)
    content = msgspec.to_builtins(record)
    write_json(place, {"sha256": _sha256(content), "record": content})


def _place(candidate: Path, digest: str) -> Path:
    return candidate.absolute().parent.parent / "records" / f"{digest}.json"


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def _sha256(content: Any) -> str:
    return hashlib.sha256(canonical(content)).hexdigest()


def _checked(content: Any, manifest: Manifest, where: str) -> Record:
    try:
        record = msgspec.convert(content, Record)
    except msgspec.ValidationError as error:
        raise AdapterInvalid(f"{where} has no readable record of its probes: {error}") from None
    if wrong := damage(record):
        raise AdapterInvalid(f"{where} can't prove anything: {wrong}")
    if (record.digest, record.base_name, record.base_revision) != (
        manifest.digest,
        manifest.base_name,
        manifest.base_revision,
    ):
        raise AdapterInvalid(
            f"{where} has the record of {record.digest[:16]} on {record.base_name}: it proves nothing here"
        )
    return record
