"""Polarizabilities and dispersion coefficients of one species from its linear response.

Isotropic atomic polarizabilities (hydrogens folded into their neighbours) that interact through Thole's
exponential screening (1981, doi 10.1016/0301-0104(81)85176-2), as oscillators of OpenMM's DrudeForce do, are
fitted to the molecular tensor and to the point-to-point response; the same fit at imaginary frequencies
distributes the Casimir-Polder C6. C8 and C10 follow the ratios of Starkschall and Gordon (1972, doi
10.1063/1.1676988). Atomic units.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

from phyff.errors import FitError
from phyff.qm.monomer import MonomerData
from phyff.species.molecule import Molecule
from phyff.species.parameters import Dispersion, Polarizability, Slater
from phyff.units import BOHR_NM, HARTREE_KJ

TENSOR_WEIGHT = 1.0
"""Weight of the molecular tensor (relative) against the relative point-to-point response."""
START_THOLE = 2.0
THOLE_RANGE = (0.8, 4.0)


@dataclass(frozen=True)
class ResponseFit:
    polarizability: Polarizability
    dispersion: Dispersion
    quality: dict[str, float]


def fit_response(data: MonomerData) -> ResponseFit:
    """Fit the lowest conformer of a species.

    Raises:
        FitError: the fitted polarizabilities leave the physical range.
    """
    molecule, response = data.molecule, data.response
    xyz = data.conformers[0]
    carriers = [i for i, e in enumerate(molecule.elements) if e != "H"]
    groups = _groups(molecule, carriers)
    alpha, thole = _fit_static(data, xyz, carriers, groups)
    tensor = molecular_tensor(xyz[carriers], alpha, thole)
    if not np.all(np.linalg.eigvalsh(tensor) > 0):
        raise FitError(f"The polarizabilities fitted to {molecule.smiles} are not positive definite.")
    fields = _fields(response.points, xyz[carriers])
    predicted = fields @ np.linalg.solve(_coupling(xyz[carriers], alpha, thole), fields.T)
    qm = np.linalg.eigvalsh(data.polarizability)
    own = np.linalg.eigvalsh(tensor)
    dispersion, c6 = _dispersion(data, carriers, groups, alpha, thole)
    full = np.zeros(molecule.n_atoms)
    full[carriers] = alpha * BOHR_NM**3
    quality = {
        "polarizability_qm_A3": float(np.trace(data.polarizability) / 3) * BOHR_NM**3 * 1e3,
        "polarizability_trace_relative_error": float(np.trace(tensor) / np.trace(data.polarizability) - 1),
        "polarizability_eigenvalue_relative_error": float(np.abs(own / qm - 1).max()),
        "response_relative_rms": float(
            np.linalg.norm(predicted - response.static) / np.linalg.norm(response.static)
        ),
        "c6_au": c6,
    }
    return ResponseFit(Polarizability(alpha=tuple(full.tolist()), thole=float(thole)), dispersion, quality)


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


def molecular_tensor(xyz: np.ndarray, alpha: np.ndarray, thole: float) -> np.ndarray:
    """(3, 3) polarizability of coupled atoms at xyz (k, 3) with alpha (k,), in any consistent unit."""
    inverse = np.linalg.inv(_coupling(xyz, alpha, thole))
    k = len(alpha)
    return inverse.reshape(k, 3, k, 3).sum(axis=(0, 2))


def _coupling(xyz: np.ndarray, alpha: np.ndarray, thole: float) -> np.ndarray:
    """(3k, 3k) matrix A with A mu = E: inverse polarizabilities and screened dipole-dipole tensors."""
    k = len(alpha)
    away = xyz[:, None] - xyz[None]
    r = np.linalg.norm(away, axis=2) + np.eye(k)
    s = thole / np.multiply.outer(alpha, alpha) ** (1 / 6)
    decay = np.exp(-s * r)
    # phi = (1 - (1 + s r/2) exp(-s r))/r; first and second derivatives with respect to r
    first = -(1 - decay * (1 + s * r + 0.5 * (s * r) ** 2)) / r**2
    second = 2 * (1 - decay * (1 + s * r + 0.5 * (s * r) ** 2 + 0.25 * (s * r) ** 3)) / r**3
    unit = away / r[..., None]
    eye = np.eye(3)
    tensor = -(
        (second - first / r)[..., None, None] * unit[..., :, None] * unit[..., None, :]
        + (first / r)[..., None, None] * eye
    )
    tensor[np.arange(k), np.arange(k)] = eye / alpha[:, None, None]
    return tensor.transpose(0, 2, 1, 3).reshape(3 * k, 3 * k)


def _fields(points: np.ndarray, xyz: np.ndarray) -> np.ndarray:
    """(P, 3k) field at the atoms of a unit charge at each point."""
    away = xyz[None] - points[:, None]
    return (away / np.linalg.norm(away, axis=2, keepdims=True) ** 3).reshape(len(points), -1)


def _groups(molecule: Molecule, carriers: list[int]) -> np.ndarray:
    labels = [molecule.symmetry_classes[i] for i in carriers]
    return np.array([sorted(set(labels)).index(label) for label in labels])


def _fit_static(
    data: MonomerData, xyz: np.ndarray, carriers: list[int], groups: np.ndarray
) -> tuple[np.ndarray, float]:
    target, points = data.response.static, _fields(data.response.points, xyz[carriers])
    count = int(groups.max()) + 1
    if len(carriers) == 1:
        return np.full(1, np.trace(data.polarizability) / 3), START_THOLE

    def residuals(x: np.ndarray) -> np.ndarray:
        alpha, thole = np.exp(x[:count])[groups], x[count]
        inverse = np.linalg.inv(_coupling(xyz[carriers], alpha, thole))
        k = len(alpha)
        tensor = inverse.reshape(k, 3, k, 3).sum(axis=(0, 2))
        trace = np.trace(data.polarizability) / 3
        response = (points @ inverse @ points.T - target) / np.linalg.norm(target)
        restraint = 0.02 * (x[:count] - start[:count])
        trace_error = 30 * TENSOR_WEIGHT * (np.trace(tensor) / 3 - trace) / trace
        return np.concatenate(
            [
                response.ravel(),
                TENSOR_WEIGHT * (tensor - data.polarizability).ravel() / trace,
                restraint,
                [trace_error],
            ]
        )

    mean = np.trace(data.polarizability) / 3 / len(carriers)
    start = np.append(np.full(count, np.log(mean)), START_THOLE)
    bounds = (
        np.append(np.full(count, np.log(mean) - 3), THOLE_RANGE[0]),
        np.append(np.full(count, np.log(mean) + 2), THOLE_RANGE[1]),
    )
    found = least_squares(residuals, start, bounds=bounds)
    return np.exp(found.x[:count])[groups], float(found.x[count])


def _dispersion(
    data: MonomerData, carriers: list[int], groups: np.ndarray, alpha: np.ndarray, thole: float
) -> tuple[Dispersion, float]:
    """Coefficients scaled so that the sum over all pairs of the geometric mean is the molecular C6."""
    response, xyz = data.response, data.conformers[0][carriers]
    few = response.dynamic.shape[1]
    points = _fields(response.points[:few], xyz)
    count = int(groups.max()) + 1
    by_frequency = np.empty((len(response.frequencies), len(carriers)))
    start = np.zeros(count)
    for f, target in enumerate(response.dynamic):
        trace = np.trace(response.tensors[f]) / 3

        def residuals(x: np.ndarray, target: np.ndarray = target, trace: float = trace) -> np.ndarray:
            trial = alpha * np.exp(x)[groups]
            inverse = np.linalg.inv(_coupling(xyz, trial, thole))
            mean = np.trace(inverse.reshape(len(alpha), 3, len(alpha), 3).sum(axis=(0, 2))) / 3
            miss = (points @ inverse @ points.T - target) / np.linalg.norm(target)
            return np.concatenate([miss.ravel(), [TENSOR_WEIGHT * (mean / trace - 1)], 0.05 * (x - x.mean())])

        start = least_squares(residuals, start).x
        by_frequency[f] = alpha * np.exp(start)[groups]
    c6 = 3 / np.pi * (response.weights[:, None] * by_frequency**2).sum(0)
    c6 *= response.c6 / np.sqrt(c6).sum() ** 2
    ratio = _moment_ratio(data)[carriers]
    c8 = 3.0 * c6 * ratio
    c10 = 49.0 / 40.0 * c8**2 / c6
    columns = []
    for n, values in ((6, c6), (8, c8), (10, c10)):
        full = np.zeros(data.molecule.n_atoms)
        full[carriers] = values * HARTREE_KJ * BOHR_NM**n
        columns.append(tuple(full.tolist()))
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
