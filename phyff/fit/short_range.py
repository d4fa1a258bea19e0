"""Short-range amplitudes of atom classes, fitted component by component to dimer energy decompositions.

The four energies of a dimer minus what the monomers' own parameters already give (Coulomb, oscillators,
dispersion) are fitted by sums of products of class amplitudes (Van Vleet et al. 2016, doi
10.1021/acs.jctc.6b00209): penetration against electrostatics, exchange, charge transfer against induction;
one width per class is shared by all three. No experimental number enters. kJ/mol and nm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import least_squares, minimize_scalar

from phyff.errors import FitError
from phyff.model.cluster import (
    PARTS,
    Cluster,
    dispersion_energy,
    oscillator_energy,
    permanent_energy,
    relaxed_displacements,
)
from phyff.model.pairs import COMPONENTS
from phyff.model.parameters import (
    FALLBACK,
    START_DAMPING,
    ShortRange,
    ShortRangeClass,
    SpeciesTensors,
    species_tensors,
)
from phyff.species.parameters import SpeciesParameters

CLASS_LEVEL = 0
"""Which of an atom's labels (0 finest) names its class: element, neighbours and theirs. Coarser labels get
means of these, for molecules that no dimer has."""
SOFT_ENERGY = 25.0
"""kJ/mol; dimers above it count less and less (their repulsion still keeps liquids from collapsing)."""
FLOOR = 1.0
"""kJ/mol; errors are weighed against this plus RELATIVE of the component."""
RELATIVE = 0.03
TOTAL_FLOOR = 0.5
"""kJ/mol; the same for the total, tighter: small errors of components that share a sign add up."""
CATION_EASE = 3.0
"""Factor of both floors for dimers with a bare cation, whose goals are wider (3 kJ/mol against 1)."""
RIDGE = 0.15
"""Pull of log factors to the mean of their component, and of log widths to zero."""
WIDTH_RIDGE = 5.0
TARGETS = {"exchange": "exchange", "penetration": "electrostatics", "charge_transfer": "induction"}
SIGNS = {"exchange": 1.0, "penetration": -1.0, "charge_transfer": -1.0}
WALL_SHARES = {1: 0.75, 2: 0.5}
WALL_WEIGHT = 3000.0
"""Penetration and charge-transfer factors stay below these shares of their class's exchange factor (weight of
the penalty on the logarithm). The squares sum to less than one, so any pair of classes, seen together or not,
repels."""
SIGNED = (1, 2)
"""Components whose factor is negative for bare cations: a cation sits inside its neighbour's density, where
the point charges overshoot electrostatics and the oscillators overshoot induction, so both corrections repel
there."""


@dataclass(frozen=True)
class DimerPoint:
    """One decomposed dimer: species names, positions (n, 3) nm, components in kJ/mol, and its scan."""

    names: tuple[str, str]
    xyz: tuple[np.ndarray, np.ndarray]
    components: Mapping[str, float]
    scan: str


@dataclass(frozen=True)
class _Row:
    """What the fit needs of one point: pair distances with class indices, and the residual targets."""

    r: np.ndarray
    first: np.ndarray
    second: np.ndarray
    exponents: np.ndarray
    overlaps: np.ndarray
    signs: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    total_target: float
    """What exchange, penetration and charge transfer together have to give for the total to be right."""
    total_weight: float


def fit_short_range(
    species: Mapping[str, SpeciesParameters],
    points: Sequence[DimerPoint],
    damping: float,
    damping_alpha: Mapping[str, float],
    dispersion_width: float,
    provenance: Mapping[str, Any],
) -> ShortRange:
    """Class factors that reproduce the points; every third scan is left out of a trial fit, for the error.

    Raises:
        FitError: there are no points.
    """
    if not points:
        raise FitError("The short-range fit has no dimer data; run 'phyff train' first.")
    labels = sorted({s.atom_classes[i][CLASS_LEVEL] for s in species.values() for i in range(s.n_atoms)})
    unit = _blank(labels, damping, damping_alpha, dispersion_width)
    tensors = {name: species_tensors(s, unit) for name, s in species.items()}
    index = {
        name: np.array([labels.index(s.atom_classes[i][CLASS_LEVEL]) for i in range(s.n_atoms)])
        for name, s in species.items()
    }
    rows = [_row(point, tensors, index) for point in points]
    held_out = [is_held_out(point.scan) for point in points]
    trial = _solve([row for row, out in zip(rows, held_out, strict=True) if not out], len(labels))
    final = _solve(rows, len(labels))
    counts = [
        int(sum(np.any((row.first == k) | (row.second == k)) for row in rows)) for k in range(len(labels))
    ]
    quality = {
        "in_sample": _report(points, rows, final),
        "held_out_scans": _report(
            [p for p, out in zip(points, held_out, strict=True) if out],
            [row for row, out in zip(rows, held_out, strict=True) if out],
            trial,
        ),
        "points": len(points),
    }
    cations = {s.atom_classes[0][CLASS_LEVEL] for s in species.values() if _is_bare_cation(tensors[s.name])}
    classes = {
        label: ShortRangeClass(
            **{
                name: float(np.exp(final[c, k])) * (-1.0 if label in cations and c in SIGNED else 1.0)
                for c, name in enumerate(COMPONENTS)
            },
            width=float(np.exp(final[3, k])),
            points=counts[k],
        )
        for k, label in enumerate(labels)
    }
    molecular = {name: s for name, s in species.items() if not _is_bare_cation(tensors[name])}
    classes.update(_coarser({k: c for k, c in classes.items() if k not in cations}, molecular))
    return ShortRange(
        classes=classes,
        damping=damping,
        damping_alpha=dict(damping_alpha),
        dispersion_width=dispersion_width,
        quality=quality,
        provenance=dict(provenance),
    )


def fit_dispersion_width(points: Sequence[DimerPoint], species: Mapping[str, SpeciesParameters]) -> float:
    """Factor on the MBIS exponents in the damping of dispersion that suits the dimers' dispersion best."""

    def error(width: float) -> float:
        model = _blank([], START_DAMPING, {}, width)
        tensors = {name: species_tensors(s, model) for name, s in species.items()}
        total = 0.0
        for point in points:
            cluster = _cluster(point, tensors)
            miss = float(dispersion_energy(cluster)) - point.components["dispersion"]
            scale = FLOOR + RELATIVE * abs(point.components["dispersion"])
            total += (_softening(point) * miss / scale) ** 2
        return total

    return float(minimize_scalar(error, bounds=(0.4, 1.2), method="bounded", options={"xatol": 1e-3}).x)


