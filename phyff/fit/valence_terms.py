"""Which valence terms a molecule has, where their constants start, and how far they may go.

The molecular graph says which terms exist; symmetry-equivalent terms are of one type and share constants.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from phyff.model import valence as model
from phyff.model.valence import (
    AngleTerm,
    BondTerm,
    ImproperTerm,
    LinearAngleTerm,
    OneFourTerm,
    TorsionPairTerm,
    TorsionTerm,
    UreyBradleyTerm,
    ValenceTerms,
)
from phyff.species.molecule import Molecule
from phyff.species.sampling import NEAR_LINEAR

Array = NDArray[np.float64]


UREY_LOWER = -1e5


TORSION_PAIR_WIDTH = 5.0
"""kJ/mol, of the prior of products of single torsions, and less by the cube of m n for those of multiples, as
suits the twisted geometries that are held out."""


OVERTONES = 6
"""Highest periodicity of torsions of the skeleton."""


OVERTONE_PRIOR, NO_OVERTONE = (0.0, 0.5, -150.0, 150.0), (0.0, 1e-9, -1e-9, 1e-9)


HALVES = {"cosines": model.dihedral_cosines, "sines": model.dihedral_sines}


TORSION_MULTIPLES = ((1, 1), (1, 2), (2, 1), (2, 2))
"""Of the two torsions of a pair."""


@dataclass(frozen=True)
class TermBlock:
    """All terms of one kind; terms of one type share a row of constants."""

    kind: str
    """As in ValenceTerms, but the two halves of torsion pairs are blocks of their own."""
    atoms: list[tuple[int, ...]]
    """Of each of T terms."""
    types: NDArray[np.int64]
    """(T,) row of `values` that serves each term."""
    values: Array
    """(types, constants)."""
    prior: Array
    width: Array
    lower: Array
    upper: Array

    def coordinates(self, xyz: torch.Tensor) -> torch.Tensor:
        """(..., T)."""
        return _COORDINATES[self.kind](xyz, self.atoms)

    def energies(self, q: torch.Tensor, constants: torch.Tensor) -> torch.Tensor:
        """(S, T) kJ/mol from q (S, T) and constants (S, T, constants)."""
        return _ENERGIES[self.kind](q, constants)


def _half(name: str, multiples: tuple[int, int]) -> str:
    """Kind of a block of torsion pairs."""
    return f"{name} of {multiples[0]} and {multiples[1]}"


def _of_pairs(
    products: Callable[..., torch.Tensor],
    multiples: tuple[int, int],
    xyz: torch.Tensor,
    chains: Sequence[tuple[int, ...]],
) -> torch.Tensor:
    return products(xyz, chains, [multiples] * len(chains))


_COORDINATES: dict[str, Callable[[torch.Tensor, Sequence[tuple[int, ...]]], torch.Tensor]] = {
    "bonds": model.distances,
    "angles": model.bend_angles,
    "linear_angles": model.bend_cosines,
    "urey_bradleys": model.distances,
    "one_fours": model.distances,
    "torsions": model.dihedrals,
    "impropers": model.dihedrals,
    **{
        _half(name, pair): partial(_of_pairs, products, pair)
        for name, products in HALVES.items()
        for pair in TORSION_MULTIPLES
    },
}


_ENERGIES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "bonds": lambda q, p: model.bond_energy(q, p[..., 0], p[..., 1], p[..., 2]),
    "angles": lambda q, p: model.angle_energy(q, p[..., 0], p[..., 1]),
    "linear_angles": lambda q, p: model.linear_angle_energy(q, p[..., 0]),
    "urey_bradleys": lambda q, p: model.urey_bradley_energy(q, p[..., 0], p[..., 1]),
    "one_fours": lambda q, p: model.one_four_energy(q, p[..., 0], p[..., 1], p[..., 2]),
    "torsions": model.torsion_energy,
    "impropers": lambda q, p: model.improper_energy(q, p[..., 0]),
    **{_half(name, pair): lambda q, p: p[..., 0] * q for name in HALVES for pair in TORSION_MULTIPLES},
}


_Row = list[tuple[float, float, float, float]]
"""For each constant of a type: prior, its width, lower and upper bound."""


def term_blocks(molecule: Molecule, minima: Sequence[Array]) -> list[TermBlock]:
    """Terms from the graph, typed by symmetry classes, ring membership and, on centres of five ligands or
    more, trans partners."""
    bends = {
        t: model.bend_angles(torch.tensor(np.array(minima)), [t]).max().item() for t in bent_triples(molecule)
    }
    straight = {t for t, angle in bends.items() if angle > NEAR_LINEAR}
    classes = _refined_classes(molecule, straight)
    graph = molecule.rdkit()
    rings = [set(ring) for ring in graph.GetRingInfo().AtomRings()]
    bonded = set(molecule.bonds)

    def key(atoms: tuple[int, ...], *more: object) -> tuple[Any, ...]:
        forward = tuple(classes[a] for a in atoms)
        ring = min((len(r) for r in rings if r.issuperset(atoms)), default=0)
        return (min(forward, forward[::-1]), ring, *more)

    def mean(coordinate: Callable[..., torch.Tensor], members: Sequence[tuple[int, ...]]) -> float:
        return coordinate(torch.tensor(np.array(minima)), members).mean().item()

    def bond(members: list[tuple[int, ...]]) -> _Row:
        r0 = mean(model.distances, members)
        return [(3e5, 2e5, 3e4, 2e6), (r0, 0.005, r0 - 0.02, r0 + 0.02), (20.0, 5.0, 0.0, 35.0)]

    def angle(members: list[tuple[int, ...]]) -> _Row:
        theta0 = mean(model.bend_angles, members)
        return [(400.0, 400.0, 20.0, 4e3), (theta0, 0.05, theta0 - 0.3, theta0 + 0.3)]

    def urey_bradley(members: list[tuple[int, ...]]) -> _Row:
        r0 = mean(model.distances, members)
        return [(0.0, 3e4, UREY_LOWER, 4e5), (r0, 0.01, r0 - 0.03, r0 + 0.03)]

    def one_four(members: list[tuple[int, ...]]) -> _Row:
        centre = mean(model.distances, members)
        return [(0.0, 500.0, -1e4, 1e4), (0.0, 1e4, -1e5, 1e5), (centre, 1e-9, centre, centre + 1e-9)]

    def torsion(members: list[tuple[int, ...]]) -> _Row:
        overtone = OVERTONE_PRIOR if skeleton.intersection(members) else NO_OVERTONE
        return [(0.0, 10.0, -150.0, 150.0)] * order + [overtone] * (OVERTONES - order)

    bent = [t for t in bends if t not in straight]
    linear = [t for t in straight if len(molecule.neighbours(t[1])) == 2]
    ends = {(min(i, k), max(i, k)): key((i, j, k), (i, j, k) in straight) for i, j, k in bends}
    torsions = _torsion_quadruples(molecule, straight)
    apart = molecule.distance_matrix()
    far_ends = {(min(t[0], t[3]), max(t[0], t[3])): key(t) for t in torsions if apart[t[0], t[3]] == 3}
    skeleton = _skeleton_torsions(molecule, torsions)
    chains = _skeleton_chains(molecule, skeleton)
    planar = _planar_centres(molecule, minima)
    order = 4 if any(len(molecule.neighbours(a)) >= 5 for a in range(molecule.n_atoms)) else 3
    out_of_plane = {
        dihedral: (classes[c[0]], tuple(sorted(classes[a] for a in c[1:])))
        for c in planar
        for dihedral in model.improper_dihedrals(c)
    }
    kinds: list[tuple[str, dict[Any, tuple[Any, ...]], Callable[[list[tuple[int, ...]]], _Row]]] = [
        ("bonds", {b: key(b) for b in molecule.bonds}, bond),
        ("angles", {t: key(t) for t in bent}, angle),
        ("linear_angles", {t: key(t) for t in linear}, lambda _: [(200.0, 200.0, 10.0, 2e3)]),
        ("urey_bradleys", {p: k for p, k in ends.items() if p not in bonded}, urey_bradley),
        ("one_fours", far_ends, one_four),
        ("torsions", {t: key(t) for t in torsions}, torsion),
        *(
            (_half(name, pair), _oriented(chains, pair, key, classes), partial(_pair_prior, pair))
            for name in HALVES
            for pair in TORSION_MULTIPLES
        ),
        ("impropers", out_of_plane, lambda _: [(20.0, 30.0, 0.0, 500.0)]),
    ]
    return [_block(kind, keys, start) for kind, keys, start in kinds if keys]


def _pair_prior(multiples: tuple[int, int], members: Sequence[tuple[int, ...]]) -> _Row:
    return [(0.0, TORSION_PAIR_WIDTH / (multiples[0] * multiples[1]) ** 3, -40.0, 40.0)]


def _block(
    kind: str, keys: dict[Any, tuple[Any, ...]], start: Callable[[list[tuple[int, ...]]], _Row]
) -> TermBlock:
    names = list(dict.fromkeys(keys.values()))
    types = np.array([names.index(k) for k in keys.values()], dtype=np.int64)
    rows = np.array([start([a for a, k in keys.items() if k == name]) for name in names]).reshape(
        len(names), -1, 4
    )
    prior, width, lower, upper = np.moveaxis(rows, -1, 0)
    return TermBlock(kind, list(keys), types, prior.copy(), prior, width, lower, upper)


def bent_triples(molecule: Molecule) -> list[tuple[int, int, int]]:
    return [(i, j, k) for j in range(molecule.n_atoms) for i, k in combinations(molecule.neighbours(j), 2)]


def _refined_classes(molecule: Molecule, straight: set[tuple[int, int, int]]) -> list[tuple[int, ...]]:
    """Symmetry class of each atom, with the classes of its trans partners across a centre of five or more
    ligands."""
    partners: list[list[int]] = [[] for _ in range(molecule.n_atoms)]
    for i, j, k in straight:
        if len(molecule.neighbours(j)) >= 5:
            partners[i].append(molecule.symmetry_classes[k])
            partners[k].append(molecule.symmetry_classes[i])
    return [(c, *sorted(p)) for c, p in zip(molecule.symmetry_classes, partners, strict=True)]


def _torsion_quadruples(
    molecule: Molecule, straight: set[tuple[int, int, int]]
) -> list[tuple[int, int, int, int]]:
    """Every chain i-j-k-m without a straight angle."""

    def bent(i: int, j: int, k: int) -> bool:
        return (min(i, k), j, max(i, k)) not in straight

    return [
        (i, j, k, m)
        for j, k in molecule.bonds
        for i in molecule.neighbours(j)
        for m in molecule.neighbours(k)
        if len({i, j, k, m}) == 4 and bent(i, j, k) and bent(j, k, m)
    ]


def _skeleton_torsions(
    molecule: Molecule, torsions: Sequence[tuple[int, int, int, int]]
) -> set[tuple[int, ...]]:
    """Torsions of heavy atoms about bonds outside of rings, in both directions."""
    ring_bonds = {
        frozenset((b.GetBeginAtomIdx(), b.GetEndAtomIdx()))
        for b in molecule.rdkit().GetBonds()
        if b.IsInRing()
    }
    return {
        t
        for i, j, k, m in torsions
        for t in ((i, j, k, m), (m, k, j, i))
        if frozenset((j, k)) not in ring_bonds and all(molecule.elements[a] != "H" for a in t)
    }


def _skeleton_chains(molecule: Molecule, free: set[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Chains of five atoms with two torsions of the skeleton, each once."""
    chains = {(*t, m) for t in free for m in molecule.neighbours(t[3]) if (*t[1:], m) in free and m != t[0]}
    return sorted(c for c in chains if c[0] < c[4])


