"""Onsager coefficients of the ions, and the transference numbers and salt diffusion that follow from them.

Fong et al., AIChE J. 66, e17091 (2020): L_ij = 1/(6 V k T) d<dR_i . dR_j>/dt, with R_i the sum of the centres
of all ions of species i. Barycentric frame; transference also relative to the solvent (R_i less N_i times the
centre of mass of all neutral molecules), which is the frame of Newman's equations and battery models.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phyff.properties.displacement import MeanSquareDisplacement, Window, collective_displacement, cross_slope
from phyff.properties.trajectory import Production, Run, SpeciesInBox

Floats = NDArray[np.float64]
STEP = 1e-4
"""Relative step of numerical derivatives."""


@dataclass(frozen=True)
class OnsagerMatrix:
    """Slopes (nm2/ps) of <dR_i . dR_j> over ion species and the covariance of their errors.

    slopes (n, n); covariance (n, n, n, n): of slopes[i, j] with slopes[k, l]; curves: of each R_i.
    """

    slopes: Floats
    covariance: Floats
    curves: tuple[MeanSquareDisplacement, ...]

    def derived(self, function: Callable[[Floats], float]) -> tuple[float, float]:
        """A function of the slopes and its one-sigma error, by numerical derivatives."""
        value, n = function(self.slopes), len(self.slopes)
        gradient = np.zeros((n, n))
        for i in range(n):
            for j in range(i, n):
                step = np.zeros((n, n))
                step[i, j] = step[j, i] = STEP * math.sqrt(self.slopes[i, i] * self.slopes[j, j])
                change = function(self.slopes + step) - function(self.slopes - step)
                gradient[i, j] = change / (2.0 * step[i, j])
        variance = np.einsum("ij,ijkl,kl->", gradient, self.covariance, gradient)
        return value, math.sqrt(max(0.0, float(variance)))


def species_sums(run: Run, production: Production) -> list[Floats]:
    """R_i of every ion species, (n_frames, 3) in nm, barycentric."""
    return [production.centres[:, s.molecules].sum(axis=1) for s in run.ions]


def relative_to_solvent(run: Run, production: Production, sums: Sequence[Floats]) -> list[Floats]:
    """R_i relative to the centre of mass of the neutral species."""
    neutral = [s for s in run.species if s.charge == 0]
    masses = np.concatenate([np.full(s.count, s.masses.sum()) for s in neutral])
    centres = np.concatenate([production.centres[:, s.molecules] for s in neutral], axis=1)
    solvent = np.average(centres, axis=1, weights=masses)
    return [r - s.count * solvent for r, s in zip(sums, run.ions, strict=True)]


def onsager_matrix(
    ions: Sequence[SpeciesInBox], sums: Sequence[Sequence[Floats]], window: Window, frame_ps: float
) -> OnsagerMatrix | None:
    """The matrix from sums[replica][ion species]; None if an ion shows no net motion in the window.

    For jointly Gaussian walks the estimates scatter like those of a covariance matrix (Wishart):
    cov(L_ij, L_kl) = (L_ik L_jl + L_il L_jk) / 2 times the relative variance of a diagonal element.
    """
    n = len(ions)
    each = [[replica[i] for replica in sums] for i in range(n)]
    curves = tuple(
        collective_displacement(s.name, series, window, frame_ps)
        for s, series in zip(ions, each, strict=True)
    )
    slopes = np.diag([curve.slope for curve in curves])
    if (np.diag(slopes) <= 0.0).any():
        return None
    for i in range(n):
        for j in range(i):
            slopes[i, j] = slopes[j, i] = cross_slope(each[i], each[j], window, frame_ps)
    scale = np.sqrt(np.diag(slopes))
    correlation = np.clip(slopes / np.outer(scale, scale), -1.0, 1.0)
    spread = np.sqrt([curve.slope_error for curve in curves])
    shape = np.einsum("ik,jl->ijkl", correlation, correlation)
    shape = 0.5 * (shape + shape.transpose(0, 1, 3, 2))
    covariance = np.einsum("ijkl,i,j,k,l->ijkl", shape, spread, spread, spread, spread)
    return OnsagerMatrix(slopes, covariance, curves)


def transference(charges: Floats, index: int) -> Callable[[Floats], float]:
    """The share of the current that ion species `index` carries, as a function of the slopes."""

    def share(slopes: Floats) -> float:
        currents = charges[:, None] * slopes * charges[None, :]
        return float(currents[index].sum() / currents.sum())

    return share


def salt_diffusion(pairs: int) -> Callable[[Floats], float]:
    """Diffusion coefficient (nm2/ps) of a 1:1 salt of so many ion pairs, for a thermodynamic factor of 1."""

    def diffusion(slopes: Floats) -> float:
        determinant = slopes[0, 0] * slopes[1, 1] - slopes[0, 1] ** 2
        return float(determinant / (slopes[0, 0] + slopes[1, 1] - 2.0 * slopes[0, 1]) / (3.0 * pairs))

    return diffusion
