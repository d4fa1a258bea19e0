"""How far the networks of the neural term differ along a run, and the frames worth a quantum calculation.

Where the members of the committee, which saw different shares of the data, disagree about a force, they were
not trained (query by committee; Zhang et al. 2019, doi 10.1103/PhysRevMaterials.3.023804).
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from phyff.md.protocol import CommitteeCheck, Settings, Stage
from phyff.md.reporters import RowLog, Trajectory

COLUMNS = "time_ps,energy_spread_kJ_mol,force_spread_kJ_mol_nm,uncertain"
"""Standard deviations over the committee: of the energy, per molecule, and the largest of the force on an
atom. `uncertain` is empty unless the frame was saved: then residue:spread of each molecule above the
threshold, the most uncertain first."""

Floats = NDArray[np.float64]


class CommitteeLog:
    """Rows of one stage (COLUMNS) and the frames saved, the k-th one of the k-th row that names molecules.

    Opened at a step, both files are cut to it. Of each of `check.frames` equal parts of the stage the first
    frame with an uncertain molecule is saved.
    """

    def __init__(
        self,
        run_dir: Path,
        stage: Stage,
        settings: Settings,
        check: CommitteeCheck,
        step: int,
        molecule: NDArray[np.int_],
        spread: Callable[[Floats, Floats], tuple[float, Floats]],
    ) -> None:
        """molecule: owner of each real atom, from 0; spread: see `ForceFieldLike.committee`."""
        self.every = settings.interval(check.interval_ps, stage)
        self._timestep_ps, self._threshold = stage.timestep_fs / 1000.0, check.threshold
        self._part = max(1, -(-(stage.steps // self.every) // check.frames))
        self._molecule, self._spread = molecule, spread
        log, frames = (run_dir / name for name in committee_files(stage))
        rows = step // self.every
        self._rows = RowLog(log, COLUMNS, rows)
        kept = log.read_text().splitlines()[1:]
        saved = [number for number, row in enumerate(kept) if not row.endswith(",")]
        self._covered = saved[-1] // self._part if saved else -1
        self._frames = Trajectory(frames, len(molecule), stage.timestep_fs, self.every, len(saved))

    def check(self, step: int, xyz: Floats, edge_nm: float) -> None:
        """Write the row of this step, and the frame if it is to be saved: real atoms (n_atoms, 3) in a cube,
        nm."""
        energy, forces = self._spread(xyz, edge_nm * np.eye(3))
        worst = np.zeros(int(self._molecule[-1]) + 1)
        np.maximum.at(worst, self._molecule, forces)
        uncertain = [k for k in np.argsort(-worst) if worst[k] > self._threshold]
        part, told = (step // self.every - 1) // self._part, ""
        if uncertain and part > self._covered:
            self._covered = part
            self._frames.write(xyz, edge_nm)
            told = " ".join(f"{k + 1}:{worst[k]:.1f}" for k in uncertain)
        time = step * self._timestep_ps
        self._rows.append(f"{time:.4f},{energy / len(worst):.5g},{worst.max():.5g},{told}")

    def sync(self) -> None:
        """Force rows and frames to disk."""
        self._frames.sync()
        self._rows.sync()

    def close(self) -> None:
        """Close the files."""
        self._frames.close()
        self._rows.close()


def committee_files(stage: Stage) -> tuple[str, str]:
    """Names of the rows and of the saved frames of a stage."""
    name = Path(stage.log).stem
    return f"{name}-spread.csv", f"{name}-uncertain.dcd"