def _oriented(
    chains: Sequence[tuple[int, ...]],
    multiples: tuple[int, int],
    key: Callable[[tuple[int, ...]], tuple[Any, ...]],
    classes: Sequence[tuple[int, ...]],
) -> dict[tuple[int, ...], tuple[Any, ...]]:
    """The chains with their types, equal ones in the same direction. A chain that equals its reverse takes
    the multiples 1 and 2 in both directions, and so needs no 2 and 1."""
    found: dict[tuple[int, ...], tuple[Any, ...]] = {}
    for chain in chains:
        forward = [classes[a] for a in chain]
        ways = [w for w in (chain, chain[::-1]) if [classes[a] for a in w] == min(forward, forward[::-1])]
        if multiples[0] == multiples[1]:
            ways = ways[:1]
        elif len(ways) == 2 and multiples[0] > multiples[1]:
            ways = []
        found |= {way: key(way) for way in ways}
    return found


def _planar_centres(molecule: Molecule, minima: Sequence[Array]) -> list[tuple[int, int, int, int]]:
    """Three-coordinate centres whose bond angles add up to more than 350 degrees in every minimum."""
    found = []
    for centre in range(molecule.n_atoms):
        around = molecule.neighbours(centre)
        if len(around) != 3:
            continue
        triples = [(i, centre, k) for i, k in combinations(around, 2)]
        angles = model.bend_angles(torch.tensor(np.array(minima)), triples)
        if angles.sum(-1).min().rad2deg() > 350.0 and angles.max() < NEAR_LINEAR:
            found.append((centre, *around))
    return found


