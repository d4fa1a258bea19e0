"""Minimal basis iterative stockholder partition of a molecular density, following Verstraelen, Vandenbrande,
Heidar-Zadeh, Vanduyfhuys, Van Speybroeck, Waroquier, Ayers, J. Chem. Theory Comput. 12, 3894 (2016), doi
10.1021/acs.jctc.6b00456.

The pro-density of atom A is a sum of exponential shells, rho0_Ai(r) = N_Ai exp(-|r - R_A| / sigma_Ai) / (8
pi sigma_Ai^3); populations and widths are the fixed point of their own stockholder moments (eqs. 18 and 19).
Atomic units.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from phyff.errors import PhyffError

NOBLE_GASES = (0, 2, 10, 18, 36)
DENSITY_CUTOFF = 1e-12
"""Grid points with less density (e/bohr^3) are left out."""


class PartitionError(PhyffError):
    """The stockholder partition does not converge or loses charge."""


@dataclass(frozen=True)
class Partition:
    """Atoms in a molecule, N of them. Moments are about each nucleus and of the total charge (nucleus +
    electrons).

    Attributes:
        charges: (N,) e; they sum to the molecular charge exactly.
        dipoles: (N, 3) e bohr.
        quadrupoles: (N, 3, 3) e bohr^2, traceless, Buckingham's: Theta_ab = 1/2 sum q (3 a b - r^2
            delta_ab), so that the potential is q/r + mu.r/r^3 + r.Theta.r/r^5.
        radial_moments: (N, 3) electrons' <r^2>, <r^3>, <r^4> (bohr^n); the second column is the atomic
            volume.
        shell_populations, shell_widths: for each atom the N_i (e) and sigma_i (bohr), core first.
        charge_defect: e, what the grid lost and was shared out equally before the charges summed exactly.
        iterations: fixed-point steps taken.
    """

    charges: np.ndarray
    dipoles: np.ndarray
    quadrupoles: np.ndarray
    radial_moments: np.ndarray
    shell_populations: list[np.ndarray]
    shell_widths: list[np.ndarray]
    charge_defect: float
    iterations: int

    @property
    def valence_populations(self) -> np.ndarray:
        """(N,) electrons in the outermost shell."""
        return np.array([shells[-1] for shells in self.shell_populations])

    @property
    def valence_widths(self) -> np.ndarray:
        """(N,) sigma of the outermost shell, bohr."""
        return np.array([shells[-1] for shells in self.shell_widths])


def mbis(
    numbers: np.ndarray,
    positions: np.ndarray,
    charge: int,
    points: np.ndarray,
    weights: np.ndarray,
    density: np.ndarray,
    tolerance: float = 1e-6,
    max_iterations: int = 2000,
) -> Partition:
    """Partition `density` (npoints,) known on quadrature `points` (npoints, 3) with `weights`.

    Args:
        numbers, positions: (N,) nuclear charges and (N, 3) positions, bohr.
        charge: total charge of the molecule, e.
        tolerance: largest change of a shell population (e) in the last step.

    Raises:
        PartitionError: no convergence, or the grid loses more than 0.01 e.
    """
    keep = density > DENSITY_CUTOFF
    points, mass = points[keep], (weights * density)[keep]
    electrons = int(np.sum(numbers)) - charge
    owner, populations, widths = initial_shells(numbers, electrons)
    distances = np.linalg.norm(points[None, :, :] - positions[:, None, :], axis=2)
    for iterations in range(1, max_iterations + 1):  # noqa: B007
        shells = _shell_densities(distances, owner, populations, widths)
        shells *= mass / np.maximum(shells.sum(axis=0), 1e-300)
        new = shells.sum(axis=1)
        widths = np.einsum("sg,sg->s", shells, distances[owner]) / (3.0 * new)
        change, populations = float(np.abs(new - populations).max()), new
        if change < tolerance:
            break
    else:
        raise PartitionError(f"MBIS did not converge in {max_iterations} steps (last change {change:.1e} e).")
    shells = _shell_densities(distances, owner, populations, widths)
    shells *= mass / np.maximum(shells.sum(axis=0), 1e-300)
    atoms = np.array([shells[owner == a].sum(axis=0) for a in range(len(numbers))])
    return _moments(
        numbers, positions, charge, points, distances, atoms, owner, populations, widths, iterations
    )


def initial_shells(numbers: np.ndarray, electrons: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Owner (nshell,), populations and widths to start from: one shell a period, widths between 1/2Z and 1/2.

    A bare ion has the shells its electrons fill (Li+ one, Na+ two), never an empty valence shell.
    """
    owner, populations, widths = [], [], []
    for atom, number in enumerate(numbers):
        filled = electrons if len(numbers) == 1 else int(number)
        count = sum(filled > noble for noble in NOBLE_GASES)
        for i in range(count):
            owner.append(atom)
            populations.append(float(min(filled, NOBLE_GASES[i + 1]) - NOBLE_GASES[i]))
            exponent = 1.0 if len(numbers) == 1 and count == 1 else 1.0 - i / max(count - 1, 1)
            widths.append(0.5 / float(number) ** (exponent if number > 1 else 0.0))
    return np.array(owner), np.array(populations), np.array(widths)


def _shell_densities(
    distances: np.ndarray, owner: np.ndarray, populations: np.ndarray, widths: np.ndarray
) -> np.ndarray:
    shells: np.ndarray = distances[owner] * (-1.0 / widths[:, None])
    np.exp(shells, out=shells)
    shells *= (populations / (8.0 * np.pi * widths**3))[:, None]
    return shells


def _moments(
    numbers: np.ndarray,
    positions: np.ndarray,
    charge: int,
    points: np.ndarray,
    distances: np.ndarray,
    atoms: np.ndarray,
    owner: np.ndarray,
    populations: np.ndarray,
    widths: np.ndarray,
    iterations: int,
) -> Partition:
    """Charges, dipoles, quadrupoles and radial moments from atomic electron masses (N, npoints) on the
    grid.
    """
    count = len(numbers)
    raw = numbers - atoms.sum(axis=1)
    defect = float(raw.sum() - charge)
    if abs(defect) > 0.01:
        raise PartitionError(f"MBIS charges sum to {raw.sum():.4f} e instead of {charge}; use a finer grid.")
    dipoles, quadrupoles, radial = np.empty((count, 3)), np.empty((count, 3, 3)), np.empty((count, 3))
    for a in range(count):
        r = points - positions[a]
        dipoles[a] = -(atoms[a] @ r)
        second = -(r * atoms[a][:, None]).T @ r
        quadrupoles[a] = 1.5 * second - 0.5 * np.trace(second) * np.eye(3)
        radial[a] = [float(atoms[a] @ distances[a] ** n) for n in (2, 3, 4)]
    return Partition(
        charges=raw - defect / count,
        dipoles=dipoles,
        quadrupoles=quadrupoles,
        radial_moments=radial,
        shell_populations=[populations[owner == a] for a in range(count)],
        shell_widths=[widths[owner == a] for a in range(count)],
        charge_defect=defect,
        iterations=iterations,
    )
