"""Content-addressed store of quantum records: one small JSON file a job, found by the hash of what was asked.

A record is written to a temporary file and renamed, and carries a checksum of itself, so a killed run leaves
whole records or none, and a damaged file is noticed, reported and computed again.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from phyff.errors import StoreError

GEOMETRY_DECIMALS = 6
"""Coordinates (bohr) are rounded to this many decimals before they are hashed."""


class RecordStore:
    """Records under one writable root, backed by read-only roots that are looked up first.

    Args:
        root: writable folder; default the environment variable PHYFF_STORE, else ~/.cache/phyff/records.
        read_only: folders with records that are only read (those committed with the package, for example).
    """

    def __init__(self, root: str | Path | None = None, read_only: Sequence[str | Path] = ()) -> None:
        self.root = Path(root) if root is not None else default_root()
        self.read_only = tuple(Path(folder) for folder in read_only)

    def get(self, kind: str, spec: dict[str, Any]) -> dict[str, Any] | None:
        """The record of a job, or None if there is none (a damaged file warns and counts as none)."""
        key = record_key(kind, spec)
        for folder in (*self.read_only, self.root):
            path = folder / kind / f"{key}.json"
            if not path.is_file():
                continue
            try:
                record: dict[str, Any] = read_record(path)["record"]
                return record
            except StoreError as error:
                warnings.warn(f"{error} It will be computed again.", stacklevel=2)
        return None

    def put(self, kind: str, spec: dict[str, Any], record: dict[str, Any]) -> Path:
        """Write the record of a job; returns its path."""
        key = record_key(kind, spec)
        path = self.root / kind / f"{key}.json"
        spec, record = canonical(spec), canonical(record)
        content = {"kind": kind, "key": key, "spec": spec, "record": record, "checksum": _checksum(record)}
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{key}.", suffix=".tmp")
        try:
            with os.fdopen(handle, "w") as file:
                file.write(_dump(content) + "\n")
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        return path


def default_root() -> Path:
    """PHYFF_STORE, or the user's cache folder."""
    return Path(os.environ.get("PHYFF_STORE") or Path.home() / ".cache" / "phyff" / "records")


def committed_roots() -> tuple[Path, ...]:
    """Folders of records that come with this copy of PhyFF (molecules/records of the repository)."""
    folder = Path(__file__).resolve().parents[2] / "molecules" / "records"
    return (folder,) if folder.is_dir() else ()


def open_store(root: str | Path | None = None) -> RecordStore:
    """The usual store: committed records first, then the writable root."""
    return RecordStore(root, committed_roots())


def record_key(kind: str, spec: dict[str, Any]) -> str:
    """Hash (40 hex digits of sha256) of the canonical JSON of a job's kind and specification."""
    return hashlib.sha256(_dump({"kind": kind, "spec": canonical(spec)}).encode()).hexdigest()[:40]


def read_record(path: Path) -> dict[str, Any]:
    """The whole content of a record file: kind, key, spec, record, checksum.

    Raises:
        StoreError: the file is not JSON, lacks a field, or does not match its checksum.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        intact = content["checksum"] == _checksum(content["record"]) and content["key"] == path.stem
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise StoreError(f"Quantum record {path} is half-written or not a record; delete it.") from error
    if not intact:
        raise StoreError(f"Quantum record {path} does not match its checksum; delete it.")
    return content


def canonical(value: Any) -> Any:
    """Plain JSON types with arrays as lists; -0.0 becomes 0.0 so that equal geometries hash alike."""
    if isinstance(value, dict):
        return {str(key): canonical(value[key]) for key in sorted(value)}
    if isinstance(value, np.ndarray):
        return canonical(value.tolist())
    if isinstance(value, list | tuple):
        return [canonical(item) for item in value]
    if isinstance(value, float | np.floating):
        if not np.isfinite(value):
            raise StoreError("A quantum record holds a number that is not finite; the calculation failed.")
        return float(value) + 0.0
    if isinstance(value, np.integer):
        return int(value)
    return value


def rounded_geometry(xyz_bohr: Any) -> list[list[float]]:
    """(N, 3) coordinates as they enter a job's specification."""
    rounded: list[list[float]] = canonical(np.round(np.asarray(xyz_bohr, dtype=float), GEOMETRY_DECIMALS))
    return rounded


def _checksum(record: Any) -> str:
    return hashlib.sha256(_dump(record).encode()).hexdigest()[:16]


def _dump(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
