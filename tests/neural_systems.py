"""Small liquids and clusters with nothing but a neural term between their atoms."""

import library_species
import numpy as np
import openmm
import pytest
import torch
from library_species import SHORT_RANGE, at_contact, random_pose
from neural_terms import untrained

from phyff.model.neural import NeuralTerm
from phyff.openmm.drude import Placed
from phyff.openmm.forcefield import ForceField
from phyff.openmm.neural import neural_force

SPECIES = tuple(library_species.load(name) for name in ("EC", "Li+"))
TERM = untrained("angular")
FORCE_FIELD = ForceField(SPECIES, SHORT_RANGE, TERM)
CUBE = np.diag([1.8, 1.8, 1.8])
TRICLINIC = np.array([[1.8, 0.0, 0.0], [0.6, 1.75, 0.0], [-0.5, 0.8, 1.7]])
SMALL = np.array([[1.101, 0.0, 0.0], [0.3, 1.12, 0.0], [-0.2, 0.4, 1.105]])
TOLERANCE = 1e-5
"""Relative; the kernels are in single precision, what they are compared with in double."""
LEAST = 2e-5
"""kJ/mol; what is left of single precision where atoms cancel."""
BOXES = {"cube": (CUBE, 3), "triclinic": (TRICLINIC, 3), "barely twice the cut-off": (SMALL, 2)}


def liquid(box: np.ndarray, cells: int) -> tuple[list[str], list[np.ndarray]]:
    """EC and one lithium ion on a grid, scattered over periodic images."""
    rng = np.random.default_rng(3)
    places = (np.stack(np.meshgrid(*[np.arange(cells)] * 3), axis=-1).reshape(-1, 3) + 0.5) / cells @ box
    places = places + rng.integers(-1, 2, size=places.shape) @ box
    xyz = [random_pose(SPECIES[0].xyz, rng) + place for place in places[:-1]]
    return ["EC"] * (len(places) - 1) + ["Li+"], [*xyz, places[-1:]]


def neural_system(
    term: NeuralTerm, names: list[str], box: np.ndarray | None, precision: torch.dtype
) -> openmm.System:
    """Nothing but the atoms and the neural force."""
    system, placed = openmm.System(), []
    for name in names:
        tensors = FORCE_FIELD.tensors[name]
        first = system.getNumParticles()
        for _ in tensors.elements:
            system.addParticle(16.0)
        placed.append(Placed(tensors, range(first, system.getNumParticles()), (), ()))
    if box is not None:
        system.setDefaultPeriodicBoxVectors(*box)
    system.addForce(neural_force(term, placed, box is not None, precision))
    return system


def context_of(system: openmm.System, platform: str = "Reference", threads: str = "1") -> openmm.Context:
    """A Context; only the CPU platform has threads."""
    engine = openmm.Platform.getPlatformByName(platform)
    properties = {"Threads": threads} if platform == "CPU" else {}
    return openmm.Context(system, openmm.VerletIntegrator(1e-3), engine, properties)


def found_in(context: openmm.Context, xyz: np.ndarray, box: np.ndarray | None) -> tuple[float, np.ndarray]:
    """Energy and forces of atoms at xyz (A, 3) nm."""
    if box is not None:
        context.setPeriodicBoxVectors(*box)
    context.setPositions(xyz)
    state = context.getState(energy=True, forces=True)
    return state.getPotentialEnergy()._value, state.getForces(asNumpy=True)._value


def cluster() -> tuple[list[str], np.ndarray]:
    """Three EC around a lithium ion, in contact with one another, far from the origin."""
    rng = np.random.default_rng(5)
    xyz = [np.zeros((1, 3))]
    for _ in range(3):
        around = random_pose(SPECIES[0].xyz, rng)
        xyz.append(at_contact(np.vstack(xyz), around, 0.22, rng))
    return ["Li+", "EC", "EC", "EC"], np.vstack(xyz) + 7.0


class BesideTorch:
    """A Context of a native term, and one of the same System by torch in double precision."""

    def __init__(
        self, native: openmm.Context, names: list[str], box: np.ndarray | None, term: NeuralTerm
    ) -> None:
        self.native, self.box = native, box
        self.torch = context_of(neural_system(term, names, box, torch.float64))

    def assert_same(
        self, xyz: np.ndarray, box: np.ndarray | None = None, tolerance: float = TOLERANCE
    ) -> tuple[float, np.ndarray]:
        """Returns the native energy and forces."""
        box = self.box if box is None else box
        found, expected = found_in(self.native, xyz, box), found_in(self.torch, xyz, box)
        assert expected[0] != 0.0
        assert found[0] == pytest.approx(expected[0], rel=tolerance, abs=LEAST)
        np.testing.assert_allclose(found[1], expected[1], atol=tolerance * np.abs(expected[1]).max())
        return found
