"""Polarizabilities and dispersion coefficients of one species from its linear response.

Isotropic polarizabilities of all atoms that interact through Thole's screening (1981, doi
10.1016/0301-0104(81)85176-2) are fitted to the molecular tensor and to the point-to-point response: once with
the exponential form of OpenMM's DrudeForce, once with AMOEBA's cubic one. The first fit at imaginary
frequencies distributes the Casimir-Polder C6. C8 and C10 follow the ratios of Starkschall and Gordon (1972,
doi 10.1063/1.1676988). Atomic units.

Hydrogens carry their own share: folded into their neighbours they leave 16 % of the point-to-point response
(against 5 %), and dimers cut from liquid EC lose 0.7 of 4.8 kJ/mol dispersion and 0.75 of 2.0 induction
(against none and 0.37).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

from phyff.errors import FitError
from phyff.qm.monomer import MonomerData
from phyff.species.parameters import Dispersion, Polarizability, Slater
from phyff.units import BOHR_NM, HARTREE_KJ

TENSOR_WEIGHT = 1.0
"""Weight of the molecular tensor (relative) against the relative point-to-point response."""
START_THOLE = 2.0
THOLE_RANGE = (0.8, 4.0)
AMOEBA_THOLE = 0.45
"""One exponent for all species, because AMOEBA damps pairs within and between molecules with the same atomic
exponents. Left free, the fit asks for 0.52 (EC), 0.41 (DMC) or does not care (PF6-)."""

Screening = Callable[[np.ndarray, float], tuple[np.ndarray, np.ndarray]]
"""(u, thole) -> -r^2 phi' and r^3 phi'' of a damped potential phi = f(u)/r, u = r/(alpha_i alpha_j)^(1/6)."""


@dataclass(frozen=True)
class ResponseFit:
    polarizability: Polarizability
    multipole_polarizability: Polarizability
    dispersion: Dispersion
    quality: dict[str, float]


def fit_response(data: MonomerData) -> ResponseFit:
    """Fit the lowest conformer of a species.

    Raises:
        FitError: the fitted polarizabilities leave the physical range.
    """
    labels = np.array(data.molecule.symmetry_classes)
    groups = np.searchsorted(np.unique(labels), labels)
    alpha, thole = _fit_static(data, groups, exponential, None)
    own_alpha, own_thole = _fit_static(data, groups, amoeba, AMOEBA_THOLE)
    dispersion, c6 = _dispersion(data, groups, alpha, thole)
    own_quality = _quality(data, own_alpha, own_thole, amoeba)
    quality = {
        "polarizability_qm_A3": _mean(data.polarizability) * BOHR_NM**3 * 1e3,
        **_quality(data, alpha, thole, exponential),
        **{f"multipole_{name}": value for name, value in own_quality.items()},
        "c6_au": c6,
    }
    return ResponseFit(
        Polarizability(alpha=tuple((alpha * BOHR_NM**3).tolist()), thole=thole),
        Polarizability(alpha=tuple((own_alpha * BOHR_NM**3).tolist()), thole=own_thole),
        dispersion,
        quality,
    )


def slater_of(data: MonomerData) -> Slater:
    """Valence population and exponent of every atom, averaged over equivalent atoms (lowest conformer)."""
    density = data.densities[0]
    classes = np.array(data.molecule.symmetry_classes)
    populations, exponents = (
        np.array(density.valence_populations),
        1.0 / np.array(density.valence_widths) / BOHR_NM,
    )
    for label in set(classes.tolist()):
        same = classes == label
        populations[same], exponents[same] = populations[same].mean(), exponents[same].mean()
    return Slater(populations=tuple(populations.tolist()), exponents=tuple(exponents.tolist()))


def exponential(u: np.ndarray, thole: float) -> tuple[np.ndarray, np.ndarray]:
    """Screening 1 - (1 + v/2) exp(-v), v = thole u: DrudeForce."""
    v = thole * u
    decay = np.exp(-v)
    return 1 - decay * (1 + v + v**2 / 2), 2 * (1 - decay * (1 + v + v**2 / 2 + v**3 / 4))


def amoeba(u: np.ndarray, thole: float) -> tuple[np.ndarray, np.ndarray]:
    """The field of a charge screened by 1 - exp(-w), w = thole u^3: AmoebaMultipoleForce."""
    w = thole * u**3
    decay = np.exp(-w)
    return 1 - decay, 2 * (1 - decay) - 3 * w * decay


def molecular_tensor(
    xyz: np.ndarray, alpha: np.ndarray, thole: float, screening: Screening = exponential
) -> np.ndarray:
    """(3, 3) polarizability of coupled atoms at xyz (k, 3) with alpha (k,), in any consistent unit."""
    return _summed(np.linalg.inv(_coupling(xyz, alpha, thole, screening)))


def _coupling(xyz: np.ndarray, alpha: np.ndarray, thole: float, screening: Screening) -> np.ndarray:
    """(3k, 3k) matrix A with A mu = E: inverse polarizabilities and screened dipole-dipole tensors."""
    k = len(alpha)
    away = xyz[:, None] - xyz[None]
    r = np.linalg.norm(away, axis=2) + np.eye(k)
    first, second = screening(r / np.multiply.outer(alpha, alpha) ** (1 / 6), thole)
    unit = away / r[..., None]
    eye = np.eye(3)
    tensor = first[..., None, None] * eye - (first + second)[..., None, None] * (
        unit[..., :, None] * unit[..., None, :]
    )
    tensor /= r[..., None, None] ** 3
    tensor[np.arange(k), np.arange(k)] = eye / alpha[:, None, None]
    return tensor.transpose(0, 2, 1, 3).reshape(3 * k, 3 * k)