def residual_targets(point: DimerPoint, tensors: Mapping[str, SpeciesTensors]) -> dict[str, float]:
    """What each component leaves to the short range: QM minus Coulomb, oscillators, nothing (exchange)."""
    cluster = _cluster(point, tensors)
    polarization = oscillator_energy(cluster, relaxed_displacements(cluster))
    return {
        "exchange": point.components["exchange"],
        "penetration": point.components["electrostatics"] - float(permanent_energy(cluster)),
        "charge_transfer": point.components["induction"] - float(polarization),
        "dispersion": point.components["dispersion"] - float(dispersion_energy(cluster)),
    }


def _cluster(point: DimerPoint, tensors: Mapping[str, SpeciesTensors]) -> Cluster:
    return Cluster.of([tensors[n] for n in point.names], [torch.tensor(x) for x in point.xyz])


def _total(point: DimerPoint) -> float:
    return sum(point.components[name] for name in PARTS)


def _softening(point: DimerPoint) -> float:
    return SOFT_ENERGY / max(SOFT_ENERGY, _total(point))


def _blank(
    labels: Sequence[str], damping: float, damping_alpha: Mapping[str, float], dispersion_width: float = 1.0
) -> ShortRange:
    one = ShortRangeClass(exchange=1.0, penetration=1.0, charge_transfer=1.0)
    return ShortRange(
        classes={label: one for label in [*labels, FALLBACK]},
        damping=damping,
        damping_alpha=dict(damping_alpha),
        dispersion_width=dispersion_width,
    )