def assembled(n_atoms: int, blocks: Sequence[TermBlock]) -> ValenceTerms:
    rows: dict[str, list[tuple[Any, list[float]]]] = {
        b.kind: [(a, b.values[t].tolist()) for a, t in zip(b.atoms, b.types, strict=True)] for b in blocks
    }
    halves = [
        (pair, cosines, sines)
        for pair in TORSION_MULTIPLES
        for cosines, sines in zip(*(rows.get(_half(name, pair), []) for name in HALVES), strict=True)
    ]
    return ValenceTerms(
        n_atoms=n_atoms,
        bonds=tuple(BondTerm(atoms=a, k=v[0], r0=v[1], anharmonicity=v[2]) for a, v in rows.get("bonds", [])),
        angles=tuple(AngleTerm(atoms=a, k=v[0], theta0=v[1]) for a, v in rows.get("angles", [])),
        linear_angles=tuple(LinearAngleTerm(atoms=a, k=v[0]) for a, v in rows.get("linear_angles", [])),
        urey_bradleys=tuple(
            UreyBradleyTerm(atoms=a, k=v[0], r0=v[1]) for a, v in rows.get("urey_bradleys", [])
        ),
        one_fours=tuple(
            OneFourTerm(atoms=a, g=v[0], k=v[1], centre=v[2]) for a, v in rows.get("one_fours", [])
        ),
        torsions=tuple(TorsionTerm(atoms=a, k=_without_zeros(v)) for a, v in rows.get("torsions", [])),
        torsion_pairs=tuple(
            TorsionPairTerm(atoms=a, multiples=pair, c=c[0], s=s[0]) for pair, (a, c), (_, s) in halves
        ),
        impropers=tuple(
            ImproperTerm(atoms=(a[2], a[0], a[1], a[3]), k=v[0]) for a, v in rows.get("impropers", [])[::3]
        ),
    )


def _without_zeros(series: Sequence[float]) -> tuple[float, ...]:
    """Less the overtones at its end that were held at zero."""
    last = max((n for n, k in enumerate(series, start=1) if abs(k) > 2 * NO_OVERTONE[3]), default=1)
    return tuple(series[:last])
