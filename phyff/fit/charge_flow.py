"""Flows of charge of a species (phyff/model/charge_flow.py), from potentials of shapes it takes as it moves.

Ridge regression of what its charges leave of those potentials, above all where they are lowest and cations
sit: with all points alike the electrostatics of Li+ in the grip of dimethoxyethane, in a small part of the
surface, was a third worse. Flows between atoms of the same symmetry classes share their coefficients.

Shapes that molecules have beside cations, with their potential at the cation itself, weigh most where there
are any. So close the electrons of the molecule no longer screen its nuclei in full; what its MBIS shells say
of that is taken off, for the penetration of the short range holds it. Where such shapes are known, charge
may also flow in a molecule at rest, as it turns about its bonds and as polar atoms of it meet: only cations
feel it, and what they feel need not be what suits others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from phyff.fit.electrostatics import STRAIGHT_COSINE, cation_weights, traceless
from phyff.model.charge_flow import POLAR, FlowTensors, flow_triples
from phyff.model.cluster import site_positions
from phyff.qm.monomer import ContactPotential, MonomerDensity
from phyff.species.molecule import Molecule
from phyff.species.parameters import ChargeFlow, DrudeCharges
from phyff.units import BOHR_NM, COULOMB, HARTREE_KJ

RIDGE = 1.0
"""(kJ/mol/e)^2 of the mean squared error of the potential that a flow of 1 e/A, or 1 e/rad, has to save: most
shapes left out were best predicted at 0.3 to 3."""
AT_CATIONS = 0.5
"""Share of the error of a shape beside cations that is the error at these; the shells around it have the
rest."""
PER_ANGSTROM = 10.0

Kind = tuple[int, tuple[int, int, int]]
"""Bonds from i to k, and the symmetry classes of i, j, k."""


@dataclass(frozen=True)
class ChargeFlowFit:
    """Flows of a species, and how well they predict potentials of its shapes (root mean square errors with
    cation_weights)."""

    flows: tuple[ChargeFlow, ...]
    quality: dict[str, float]


def fit_charge_flow(
    molecule: Molecule,
    minima: Sequence[MonomerDensity],
    weights: Sequence[float],
    shapes: Sequence[MonomerDensity],
    charges: DrudeCharges,
    contacts: Sequence[ContactPotential] = (),
) -> ChargeFlowFit:
    """Fit all bonded triples of a molecule, with contacts also the far ones; none without shapes. weights: of
    the minima in the mean lengths and angles at which, without contacts, nothing has flowed."""
    unknowns = _Unknowns.of(molecule, minima, weights, for_cations=bool(contacts))
    if not shapes or not unknowns.keys:
        return ChargeFlowFit((), {})
    equations = [_Equations.of_density(unknowns, density, charges) for density in (*minima, *shapes)]
    equations += [_Equations.of_contact(unknowns, contact, charges, minima[0]) for contact in contacts]
    values = _solve(equations)

    def errors(own: Sequence[_Equations]) -> tuple[float, float, float]:
        """Without flow, with it, and with a flow that has not seen the shape."""
        unseen = [_solve([other for other in equations if other is not left_out]) for left_out in own]
        return (
            _rms([shape.error() for shape in own]),
            _rms([shape.error(values) for shape in own]),
            _rms([shape.error(value) for shape, value in zip(own, unseen, strict=True)]),
        )

    moving, beside = equations[len(minima) :][: len(shapes)], equations[len(minima) + len(shapes) :]
    quality: dict[str, float] = {}
    for kind, own in (("shapes", moving), ("contacts", beside)):
        if own:
            quality[kind] = len(own)
            for which, error in zip(("", "_flow", "_flow_left_out"), errors(own), strict=True):
                quality[f"esp_rms_{kind}{which}_kJ_mol_e"] = error
    return ChargeFlowFit(unknowns.flows(values), quality)


def without_flow(molecule: Molecule, density: MonomerDensity, flows: Sequence[ChargeFlow]) -> MonomerDensity:
    """The density with the potential and moments that are left for charges which do not move."""
    tensors = FlowTensors.of(molecule, flows)
    moved = tensors.charges(torch.tensor(density.xyz * BOHR_NM)).numpy()
    charges = np.zeros(molecule.n_atoms)
    np.add.at(charges, tensors.atoms[:, 0].numpy(), moved)
    np.add.at(charges, tensors.atoms[:, 1].numpy(), -moved)
    away = np.linalg.norm(density.esp_points[:, None] - density.xyz[None], axis=2)
    second_moment = np.einsum("n,na,nb->ab", charges, density.xyz, density.xyz)
    return replace(
        density,
        esp_values=density.esp_values - (charges / away).sum(1),
        dipole=density.dipole - charges @ density.xyz,
        quadrupole=density.quadrupole - traceless(second_moment),
    )


@dataclass(frozen=True)
class _Unknowns:
    """Coefficients of each kind of triple: bond and next bond, e/A, angle, e/rad, reciprocal distance, e A,
    and charge at rest, e.

    Attributes:
        triples: (T, 3). kinds: (T,) of these, by number in `keys`.
        rest: (kinds, 4) what lengths, angles and reciprocal distances are at rest.
        free: (kinds, 5) which coefficients are fitted; the others are zero.
    """

    triples: np.ndarray
    kinds: np.ndarray
    keys: list[Kind]
    rest: np.ndarray
    free: np.ndarray

    @classmethod
    def of(
        cls,
        molecule: Molecule,
        minima: Sequence[MonomerDensity],
        weights: Sequence[float],
        for_cations: bool = False,
    ) -> _Unknowns:
        """for_cations: charge also flows at rest, and in far triples, which leave bonds to the others."""
        found_triples = flow_triples(molecule, far=for_cations)
        triples = np.array([triple for _, triple in found_triples], dtype=int).reshape(-1, 3)
        classes = np.array(molecule.symmetry_classes)
        names = [
            (apart, (i, j, k))
            for (apart, _), (i, j, k) in zip(found_triples, classes[triples].tolist(), strict=True)
        ]
        keys = sorted(set(names))
        kinds = np.array([keys.index(name) for name in names], dtype=int)
        members = np.eye(len(keys))[kinds].T
        found = np.average([_coordinates(triples, d.xyz) for d in minima], axis=0, weights=weights)
        rest = members @ found / members.sum(1, keepdims=True)
        # of any member: octahedral ions have straight and right angles between like atoms
        straight = members @ (np.cos(found[:, 2]) < STRAIGHT_COSINE) > 0
        near, turns = (np.array([key[0] == apart for key in keys], dtype=bool) for apart in (2, 3))
        polar = [molecule.elements[k] in POLAR and molecule.elements[i] != "H" for i, _, k in triples]
        pushes = ~near & (members @ polar > 0)
        free = np.stack([near, near | turns, (near | turns) & ~straight, pushes, for_cations & near], axis=1)
        return cls(triples, kinds, keys, rest, free)

    def design(self, xyz: np.ndarray, points: np.ndarray) -> np.ndarray:
        """(G, coefficients) potential, kJ/mol/e, for unit coefficients, at points (G, 3) around atoms (n, 3),
        bohr."""
        away = np.linalg.norm(points[:, None] - xyz[None], axis=2) * BOHR_NM
        moved = COULOMB * (1 / away[:, self.triples[:, 0]] - 1 / away[:, self.triples[:, 1]])
        change = _coordinates(self.triples, xyz) - self.rest[self.kinds]
        change = np.column_stack([change, np.ones(len(change))]) * self.free[self.kinds]
        columns = np.zeros((len(self.keys), change.shape[1], len(away)))
        np.add.at(columns, self.kinds, np.einsum("gt,tc->tcg", moved, change))
        return columns.reshape(-1, len(away)).T

    def flows(self, values: np.ndarray) -> tuple[ChargeFlow, ...]:
        """As parameters."""
        return tuple(
            ChargeFlow(
                classes=classes,
                apart=apart,
                bond=float(PER_ANGSTROM * row[0]),
                next_bond=float(PER_ANGSTROM * row[1]),
                bend=float(row[2]),
                through=float(row[3] / PER_ANGSTROM),
                at_rest=float(row[:4] @ rest - row[4]),
            )
            for (apart, classes), row, rest in zip(self.keys, values.reshape(-1, 5), self.rest, strict=True)
        )


def _coordinates(triples: np.ndarray, xyz: np.ndarray) -> np.ndarray:
    """(T, 4): lengths i-j and j-k in angstrom, the angle, rad, and the reciprocal of the length i-k, 1/A, in
    a geometry (n, 3) bohr."""
    i, j, k = triples.T
    near, far = xyz[i] - xyz[j], xyz[k] - xyz[j]
    one, other = (np.linalg.norm(edge, axis=1) for edge in (near, far))
    cosine = np.clip((near * far).sum(1) / (one * other), -1.0, 1.0)
    scale = BOHR_NM * PER_ANGSTROM
    across = scale * np.linalg.norm(near - far, axis=1)
    return np.stack([scale * one, scale * other, np.arccos(cosine), 1 / across], axis=1)


@dataclass(frozen=True)
class _Equations:
    """Mean squared error of a geometry's potential as cations see it, (kJ/mol/e)^2, as normal equations."""

    matrix: np.ndarray
    vector: np.ndarray
    constant: float

    @classmethod
    def of(cls, design: np.ndarray, left: np.ndarray, weights: np.ndarray) -> _Equations:
        weighed = weights[:, None] * design
        return cls(weighed.T @ design, weighed.T @ left, float(weights @ left**2))

    @classmethod
    def of_density(cls, unknowns: _Unknowns, density: MonomerDensity, charges: DrudeCharges) -> _Equations:
        left = left_by_charges(density.xyz, density.esp_points, density.esp_values, charges)
        weights = cation_weights(HARTREE_KJ * density.esp_values)
        return cls.of(unknowns.design(density.xyz, density.esp_points), left, weights)

    @classmethod
    def of_contact(
        cls, unknowns: _Unknowns, contact: ContactPotential, charges: DrudeCharges, density: MonomerDensity
    ) -> _Equations:
        """density: of any shape, for the shells of its atoms."""
        points = np.concatenate([contact.cations, contact.points.reshape(-1, 3)])
        values = np.concatenate([contact.at_cations, contact.values.ravel()])
        values = values - penetration_potential(density, contact.xyz, points)
        shells = [cation_weights(HARTREE_KJ * own) / len(contact.values) for own in contact.values]
        at_cations = np.full(len(contact.cations), AT_CATIONS / len(contact.cations))
        weights = np.concatenate([at_cations, *((1 - AT_CATIONS) * own for own in shells)])
        left = left_by_charges(contact.xyz, points, values, charges)
        return cls.of(unknowns.design(contact.xyz, points), left, weights)

    def error(self, values: np.ndarray | None = None) -> float:
        """Of some coefficients, or of none."""
        if values is None:
            return self.constant
        return float(values @ self.matrix @ values - 2 * values @ self.vector) + self.constant


