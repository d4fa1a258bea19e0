"""Points on scaled van der Waals surfaces, and potentials there: of a molecule, and of unit charges placed
there.

Atomic units; radii are Bondi's (J. Phys. Chem. 68, 441 (1964), doi 10.1021/j100785a001), boron's and
potassium's from Mantina et al. (doi 10.1021/jp8111556) where Bondi has none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from pyscf import gto

from phyff.errors import InputError
from phyff.units import BOHR_ANGSTROM

VDW_RADII_ANGSTROM = {
    "H": 1.20, "Li": 1.82, "B": 1.92, "C": 1.70, "N": 1.55, "O": 1.52, "F": 1.47, "Na": 2.27, "Mg": 1.73,
    "Al": 1.84, "Si": 2.10, "P": 1.80, "S": 1.80, "Cl": 1.75, "K": 2.75, "Ca": 2.31, "Br": 1.85, "Zn": 1.39,
}  # fmt: skip
ESP_SCALES = (1.4, 1.6, 1.8, 2.0)
"""Shells, in van der Waals radii, on which electrostatic potentials are stored and judged."""
RESPONSE_SCALES = (1.6, 2.0)
"""Shells on which unit charges probe the response."""
SPHERE_POINTS = 300
BLOCK_DOUBLES = 2e7


def vdw_radii(elements: Sequence[str]) -> np.ndarray:
    """(N,) Bondi radii, bohr."""
    for element in elements:
        if element not in VDW_RADII_ANGSTROM:
            raise InputError(
                f"No van der Waals radius for element '{element}'; PhyFF cannot fit species with it."
            )
    return np.array([VDW_RADII_ANGSTROM[element] for element in elements]) / BOHR_ANGSTROM


def surface_points(elements: Sequence[str], positions: np.ndarray, scale: float, count: int) -> np.ndarray:
    """(count, 3) points, evenly spread over the surface of `scale` times the van der Waals radii
    (deterministic).

    They come in farthest-first order: any leading part of them is itself evenly spread.
    """
    radii = scale * vdw_radii(elements)
    sphere = _fibonacci_sphere(max(SPHERE_POINTS, 2 * count))
    candidates = []
    for a, centre in enumerate(positions):
        shell = centre + radii[a] * sphere
        distances = np.linalg.norm(shell[:, None, :] - positions[None], axis=2)
        candidates.append(shell[np.all(distances >= radii[None] - 1e-9, axis=1)])
    return _farthest_first(np.concatenate(candidates), count)


def shell_points(
    elements: Sequence[str], positions: np.ndarray, scales: Sequence[float], count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Points (len(scales) * count, 3) interleaved over the shells, and the scale (same length) each lies
    on.
    """
    shells = np.array([surface_points(elements, positions, scale, count) for scale in scales])
    return shells.transpose(1, 0, 2).reshape(-1, 3), np.tile(np.asarray(scales, dtype=float), count)


def electrostatic_potential(mol: gto.Mole, dm: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(npoints,) potential (hartree/e) of nuclei and electrons with density matrix `dm`."""
    distances = np.linalg.norm(points[:, None, :] - mol.atom_coords()[None], axis=2)
    nuclear: np.ndarray = (mol.atom_charges() / distances).sum(axis=1)
    electronic = [np.einsum("gmn,mn->g", block, dm) for block in charge_integrals(mol, points)]
    return np.asarray(nuclear - np.concatenate(electronic))


def charge_integrals(mol: gto.Mole, points: np.ndarray) -> Iterator[np.ndarray]:
    """Blocks (n, nao, nao) of <m| 1/|r - R_g| |n> over the points g."""
    block = max(1, int(BLOCK_DOUBLES / mol.nao**2))
    for start in range(0, len(points), block):
        yield mol.intor("int1e_grids", grids=points[start : start + block])


def _fibonacci_sphere(count: int) -> np.ndarray:
    index = np.arange(count) + 0.5
    polar, azimuth = np.arccos(1.0 - 2.0 * index / count), np.pi * (1.0 + 5.0**0.5) * index
    return np.stack([np.cos(azimuth) * np.sin(polar), np.sin(azimuth) * np.sin(polar), np.cos(polar)], axis=1)


def _farthest_first(candidates: np.ndarray, count: int) -> np.ndarray:
    chosen = [int(np.argmax(np.linalg.norm(candidates - candidates.mean(axis=0), axis=1)))]
    nearest = np.full(len(candidates), np.inf)
    while len(chosen) < count:
        nearest = np.minimum(nearest, np.linalg.norm(candidates - candidates[chosen[-1]], axis=1))
        chosen.append(int(np.argmax(nearest)))
    return candidates[chosen]
