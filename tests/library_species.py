"""The committed species files and quantum data, and a short range by hand so that tests do not follow the
fitted one."""

from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from phyff.model.charge_flow import flow_triples
from phyff.model.parameters import ShortRange, ShortRangeClass
from phyff.qm import executor
from phyff.qm.level import PHYFF_2026A
from phyff.qm.monomer import MonomerData, monomer_records
from phyff.qm.store import RecordStore
from phyff.species.molecule import Molecule
from phyff.species.parameters import ChargeFlow, SpeciesParameters, library_species

FOLDER = Path(__file__).parents[1] / "molecules"
RECORDS = FOLDER / "records"
NAMES = sorted(library_species(FOLDER))
SHORT_RANGE = ShortRange(
    classes={
        "*": ShortRangeClass(exchange=0.35, penetration=0.15, charge_transfer=0.1, width=1.05, points=1),
        "C3": ShortRangeClass(exchange=0.45, penetration=0.2, charge_transfer=0.12, width=0.95, points=1),
        "H": ShortRangeClass(exchange=0.5, penetration=0.25, charge_transfer=0.1, points=1),
        "Li+": ShortRangeClass(
            exchange=0.8, penetration=0.05, charge_transfer=-0.02, width=0.9, transfer_width=0.4, points=1
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

STRAIGHT = 3.0
"""rad; no charge flows with the bend of wider angles."""


def load(name: str) -> SpeciesParameters:
    return SpeciesParameters.load(FOLDER / f"{name}.json")


def with_random_flows(species: SpeciesParameters, rng: np.random.Generator) -> SpeciesParameters:
    """With charge that flows along all bonds of more than two atoms and knows all that it may know, a little
    of it at the lowest minimum."""
    molecule, xyz = species.molecule, species.xyz
    shapes = defaultdict(list)
    for apart, triple in flow_triples(molecule, far=True):
        i, j, k = triple
        near, far = xyz[i] - xyz[j], xyz[k] - xyz[j]
        one, other = np.linalg.norm(near), np.linalg.norm(far)
        angle = np.arccos(np.clip(near @ far / (one * other), -1.0, 1.0))
        key = apart, tuple(molecule.symmetry_classes[atom] for atom in triple)
        shapes[key].append((one, other, angle, 1 / np.linalg.norm(near - far)))
    flows = []
    for (apart, classes), found in shapes.items():
        slopes = rng.normal(scale=(1.0, 1.0, 0.3, 0.05))
        if np.max(found, axis=0)[2] > STRAIGHT:
            slopes[2] = 0.0
        gone = rng.normal(scale=0.05)
        named = dict(zip(("bond", "next_bond", "bend", "through"), slopes, strict=True))
        at_rest = np.mean(found, axis=0) @ slopes - gone
        flows.append(ChargeFlow(classes=classes, apart=apart, at_rest=at_rest, **named))
    return species.model_copy(update={"charge_flow": tuple(flows)})


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