def penetration_potential(density: MonomerDensity, xyz: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(G,) hartree/e at points (G, 3) bohr, what the MBIS shells of a density, on atoms at xyz (n, 3), lack
    of screening their nuclei there: of N electrons ~ exp(-r/s), N/r (1 + r/2s) exp(-r/s)."""
    away = np.linalg.norm(points[:, None] - xyz[None], axis=2)
    lacking = np.zeros(len(points))
    for r, populations, widths in zip(away.T, density.shell_populations, density.shell_widths, strict=True):
        for electrons, width in zip(populations, widths, strict=True):
            lacking += electrons / r * (1 + r / (2 * width)) * np.exp(-r / width)
    return lacking


def left_by_charges(
    xyz: np.ndarray, points: np.ndarray, potential: np.ndarray, charges: DrudeCharges
) -> np.ndarray:
    """(G,) kJ/mol/e, what the charges leave of a potential, hartree/e, at points (G, 3), bohr."""
    sites = site_positions(charges.sites, torch.tensor(xyz * BOHR_NM)).numpy() / BOHR_NM
    away = np.linalg.norm(points[:, None] - np.vstack([xyz, sites])[None], axis=2)
    values = np.array([*charges.atoms, *(site.charge for site in charges.sites)])
    left: np.ndarray = HARTREE_KJ * (potential - (values / away).sum(1))
    return left


def _solve(equations: Sequence[_Equations]) -> np.ndarray:
    matrix = np.mean([e.matrix for e in equations], axis=0)
    return np.linalg.solve(
        matrix + RIDGE * np.eye(len(matrix)), np.mean([e.vector for e in equations], axis=0)
    )


def _rms(squares: Sequence[float]) -> float:
    return float(np.sqrt(np.mean(squares)))
