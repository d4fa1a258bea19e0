"""Near field of a species (phyff/model/near_field.py), from density and potential of the molecule alone.

Two fits to what quantum chemistry says on shells around its minima, from where a cation is pressed into it to
where spheres and charges do: of the density by a Slater function on each atom, with a direction; and of what
charges, at rest and flown, leave of the potential. Potentials of shapes beside cations, at the cation itself
above all, count in the second. Atoms of one symmetry class share their coefficients.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import least_squares

from phyff.fit.charge_flow import AT_CATIONS, left_by_charges
from phyff.fit.electrostatics import cation_weights
from phyff.model.charge_flow import FlowTensors
from phyff.model.near_field import TERMS, NearFieldTensors, references
from phyff.model.pairs import slater_overlap
from phyff.qm.monomer import CONTACT_DENSITY_SCALES, ContactDensity, ContactPotential
from phyff.species.molecule import Molecule
from phyff.species.parameters import ChargeFlow, DrudeCharges, NearField, Slater
from phyff.units import BOHR_NM, HARTREE_KJ

CATION_SHARE = 0.5
"""Of the weight of a shell, that goes by where the potential is lowest and cations sit; the rest is even."""
DENSEST = 0.015
"""Electrons/bohr^3; beyond, Li+ and any molecule repel by more than 800 kJ/mol."""
RELATIVE, THINNEST = 0.05, 2e-5
"""Errors of the density are weighed against this share of it plus this; electrons/bohr^3, 1 kJ/mol of Li+."""
SHAPE_RIDGE = 0.1
"""Of the mean square of these errors, that a coefficient of one has to save."""
EXPONENT_RIDGE = 1.0
"""The same of an exponent that differs by a factor e from MBIS's."""
MOST = 12.0
"""Of logarithms of amplitudes, and of coefficients: nowhere near, but a fit on its way must not overflow."""
EXPONENT_RANGE = (0.6, 1.8)
"""Of exponents, over MBIS's."""
POTENTIAL_RIDGE = 1e-3
"""Of the mean square of what charges leave of the potential, that a term as large as that has to save."""
SOFT_POTENTIAL = 20.0
"""kJ/mol/e; where more is left, it counts less and less."""


@dataclass(frozen=True)
class NearFieldFit:
    """One entry an atom, and how well they do: weighted root mean square errors of the density, percent, and
    of the potential, kJ/mol/e, beside those of spheres and of charges."""

    atoms: tuple[NearField, ...]
    quality: dict[str, float]


def fit_near_field(
    molecule: Molecule,
    densities: Sequence[ContactDensity],
    weights: Sequence[float],
    slater: Slater,
    charges: DrudeCharges,
    flows: Sequence[ChargeFlow],
    contacts: Sequence[ContactPotential] = (),
) -> NearFieldFit:
    """weights: of the minima; the shapes of contacts together count as much as these. An atom alone has no
    potential, for penetration says the same."""
    unknowns = _Unknowns.of(molecule, slater)
    shares = [w * _shares(d) for w, d in zip(weights, densities, strict=True)]
    around = _Places.of(unknowns, [(d.xyz, d.points) for d in densities])
    shapes, spheres, errors = _fit_shapes(
        unknowns, around, np.concatenate([d.density for d in densities]), np.concatenate(shares)
    )
    quality = {"density_rms_percent": 100.0 * errors, "density_rms_percent_spheres": 100.0 * spheres}
    n = len(unknowns.exponents)
    if molecule.n_atoms == 1:
        return NearFieldFit(unknowns.near_field(shapes, np.zeros(n), np.zeros(n)), quality)
    flown = FlowTensors.of(molecule, flows)

    def left(xyz: np.ndarray, points: np.ndarray, potential: np.ndarray) -> np.ndarray:
        felt = flown.potential(torch.tensor(xyz * BOHR_NM), torch.tensor(points * BOHR_NM)).numpy()
        return left_by_charges(xyz, points, potential, charges) - felt

    beside = [
        (c.xyz, np.concatenate([c.cations, *c.points]), np.concatenate([c.at_cations, *c.values]))
        for c in contacts
    ]
    everywhere = [(d.xyz, d.points, d.potential) for d in densities] + beside
    share = np.concatenate([*shares, *(_contact_shares(c) / len(contacts) for c in contacts)])
    places = _Places.of(unknowns, [(xyz, points) for xyz, points, _ in everywhere])
    exponents, potentials, before, after = _fit_potentials(
        unknowns, places, np.concatenate([left(*own) for own in everywhere]), share
    )
    return NearFieldFit(
        unknowns.near_field(shapes, exponents, potentials),
        {**quality, "potential_rms_kJ_mol_e": after, "potential_rms_kJ_mol_e_charges": before},
    )


