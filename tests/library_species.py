"""The committed species files and quantum data, and a short range by hand so that tests do not follow the
fitted one."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from phyff.model.parameters import ShortRange, ShortRangeClass
from phyff.qm import executor
from phyff.qm.level import PHYFF_2026A
from phyff.qm.monomer import MonomerData, monomer_records
from phyff.qm.store import RecordStore
from phyff.species.molecule import Molecule
from phyff.species.parameters import SpeciesParameters

FOLDER = Path(__file__).parents[1] / "molecules"
RECORDS = FOLDER / "records"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json") if path.stem != "short_range")
SHORT_RANGE = ShortRange(
    classes={
        "*": ShortRangeClass(exchange=0.35, penetration=0.15, charge_transfer=0.1, width=1.05, points=1),
        "C3": ShortRangeClass(exchange=0.45, penetration=0.2, charge_transfer=0.12, width=0.95, points=1),
        "H": ShortRangeClass(exchange=0.5, penetration=0.25, charge_transfer=0.1, points=1),
        "Li+": ShortRangeClass(
            exchange=0.4, penetration=-0.1, charge_transfer=-0.05, transfer_width=0.7, points=1
        ),
    },
    cation_contacts={
        "*": ShortRangeClass(exchange=0.8, penetration=0.5, charge_transfer=1.1, width=0.94, points=1),
        "O": ShortRangeClass(exchange=1.2, penetration=0.3, charge_transfer=0.9, width=0.97, points=1),
    },
    multipole_contacts={"Li": {"O": (0.2, -0.1), "C": (-0.05, 0.08), "F": (0.1, 0.1)}},
    damping=2.6,
    damping_alpha={"H": 4e-4, "Li": 8e-4},
    dispersion_widths={"*": 0.8, "H": 0.7},
)


def load(name: str) -> SpeciesParameters:
    return SpeciesParameters.load(FOLDER / f"{name}.json")


def quantum_data(smiles: str) -> MonomerData:
    """The monomer records that come with the repository; a job that would have to run fails the test."""

    def no_jobs(*_: object) -> None:
        raise AssertionError(f"a committed record of {smiles} is missing")

    with TemporaryDirectory() as empty, pytest.MonkeyPatch.context() as patch:
        patch.setattr(executor, "worker_pool", no_jobs)
        return monomer_records(Molecule.from_smiles(smiles), PHYFF_2026A, RecordStore(empty, (RECORDS,)))


def random_pose(xyz: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A molecule (n, 3) turned at random about its centre, which goes to the origin."""
    return (xyz - xyz.mean(0)) @ Rotation.random(rng=rng).as_matrix().T


def at_contact(placed: np.ndarray, xyz: np.ndarray, gap: float, rng: np.random.Generator) -> np.ndarray:
    """`xyz` moved out along a random direction until its closest atom is `gap` nm from those of `placed`."""
    direction = rng.normal(size=3)
    direction /= np.linalg.norm(direction)
    for shift in np.arange(0.0, 5.0, 0.005):
        moved = xyz + placed.mean(0) + shift * direction
        if np.linalg.norm(moved[:, None] - placed[None], axis=2).min() >= gap:
            return moved
    raise ValueError("no room within 5 nm")
