"""Flows of charge of a species (phyff/model/charge_flow.py), from potentials of shapes it takes as it moves.

Ridge regression of what its charges leave of those potentials, above all where they are lowest and cations
sit: with all points alike the electrostatics of Li+ in the grip of dimethoxyethane, in a small part of the
surface, was a third worse. Flows between atoms of the same symmetry classes share their coefficients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from phyff.fit.electrostatics import STRAIGHT_COSINE, cation_weights, traceless
from phyff.model.charge_flow import FlowTensors, bonded_triples
from phyff.model.cluster import site_positions
from phyff.qm.monomer import MonomerDensity
from phyff.species.molecule import Molecule
from phyff.species.parameters import ChargeFlow, DrudeCharges
from phyff.units import BOHR_NM, COULOMB, HARTREE_KJ

RIDGE = 1.0
"""(kJ/mol/e)^2 of the mean squared error of the potential that a flow of 1 e/A, or 1 e/rad, has to save: most
shapes left out were best predicted at 0.3 to 3."""
PER_ANGSTROM = 10.0

Classes = tuple[int, int, int]


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
) -> ChargeFlowFit:
    """Fit all bonded triples of a molecule; none without shapes. weights: of the minima in the mean lengths
    and angles at which nothing has flowed."""
    unknowns = _Unknowns.of(molecule, minima, weights)
    if not shapes or not unknowns.keys:
        return ChargeFlowFit((), {})
    equations = [_Equations.of(unknowns, density, charges) for density in (*minima, *shapes)]
    values = _solve(equations)
    own = equations[len(minima) :]
    unseen = [_solve([other for other in equations if other is not left_out]) for left_out in own]
    quality = {
        "shapes": len(shapes),
        "esp_rms_shapes_kJ_mol_e": _rms([shape.error() for shape in own]),
        "esp_rms_shapes_flow_kJ_mol_e": _rms([shape.error(values) for shape in own]),
        "esp_rms_shapes_flow_left_out_kJ_mol_e": _rms([s.error(v) for s, v in zip(own, unseen, strict=True)]),
    }
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
    """Three coefficients (bond, next bond, angle; e/A and e/rad) for each kind of triple; `rest` (kinds, 3)
    what lengths and angles are at rest, `straight` (kinds,) whether an angle may become straight."""

    triples: np.ndarray
    kinds: np.ndarray
    keys: list[Classes]
    rest: np.ndarray
    straight: np.ndarray

    @classmethod
    def of(cls, molecule: Molecule, minima: Sequence[MonomerDensity], weights: Sequence[float]) -> _Unknowns:
        triples = np.array(bonded_triples(molecule), dtype=int).reshape(-1, 3)
        names = [tuple(molecule.symmetry_classes[atom] for atom in triple) for triple in triples]
        keys = sorted(set(names))
        kinds = np.array([keys.index(name) for name in names], dtype=int)
        members = np.eye(len(keys))[kinds].T
        found = np.average([_coordinates(triples, d.xyz) for d in minima], axis=0, weights=weights)
        rest = members @ found / members.sum(1, keepdims=True)
        # of any member: octahedral ions have straight and right angles between like atoms
        straight = members @ (np.cos(found[:, 2]) < STRAIGHT_COSINE) > 0
        return cls(triples, kinds, keys, rest, straight)

    def design(self, density: MonomerDensity) -> np.ndarray:
        """(G, 3 kinds) potential, kJ/mol/e, for unit coefficients."""
        away = np.linalg.norm(density.esp_points[:, None] - density.xyz[None], axis=2) * BOHR_NM
        moved = COULOMB * (1 / away[:, self.triples[:, 0]] - 1 / away[:, self.triples[:, 1]])
        change = _coordinates(self.triples, density.xyz) - self.rest[self.kinds]
        change[self.straight[self.kinds], 2] = 0.0
        columns = np.zeros((len(self.keys), 3, len(away)))
        np.add.at(columns, self.kinds, np.einsum("gt,tc->tcg", moved, change))
        return columns.reshape(-1, len(away)).T

    def flows(self, values: np.ndarray) -> tuple[ChargeFlow, ...]:
        """As parameters; bends that may become straight are zero."""
        rows = np.where(np.arange(3) == 2, ~self.straight[:, None], True) * values.reshape(-1, 3)
        return tuple(
            ChargeFlow(
                classes=key,
                bond=float(PER_ANGSTROM * row[0]),
                next_bond=float(PER_ANGSTROM * row[1]),
                bend=float(row[2]),
                at_rest=float(row @ rest),
            )
            for key, row, rest in zip(self.keys, rows, self.rest, strict=True)
        )


def _coordinates(triples: np.ndarray, xyz: np.ndarray) -> np.ndarray:
    """(T, 3): lengths i-j and j-k in angstrom, and the angle, rad, in a geometry (n, 3) bohr."""
    i, j, k = triples.T
    near, far = xyz[i] - xyz[j], xyz[k] - xyz[j]
    one, other = (np.linalg.norm(edge, axis=1) for edge in (near, far))
    cosine = np.clip((near * far).sum(1) / (one * other), -1.0, 1.0)
    scale = BOHR_NM * PER_ANGSTROM
    return np.stack([scale * one, scale * other, np.arccos(cosine)], axis=1)


@dataclass(frozen=True)
class _Equations:
    """Mean squared error of a geometry's potential as cations see it, (kJ/mol/e)^2, as normal equations."""

    matrix: np.ndarray
    vector: np.ndarray
    constant: float

    @classmethod
    def of(cls, unknowns: _Unknowns, density: MonomerDensity, charges: DrudeCharges) -> _Equations:
        design, left, weights = unknowns.design(density), _left(density, charges), cation_weights(density)
        weighed = weights[:, None] * design
        return cls(weighed.T @ design, weighed.T @ left, float(weights @ left**2))

    def error(self, values: np.ndarray | None = None) -> float:
        """Of some coefficients, or of none."""
        if values is None:
            return self.constant
        return float(values @ self.matrix @ values - 2 * values @ self.vector) + self.constant


def _left(density: MonomerDensity, charges: DrudeCharges) -> np.ndarray:
    """(G,) kJ/mol/e, what the charges leave of the potential."""
    sites = site_positions(charges.sites, torch.tensor(density.xyz * BOHR_NM)).numpy() / BOHR_NM
    away = np.linalg.norm(density.esp_points[:, None] - np.vstack([density.xyz, sites])[None], axis=2)
    values = np.array([*charges.atoms, *(site.charge for site in charges.sites)])
    return HARTREE_KJ * (density.esp_values - (values / away).sum(1))


def _solve(equations: Sequence[_Equations]) -> np.ndarray:
    matrix = np.mean([e.matrix for e in equations], axis=0)
    return np.linalg.solve(
        matrix + RIDGE * np.eye(len(matrix)), np.mean([e.vector for e in equations], axis=0)
    )


def _rms(squares: Sequence[float]) -> float:
    return float(np.sqrt(np.mean(squares)))
