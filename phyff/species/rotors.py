"""Bonds whose turning changes a molecule's shape, from its graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rdkit import Chem

from phyff.species.molecule import parse_smiles

Torsion = tuple[int, int, int, int]


@dataclass(frozen=True)
class Rotor:
    """Bonds of a molecule that are alike and may turn: a torsion about each, and its elements."""

    label: str
    torsions: tuple[Torsion, ...]


def rotors(mapped_smiles: str) -> tuple[Rotor, ...]:
    """Single bonds outside of rings whose turning changes a molecule's shape: neither end is last in its
    chain, straight, or holds atoms that are all alike (methyl, CF3).

    mapped_smiles: numbers every atom, hydrogens too, from 1; torsions count from 0 in that order.
    """
    molecule = parse_smiles(mapped_smiles)
    number = [int(atom.GetAtomMapNum()) - 1 for atom in molecule.GetAtoms()]
    for atom in molecule.GetAtoms():
        atom.SetAtomMapNum(0)  # numbers would tell atoms apart that are alike
    ranks = list(Chem.CanonicalRankAtoms(molecule, breakTies=False))
    found: dict[tuple[int, ...], list[tuple[Chem.Atom, ...]]] = {}
    for bond in molecule.GetBonds():
        ends = sorted((bond.GetBeginAtom(), bond.GetEndAtom()), key=lambda atom: ranks[atom.GetIdx()])
        beside = [
            _telling_first([n for n in end.GetNeighbors() if n.GetIdx() != other.GetIdx()], ranks)
            for end, other in zip(ends, reversed(ends), strict=True)
        ]
        single = bond.GetBondType() == Chem.BondType.SINGLE and not bond.IsInRing()
        if single and all(_is_bent(end, near, ranks) for end, near in zip(ends, beside, strict=True)):
            kind = tuple(ranks[atom.GetIdx()] for atom in ends)
            found.setdefault(kind, []).append((beside[0][0], *ends, beside[1][0]))
    return tuple(
        Rotor(
            "-".join(atom.GetSymbol() for atom in alike[0]),
            tuple(sorted(_torsion(atoms, number) for atoms in alike)),
        )
        for alike in found.values()
    )


def is_achiral(smiles: str) -> bool:
    """Whether a molecule has no atom by which it could differ from its mirror image."""
    found = Chem.FindMolChiralCenters(
        parse_smiles(smiles), includeUnassigned=True, useLegacyImplementation=False
    )
    return not found


def _torsion(atoms: Sequence[Chem.Atom], number: Sequence[int]) -> Torsion:
    first, second, third, fourth = (number[atom.GetIdx()] for atom in atoms)
    return first, second, third, fourth


def _telling_first(beside: Sequence[Chem.Atom], ranks: Sequence[int]) -> list[Chem.Atom]:
    """Those without another alike first, then heavy ones, then those that end there."""
    kinds = [ranks[atom.GetIdx()] for atom in beside]
    order = sorted(
        zip(kinds, beside, strict=True),
        key=lambda own: (kinds.count(own[0]), -own[1].GetAtomicNum(), own[1].GetDegree(), own[0]),
    )
    return [atom for _, atom in order]


def _is_bent(end: Chem.Atom, beside: Sequence[Chem.Atom], ranks: Sequence[int]) -> bool:
    """Whether what stands beside a bond's end tells that the bond has turned: not the end of a straight
    group, nor two or more last atoms that are all alike."""
    alike = len({ranks[atom.GetIdx()] for atom in beside}) == 1 and all(a.GetDegree() == 1 for a in beside)
    straight = end.GetHybridization() == Chem.HybridizationType.SP
    return bool(beside) and not straight and not (len(beside) > 1 and alike)