def _summed(inverse: np.ndarray) -> np.ndarray:
    """(3, 3) molecular tensor of a (3k, 3k) response."""
    k = len(inverse) // 3
    return inverse.reshape(k, 3, k, 3).sum(axis=(0, 2))


def _mean(tensor: np.ndarray) -> float:
    return float(np.trace(tensor)) / 3


def _fields(points: np.ndarray, xyz: np.ndarray) -> np.ndarray:
    """(P, 3k) field at the atoms of a unit charge at each point."""
    away = xyz[None] - points[:, None]
    return (away / np.linalg.norm(away, axis=2, keepdims=True) ** 3).reshape(len(points), -1)


def _fit_static(
    data: MonomerData, groups: np.ndarray, screening: Screening, fixed: float | None
) -> tuple[np.ndarray, float]:
    """Polarizabilities (k,), and Thole's exponent unless it is fixed."""
    xyz, mean = data.conformers[0], _mean(data.polarizability)
    target, points = data.response.static, _fields(data.response.points, xyz)
    count = int(groups.max()) + 1
    if len(xyz) == 1:
        return np.full(1, mean), START_THOLE if fixed is None else fixed

    def unpacked(x: np.ndarray) -> tuple[np.ndarray, float]:
        return np.exp(x[:count])[groups], float(x[count]) if fixed is None else fixed

    def residuals(x: np.ndarray) -> np.ndarray:
        inverse = np.linalg.inv(_coupling(xyz, *unpacked(x), screening))
        tensor = _summed(inverse)
        return np.concatenate(
            [
                (points @ inverse @ points.T - target).ravel() / np.linalg.norm(target),
                TENSOR_WEIGHT * (tensor - data.polarizability).ravel() / mean,
                0.02 * (x - start)[:count],
                [30 * TENSOR_WEIGHT * (_mean(tensor) - mean) / mean],
            ]
        )

    each = np.log(mean / len(xyz))
    thole = ([START_THOLE], *([limit] for limit in THOLE_RANGE)) if fixed is None else ([], [], [])
    start, lower, upper = (
        np.append(np.full(count, each + shift), own)
        for shift, own in zip((0.0, -3.0, 2.0), thole, strict=True)
    )
    return unpacked(least_squares(residuals, start, bounds=(lower, upper)).x)


def _quality(data: MonomerData, alpha: np.ndarray, thole: float, screening: Screening) -> dict[str, float]:
    """Relative errors of the molecular tensor and of the point-to-point response.

    Raises:
        FitError: the tensor is not positive definite.
    """
    coupling = _coupling(data.conformers[0], alpha, thole, screening)
    tensor = _summed(np.linalg.inv(coupling))
    own, qm = np.linalg.eigvalsh(tensor), np.linalg.eigvalsh(data.polarizability)
    if not np.all(own > 0):
        raise FitError(f"The polarizabilities fitted to {data.molecule.smiles} are not positive definite.")
    fields, target = _fields(data.response.points, data.conformers[0]), data.response.static
    miss = fields @ np.linalg.solve(coupling, fields.T) - target
    return {
        "polarizability_trace_relative_error": float(np.trace(tensor) / np.trace(data.polarizability) - 1),
        "polarizability_eigenvalue_relative_error": float(np.abs(own / qm - 1).max()),
        "response_relative_rms": float(np.linalg.norm(miss) / np.linalg.norm(target)),
    }


def _dispersion(
    data: MonomerData, groups: np.ndarray, alpha: np.ndarray, thole: float
) -> tuple[Dispersion, float]:
    """Coefficients scaled so that the sum over all pairs of the geometric mean is the molecular C6."""
    response, xyz = data.response, data.conformers[0]
    few = response.dynamic.shape[1]
    points = _fields(response.points[:few], xyz)
    count = int(groups.max()) + 1
    by_frequency = np.empty((len(response.frequencies), len(xyz)))
    start = np.zeros(count)
    for f, target in enumerate(response.dynamic):
        trace = _mean(response.tensors[f])

        def residuals(x: np.ndarray, target: np.ndarray = target, trace: float = trace) -> np.ndarray:
            trial = alpha * np.exp(x)[groups]
            inverse = np.linalg.inv(_coupling(xyz, trial, thole, exponential))
            mean = _mean(_summed(inverse))
            miss = (points @ inverse @ points.T - target) / np.linalg.norm(target)
            return np.concatenate([miss.ravel(), [TENSOR_WEIGHT * (mean / trace - 1)], 0.05 * (x - x.mean())])

        start = least_squares(residuals, start).x
        by_frequency[f] = alpha * np.exp(start)[groups]
    c6 = 3 / np.pi * (response.weights[:, None] * by_frequency**2).sum(0)
    c6 *= response.c6 / np.sqrt(c6).sum() ** 2
    ratio = _moment_ratio(data)
    c8 = 3.0 * c6 * ratio
    c10 = 49.0 / 40.0 * c8**2 / c6
    columns = [
        tuple((values * HARTREE_KJ * BOHR_NM**n).tolist()) for n, values in ((6, c6), (8, c8), (10, c10))
    ]
    return Dispersion(c6=columns[0], c8=columns[1], c10=columns[2]), response.c6


def _moment_ratio(data: MonomerData) -> np.ndarray:
    """(N,) <r^4>/<r^2> (bohr^2) of each atom's MBIS density, averaged over equivalent atoms."""
    density = data.densities[0]
    ratio = np.array(
        [
            30.0 * np.dot(n, np.power(s, 4)) / np.dot(n, np.power(s, 2))
            for n, s in zip(density.shell_populations, density.shell_widths, strict=True)
        ]
    )
    classes = np.array(data.molecule.symmetry_classes)
    return np.array([ratio[classes == label].mean() for label in classes])
