"""How sure the neural term was along a run: the spread of its committee that phyff.md.committee logs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phyff.errors import InputError
from phyff.properties.trajectory import Run

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class CommitteeSpread:
    """Checks along all stages that count, one after the other, (n,) each. Spreads are standard deviations.

    Attributes:
        times: ps. energies: of the energy, kJ/mol per molecule. forces: the largest of a check, kJ/mol/nm.
        uncertain: of each saved frame, molecules (from 0) above the threshold and the largest spread of the
            force on an atom of each, the most uncertain first.
        threshold: kJ/mol/nm.
    """

    times: Floats
    energies: Floats
    forces: Floats
    uncertain: tuple[dict[int, float], ...]
    threshold: float

    @property
    def above(self) -> int:
        """Checks with an uncertain molecule."""
        return int((self.forces > self.threshold).sum())

    def to_json(self) -> dict[str, Any]:
        """What results.json holds of it."""
        return {
            "checks": len(self.times),
            "energy_spread_kJ_mol_per_molecule": round(float(self.energies.mean()), 4),
            "largest_force_spread_kJ_mol_nm": round(float(self.forces.max()), 2),
            "threshold_kJ_mol_nm": self.threshold,
            "checks_above_threshold": self.above,
            "saved_frames": len(self.uncertain),
        }

    def sentence(self, directory: Path) -> str:
        """What a reader must know of it; directory: of the run."""
        largest = f"{self.forces.max():.0f} kJ/mol/nm"
        if not self.above:
            return (
                f"The networks of the neural term agree: their forces on an atom differ by at most {largest} "
                f"(threshold {self.threshold:g})."
            )
        return (
            f"The neural term was uncertain: in {self.above} of {len(self.times)} checks its networks differ "
            f"by more than {self.threshold:g} kJ/mol/nm in the force on an atom, at most by {largest}. "
            f"{len(self.uncertain)} frames are saved; 'phyff improve {directory}' learns from them."
        )


def read_committee(run: Run) -> CommitteeSpread | None:
    """The spread along a run; None when it had no neural term, or no check yet."""
    said = run.settings.get("committee") or {}
    paths = [run.directory / stage["log"] for stage in said.get("stages", [])]
    return joined([read_checks(path, said["threshold_kJ_mol_nm"]) for path in paths if path.is_file()])


def read_checks(path: Path, threshold: float) -> CommitteeSpread:
    """The rows of one stage; a last one cut off by a kill is left out."""
    lines = path.read_text().splitlines(keepends=True)[1:]
    rows = [line.rstrip("\n").split(",") for line in lines if line.endswith("\n")]
    try:
        numbers = np.array([[float(x) for x in row[:3]] for row in rows]).reshape(-1, 3)
        pairs = [[one.split(":") for one in row[3].split()] for row in rows if row[3]]
        uncertain = tuple({int(residue) - 1: float(spread) for residue, spread in one} for one in pairs)
    except (ValueError, IndexError) as error:
        raise InputError(f"{path} is not what phyff run writes: {error}.") from error
    return CommitteeSpread(numbers[:, 0], numbers[:, 1], numbers[:, 2], uncertain, threshold)


def joined(parts: Sequence[CommitteeSpread]) -> CommitteeSpread | None:
    """Stages or replicas one after the other; None without any check."""
    whole: CommitteeSpread | None = None
    for part in parts:
        if not len(part.times):
            continue
        if whole is None:
            whole = part
            continue
        whole = replace(
            whole,
            times=np.concatenate([whole.times, whole.times[-1] + part.times]),
            energies=np.concatenate([whole.energies, part.energies]),
            forces=np.concatenate([whole.forces, part.forces]),
            uncertain=whole.uncertain + part.uncertain,
        )
    return whole