def _shares(density: ContactDensity) -> np.ndarray:
    """(G,) weights of the points of a minimum, which sum to one but for those that are too dense."""
    shells = np.split(HARTREE_KJ * density.potential, len(CONTACT_DENSITY_SCALES))
    shares = [(1.0 - CATION_SHARE) / len(own) + CATION_SHARE * cation_weights(own) for own in shells]
    return np.where(density.density < DENSEST, np.concatenate(shares) / len(shells), 0.0)


def _contact_shares(contact: ContactPotential) -> np.ndarray:
    """(C + S G,) weights of cations and shells, which sum to one."""
    at_cations = np.full(len(contact.cations), AT_CATIONS / len(contact.cations))
    shells = [cation_weights(HARTREE_KJ * own) / len(contact.values) for own in contact.values]
    return np.concatenate([at_cations, *((1.0 - AT_CATIONS) * own for own in shells)])


@dataclass(frozen=True)
class _Unknowns:
    """Coefficients of each symmetry class.

    Attributes:
        groups: (n,) class of each atom. terms: of each class (TERMS, k), its k free combinations of terms.
        exponents: (classes,) MBIS's, 1/nm. tensors: the terms of directions, of the molecule's atoms.
    """

    groups: np.ndarray
    terms: tuple[np.ndarray, ...]
    exponents: np.ndarray
    tensors: NearFieldTensors

    @classmethod
    def of(cls, molecule: Molecule, slater: Slater) -> _Unknowns:
        groups = np.array(molecule.symmetry_classes)
        first = [int(np.flatnonzero(groups == g)[0]) for g in range(groups.max() + 1)]
        places = references(molecule)
        one_way, alike = (
            np.eye(TERMS)[:, [0, 2]],
            np.array([[1.0, 1, 0, 0, 0], [0, 0, 1, 0, 1], [0, 0, 0, 1, 0]]),
        )
        terms = []
        for i in first:
            one, other = places[i]
            if one < 0:
                terms.append(np.zeros((TERMS, 0)))
            elif one == other:
                terms.append(one_way)
            else:
                terms.append(alike.T if groups[one] == groups[other] else np.eye(TERMS))
        return cls(groups, tuple(terms), np.array(slater.exponents)[first], NearFieldTensors.of(molecule, ()))

    @property
    def starts(self) -> np.ndarray:
        """(classes + 1,) where the terms of each class begin among those of all."""
        return np.cumsum([0, *(own.shape[1] for own in self.terms)])

    def near_field(
        self, shapes: np.ndarray, exponents: np.ndarray, potentials: np.ndarray
    ) -> tuple[NearField, ...]:
        """Of the unknowns of densities, and of potentials the exponents (classes,), and constants (classes,)
        before the coefficients of all terms."""
        n, rows, starts = len(exponents), [], self.starts
        for g, own in enumerate(self.terms):
            chosen = slice(starts[g], starts[g + 1])
            directed = own @ potentials[n:][chosen] if len(potentials) > n else np.zeros(TERMS)
            rows.append(
                NearField(
                    density=float(np.exp(shapes[g]) / BOHR_NM**3),
                    density_exponent=float(np.exp(shapes[n + g])),
                    shape=tuple((own @ shapes[2 * n :][chosen]).tolist()),
                    potential=(float(potentials[g]), *directed.tolist()),
                    exponent=float(exponents[g]),
                )
            )
        return tuple(rows[g] for g in self.groups)


@dataclass(frozen=True)
class _Places:
    """Distances (P, n), nm, of points from atoms, and of each class (P, members, k) its terms there."""

    r: np.ndarray
    terms: list[np.ndarray]

    @classmethod
    def of(cls, unknowns: _Unknowns, geometries: Iterable[tuple[np.ndarray, np.ndarray]]) -> _Places:
        found = [
            unknowns.tensors.terms(torch.tensor(xyz * BOHR_NM), torch.tensor(points * BOHR_NM))
            for xyz, points in geometries
        ]
        r, terms = (torch.cat(column).numpy() for column in zip(*found, strict=True))
        own = [terms[:, unknowns.groups == g] @ free for g, free in enumerate(unknowns.terms)]
        return cls(r, own)

    def overlaps(self, groups: np.ndarray, exponents: np.ndarray) -> list[np.ndarray]:
        """Of each class (P, members) the Slater overlap."""
        b = torch.tensor(exponents[groups])
        s = slater_overlap(torch.tensor(self.r), b).numpy()
        return [s[:, groups == g] for g in range(len(exponents))]


