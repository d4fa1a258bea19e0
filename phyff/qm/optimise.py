"""Minimum of an expensive energy surface: Cartesian quasi-Newton steps from a cheap Hessian. Atomic units."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from phyff.errors import PhyffError

GRADIENT_TOLERANCE = 1.0e-4
"""Largest gradient component, hartree/bohr."""
STEP_TOLERANCE = 2.0e-3
"""Largest predicted displacement left, bohr (0.001 angstrom)."""
CURVATURE_FLOOR = 0.01
"""Softer (or negative) curvatures, hartree/bohr^2, count as this stiff when a step is taken."""
TRUST_RADIUS = 0.3
"""Largest displacement of a coordinate in one step, bohr."""


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
    surface: Callable[[np.ndarray], tuple[float, np.ndarray]],
    start: np.ndarray,
    hessian: np.ndarray,
    max_evaluations: int = 80,
) -> Minimum:
    """Downhill on `surface` ((N, 3) bohr -> hartree, hartree/bohr) from `start`; `hessian` (3N, 3N) is a
    guess.

    BFGS updates keep the Hessian; steps are Newton's with curvatures made positive, within a trust radius
    that shrinks when the energy rises.

    Raises:
        OptimisationError: not settled after `max_evaluations`.
    """
    xyz, trust = start.copy(), TRUST_RADIUS
    energy, gradient = surface(xyz)
    for evaluations in range(1, max_evaluations):
        internal = internal_projector(xyz)
        force = internal @ gradient.ravel()
        values, vectors = np.linalg.eigh(internal @ hessian @ internal)
        step = -vectors @ ((vectors.T @ force) / np.maximum(np.abs(values), CURVATURE_FLOOR))
        largest_force, largest_step = np.abs(force).max(), np.abs(step).max()
        if largest_force < GRADIENT_TOLERANCE and (
            largest_step < STEP_TOLERANCE or largest_force < 0.2 * GRADIENT_TOLERANCE
        ):
            return Minimum(xyz, energy, gradient, evaluations)
        step *= min(1.0, trust / largest_step)
        trial = xyz + step.reshape(-1, 3)
        trial_energy, trial_gradient = surface(trial)
        hessian = bfgs_update(hessian, step, internal @ (trial_gradient - gradient).ravel())
        if trial_energy > energy + 2e-5 and np.abs(trial_gradient).max() > largest_force:
            trust = max(0.3 * min(trust, np.abs(step).max()), 1e-3)
            continue
        trust = min(TRUST_RADIUS, 1.5 * trust)
        xyz, energy, gradient = trial, trial_energy, trial_gradient
    raise OptimisationError(
        f"Geometry not settled after {max_evaluations} gradients "
        f"(largest {np.abs(gradient).max():.1e} hartree/bohr)."
    )


def internal_projector(xyz: np.ndarray) -> np.ndarray:
    """(3N, 3N) projector that removes translations and rotations at positions (N, 3)."""
    centred = xyz - xyz.mean(axis=0)
    rigid = [np.tile(axis, len(xyz)) for axis in np.eye(3)]
    rigid += [np.cross(axis, centred).ravel() for axis in np.eye(3)]
    left, singular, _ = np.linalg.svd(np.array(rigid).T, full_matrices=False)
    basis = left[:, singular > 1e-6 * singular[0]]
    return np.asarray(np.eye(xyz.size) - basis @ basis.T)


def bfgs_update(hessian: np.ndarray, step: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Hessian that maps `step` to the gradient's `change`; left alone where the curvature along it is not
    positive.
    """
    along = float(step @ change)
    if along < 1e-3 * CURVATURE_FLOOR * float(step @ step):
        return hessian
    mapped = hessian @ step
    curvature = float(step @ mapped)
    if curvature <= 0.0:
        return hessian
    return hessian + np.outer(change, change) / along - np.outer(mapped, mapped) / curvature
