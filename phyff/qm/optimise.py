"""Minimum of an expensive energy surface, by geomeTRIC in delocalised internal coordinates (Wang and Song
2016, doi 10.1063/1.4952956): soft torsions settle in tens of gradients. Atomic units.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from geometric.engine import Engine
from geometric.errors import Error as GeometricError
from geometric.internal import DelocalizedInternalCoordinates
from geometric.molecule import Molecule as GeometricMolecule
from geometric.optimize import Optimizer, OptParams

from phyff.errors import PhyffError
from phyff.units import BOHR_ANGSTROM

GRADIENT_TOLERANCE = 4.5e-4
"""Largest gradient of an atom, hartree/bohr; half of it for the root mean square. The energy jitters by 2e-6
(grid, single precision): with 3e-4 one minimum of TFSI- shrank its steps to nothing at 2.8e-4 a component."""
STEP_TOLERANCE = 1.0e-2
"""Largest move of an atom in the last step, angstrom; half of it for the root mean square."""
ENERGY_TOLERANCE = 5.0e-6
"""Change of the energy in the last step, hartree."""

Surface = Callable[[np.ndarray], tuple[float, np.ndarray]]


class OptimisationError(PhyffError):
    """A geometry does not settle."""


@dataclass(frozen=True)
class Minimum:
    """A stationary point: positions (N, 3), energy (hartree), gradient (N, 3), number of gradients
    computed.
    """

    xyz: np.ndarray
    energy: float
    gradient: np.ndarray
    evaluations: int


def minimise(
    surface: Surface, start: np.ndarray, elements: Sequence[str], max_evaluations: int = 100
) -> Minimum:
    """Downhill on `surface` ((N, 3) bohr -> hartree, hartree/bohr) from `start` of one connected molecule.

    Raises:
        OptimisationError: not settled after `max_evaluations`.
    """
    logging.getLogger("geometric").setLevel(logging.ERROR)
    molecule = GeometricMolecule()
    molecule.elem, molecule.xyzs = list(elements), [start * BOHR_ANGSTROM]
    engine = _Surface(molecule, surface)
    coordinates = DelocalizedInternalCoordinates(molecule, build=True, connect=False, addcart=False)
    criteria = OptParams(
        maxiter=max_evaluations,
        convergence_energy=ENERGY_TOLERANCE,
        convergence_grms=0.5 * GRADIENT_TOLERANCE,
        convergence_gmax=GRADIENT_TOLERANCE,
        convergence_drms=0.5 * STEP_TOLERANCE,
        convergence_dmax=STEP_TOLERANCE,
    )
    with tempfile.TemporaryDirectory(prefix="phyff-") as folder:
        search = Optimizer(start.ravel(), molecule, coordinates, engine, folder, criteria, print_info=False)
        try:
            search.optimizeGeometry()
        except GeometricError as error:
            raise OptimisationError(
                f"Geometry not settled after {engine.evaluations} gradients "
                f"(largest {np.abs(engine.gradient).max():.1e} hartree/bohr)."
            ) from error
    return Minimum(search.X.reshape(-1, 3), float(search.E), search.gradx.reshape(-1, 3), engine.evaluations)


class _Surface(Engine):  # type: ignore[misc]
    """A surface as geomeTRIC asks for it."""

    def __init__(self, molecule: GeometricMolecule, surface: Surface) -> None:
        super().__init__(molecule)
        self.surface, self.evaluations = surface, 0
        self.gradient = np.full(1, np.nan)

    def calc_new(self, coords: np.ndarray, dirname: str) -> dict[str, Any]:
        """geomeTRIC's interface: flat bohr in, hartree and flat hartree/bohr out."""
        energy, self.gradient = self.surface(coords.reshape(-1, 3))
        self.evaluations += 1
        return {"energy": energy, "gradient": self.gradient.ravel()}