def _fit_shapes(
    unknowns: _Unknowns, places: _Places, density: np.ndarray, shares: np.ndarray
) -> tuple[np.ndarray, float, float]:
    """Logarithms of amplitudes (electrons/bohr^3) and exponents (1/nm) of classes, and coefficients of all
    their terms; relative errors (weighted root mean squares) of spheres alone, and with directions."""
    n = len(unknowns.exponents)
    scale = np.sqrt(shares) / (RELATIVE * density + THINNEST)

    def model(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Density and its derivatives (P, unknowns)."""
        amplitudes, exponents, shapes = values[:n], np.exp(values[n : 2 * n]), values[2 * n :]
        total, slopes = np.zeros(len(density)), np.zeros((len(density), len(values)))
        for g, (overlap, terms) in enumerate(
            zip(places.overlaps(unknowns.groups, exponents), places.terms, strict=True)
        ):
            chosen = slice(unknowns.starts[g], unknowns.starts[g + 1])
            fading = np.exp(amplitudes[g] + terms @ shapes[chosen])
            own = fading * overlap
            x = exponents[g] * places.r[:, unknowns.groups == g]
            total += own.sum(1)
            slopes[:, g] = own.sum(1)
            slopes[:, n + g] = (-fading * np.exp(-x) * x**2 * (1 + x) / 3).sum(1)
            slopes[:, 2 * n :][:, chosen] = np.einsum("pm,pmk->pk", own, terms)
        return total, slopes

    ridge = np.concatenate(
        [np.zeros(n), np.full(n, EXPONENT_RIDGE**0.5), np.full(unknowns.starts[-1], SHAPE_RIDGE**0.5)]
    )
    start = np.concatenate([np.zeros(n), np.log(unknowns.exponents), np.zeros(unknowns.starts[-1])])
    least, most = np.full(len(start), -MOST), np.full(len(start), MOST)
    least[n : 2 * n], most[n : 2 * n] = (np.log(unknowns.exponents) + np.log(f) for f in EXPONENT_RANGE)
    found: list[np.ndarray] = []
    for free in (np.arange(len(start)) < 2 * n, np.full(len(start), True)):

        def completed(chosen: np.ndarray, free: np.ndarray = free) -> np.ndarray:
            values = start.copy()
            values[free] = chosen
            return values

        def residuals(chosen: np.ndarray, completed=completed) -> np.ndarray:  # type: ignore[no-untyped-def]
            values = completed(chosen)
            return np.concatenate([scale * (model(values)[0] - density), ridge * (values - start)])

        def jacobian(chosen: np.ndarray, completed=completed, free=free) -> np.ndarray:  # type: ignore[no-untyped-def]
            slopes = scale[:, None] * model(completed(chosen))[1]
            return np.vstack([slopes, np.diag(ridge)])[:, free]

        begin = start[free] if not found else completed(found[-1])[free]
        solution = least_squares(
            residuals, begin, jacobian, bounds=(least[free], most[free]), x_scale="jac", max_nfev=200
        )
        found.append(completed(solution.x))
    missed = [(model(values)[0] - density) / (density + THINNEST / RELATIVE) for values in found]
    spheres, errors = (float(np.sqrt(shares @ own**2 / shares.sum())) for own in missed)
    return found[1], spheres, errors


def _fit_potentials(
    unknowns: _Unknowns, places: _Places, left: np.ndarray, shares: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Exponents (classes,), constants (classes,) and coefficients of all terms, and the errors (weighted root
    mean squares, kJ/mol/e) without and with them."""
    scale = np.sqrt(shares) / (1.0 + np.abs(left) / SOFT_POTENTIAL)
    size = float(np.linalg.norm(scale * left))

    def design(exponents: np.ndarray) -> np.ndarray:
        overlaps = places.overlaps(unknowns.groups, exponents)
        constants = np.stack([own.sum(1) for own in overlaps], axis=1)
        directed = [np.einsum("pm,pmk->pk", s, t) for s, t in zip(overlaps, places.terms, strict=True)]
        return np.column_stack([constants, *directed])

    def solve(logarithms: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Coefficients, weighted errors, and what they cost."""
        columns = scale[:, None] * design(np.exp(logarithms))
        lengths = np.linalg.norm(columns, axis=0) + np.finfo(float).tiny
        ridge = POTENTIAL_RIDGE**0.5 * np.eye(len(lengths))
        values = np.linalg.lstsq(
            np.vstack([columns / lengths, ridge]), np.concatenate([scale * left, np.zeros(len(lengths))])
        )[0]
        return values / lengths, columns @ (values / lengths) - scale * left, ridge @ values

    start = np.log(unknowns.exponents)

    def residuals(logarithms: np.ndarray) -> np.ndarray:
        _, errors, cost = solve(logarithms)
        return np.concatenate([errors, cost, size * POTENTIAL_RIDGE**0.5 * (logarithms - start)])

    bounds = tuple(start + np.log(factor) for factor in EXPONENT_RANGE)
    logarithms = least_squares(residuals, start, bounds=bounds, max_nfev=20).x
    values, errors, _ = solve(logarithms)
    return np.exp(logarithms), values, size, float(np.linalg.norm(errors))