def _row(point: DimerPoint, tensors: Mapping[str, SpeciesTensors], index: Mapping[str, np.ndarray]) -> _Row:
    first, second = (tensors[n] for n in point.names)
    a, b = (index[n] for n in point.names)
    r = np.linalg.norm(point.xyz[0][:, None] - point.xyz[1][None], axis=2)
    residual = residual_targets(point, tensors)
    targets = np.array([SIGNS[name] * residual[name] for name in COMPONENTS])
    soften = _softening(point)
    ease = CATION_EASE if any(_is_bare_cation(tensors[n]) for n in point.names) else 1.0
    scale = np.array([ease * FLOOR + RELATIVE * abs(point.components[TARGETS[name]]) for name in COMPONENTS])
    return _Row(
        r=r.ravel(),
        first=np.repeat(a, len(b)),
        second=np.tile(b, len(a)),
        exponents=np.outer(first.exponents.numpy(), second.exponents.numpy()).ravel(),
        overlaps=np.outer(first.amplitudes[0].numpy(), second.amplitudes[0].numpy()).ravel(),
        signs=np.full(
            r.size, float(np.prod([-1.0 if _is_bare_cation(tensors[n]) else 1.0 for n in point.names]))
        ),
        targets=targets,
        weights=soften / scale,
        total_target=sum(residual.values()),
        total_weight=soften / (ease * TOTAL_FLOOR + RELATIVE * abs(_total(point))),
    )


@dataclass(frozen=True)
class _Pairs:
    """All atom pairs of all rows in one list; `row` says whose they are."""

    row: np.ndarray
    r: np.ndarray
    first: np.ndarray
    second: np.ndarray
    exponents: np.ndarray
    overlaps: np.ndarray
    signs: np.ndarray
    n_rows: int

    @classmethod
    def of(cls, rows: Sequence[_Row]) -> _Pairs:
        number = np.repeat(np.arange(len(rows)), [len(row.r) for row in rows])
        columns = {
            name: np.concatenate([getattr(row, name) for row in rows])
            for name in ("r", "first", "second", "exponents", "overlaps", "signs")
        }
        return cls(row=number, n_rows=len(rows), **columns)

    def predict(self, factors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Magnitudes (rows, 3) of the components for log factors (4, classes), three amplitudes and the
        width, and their derivatives (rows, 3, 4, classes)."""
        n_classes = factors.shape[1]
        width = 0.5 * (factors[3, self.first] + factors[3, self.second])
        x = np.minimum(self.exponents * np.exp(width) * self.r, 60.0)
        scaled = self.overlaps * np.exp(3.0 * width - x)
        overlap = scaled * (1 + x + x**2 / 3)
        slope = scaled * (3 * (1 + x + x**2 / 3) - x**2 * (1 + x) / 3)
        values = np.empty((self.n_rows, 3))
        derivatives = np.zeros((self.n_rows, 3, 4, n_classes))
        for c in range(3):
            strength = np.exp(factors[c, self.first] + factors[c, self.second])
            if c in SIGNED:
                strength = strength * self.signs
            values[:, c] = np.bincount(self.row, strength * overlap, self.n_rows)
            for end in (self.first, self.second):
                slot = self.row * n_classes + end
                derivatives[:, c, c] += np.bincount(
                    slot, strength * overlap, self.n_rows * n_classes
                ).reshape(-1, n_classes)
                derivatives[:, c, 3] += np.bincount(
                    slot, 0.5 * strength * slope, self.n_rows * n_classes
                ).reshape(-1, n_classes)
        return values, derivatives


def _solve(rows: Sequence[_Row], n_classes: int) -> np.ndarray:
    """Log factors (4, classes) by robust least squares from a uniform start."""
    pairs = _Pairs.of(rows)
    targets = np.array([row.targets for row in rows])
    weights = np.array([row.weights for row in rows])
    total_targets = np.array([row.total_target for row in rows])
    total_weights = np.array([row.total_weight for row in rows])
    signs = np.array([SIGNS[name] for name in COMPONENTS])
    start = np.zeros((4, n_classes))
    bare, _ = pairs.predict(start)
    for c in range(3):
        w = weights[:, c] ** 2
        ratio = np.sum(w * bare[:, c] * targets[:, c]) / np.sum(w * bare[:, c] ** 2)
        start[c] = 0.5 * np.log(max(ratio, 1e-3))
    centring = np.kron(np.eye(3), np.eye(n_classes) - 1.0 / n_classes)
    ridge = np.zeros((4 * n_classes, 4 * n_classes))
    ridge[: 3 * n_classes, : 3 * n_classes] = RIDGE * centring
    ridge[3 * n_classes :, 3 * n_classes :] = WIDTH_RIDGE * np.eye(n_classes)

    wall = np.zeros((2 * n_classes, 4 * n_classes))
    for c in WALL_SHARES:
        rows_of_wall = np.arange(n_classes) + (c - 1) * n_classes
        wall[rows_of_wall, np.arange(n_classes) + c * n_classes] = WALL_WEIGHT
        wall[rows_of_wall, np.arange(n_classes)] = -WALL_WEIGHT

    limits = np.repeat([np.log(WALL_SHARES[1]), np.log(WALL_SHARES[2])], n_classes)

    def excess(flat: np.ndarray) -> np.ndarray:
        return wall @ flat - WALL_WEIGHT * limits

    def residuals(flat: np.ndarray) -> np.ndarray:
        values, _ = pairs.predict(flat.reshape(4, n_classes))
        return np.concatenate(
            [
                (weights * (values - targets)).ravel(),
                total_weights * (values @ signs - total_targets),
                ridge @ flat,
                np.maximum(excess(flat), 0.0),
            ]
        )

    def jacobian(flat: np.ndarray) -> np.ndarray:
        _, derivatives = pairs.predict(flat.reshape(4, n_classes))
        hinge = wall * (excess(flat) > 0)[:, None]
        components = (weights[:, :, None, None] * derivatives).reshape(targets.size, -1)
        totals = np.einsum("r,c,rckl->rkl", total_weights, signs, derivatives).reshape(len(rows), -1)
        return np.vstack([components, totals, ridge, hinge])

    lower, upper = np.full((4, n_classes), -8.0), np.full((4, n_classes), 12.0)
    lower[3], upper[3] = np.log(0.5), np.log(1.3)
    inside = np.clip(start, lower + 1e-3, upper - 1e-3).ravel()
    found = least_squares(residuals, inside, jacobian, bounds=(lower.ravel(), upper.ravel()), loss="soft_l1")
    return found.x.reshape(4, n_classes)


def _is_bare_cation(species: SpeciesTensors) -> bool:
    return len(species.widths) == 1 and float(species.charges.sum()) > 0


def is_held_out(scan: str) -> bool:
    """Whether the trial fit leaves a scan out: every third of a pair does."""
    return int(scan.rsplit("#", 1)[1]) % 3 == 2


def _report(
    points: Sequence[DimerPoint], rows: Sequence[_Row], factors: np.ndarray
) -> dict[str, dict[str, float]]:
    """Root mean square errors by pair of species, of bound points (total < 0) and all, by component."""
    if not rows:
        return {}
    predicted, _ = _Pairs.of(rows).predict(factors)
    errors: dict[str, list[tuple[bool, np.ndarray]]] = {}
    for point, row, own in zip(points, rows, predicted, strict=True):
        signed = np.array([SIGNS[name] for name in COMPONENTS]) * (own - row.targets)
        total = _total(point)
        errors.setdefault(" + ".join(point.names), []).append((total < 0, signed))
    report = {}
    for pair, values in errors.items():
        bound = np.array([e for inside, e in values if inside])
        report[pair] = {"points": float(len(values)), "bound_points": float(len(bound))}
        if len(bound):
            for c, name in enumerate(("exchange", "electrostatics", "induction")):
                report[pair][f"{name}_rms"] = float(np.sqrt(np.mean(bound[:, c] ** 2)))
    return report


def _coarser(
    classes: Mapping[str, ShortRangeClass], species: Mapping[str, SpeciesParameters]
) -> dict[str, ShortRangeClass]:
    """Fallback classes for coarser labels and for everything: geometric means weighted by the data behind."""
    members: dict[str, dict[str, ShortRangeClass]] = {FALLBACK: dict(classes)}
    for s in species.values():
        for labels in s.atom_classes:
            for label in labels[CLASS_LEVEL + 1 :]:
                if label not in classes:
                    members.setdefault(label, {})[labels[CLASS_LEVEL]] = classes[labels[CLASS_LEVEL]]
    return {label: _mean(list(own.values())) for label, own in members.items()}


def _mean(classes: Sequence[ShortRangeClass]) -> ShortRangeClass:
    weights = np.array([max(c.points, 1) for c in classes], dtype=float)

    def mean(name: str) -> float:
        return float(np.exp(np.average(np.log([getattr(c, name) for c in classes]), weights=weights)))

    return ShortRangeClass(
        exchange=mean("exchange"),
        penetration=mean("penetration"),
        charge_transfer=mean("charge_transfer"),
        width=mean("width"),
        points=int(weights.sum()),
    )
