"""A molecule or ion as a graph: atoms, bonds, symmetry classes and transferable atom classes from a SMILES.

All classes come from the graph of elements and connections alone, without bond orders or formal charges.
Every hydrogen is an atom of that graph, so degrees tell a carbonyl oxygen from an ether oxygen, while atoms
that only the drawing of one resonance form distinguishes (oxygens of ClO4-, of a sulfonyl) are equal.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from rdkit import Chem, rdBase

from phyff.errors import InputError

SUPPORTED_ELEMENTS = frozenset("H Li B C N O F Na Mg Al Si P S Cl K Ca Zn Br".split())


@dataclass(frozen=True)
class Molecule:
    """One connected, closed-shell molecule or ion with all hydrogens explicit; atom indices count from 0.

    Two molecules are equal when they are the same species in the same atom order.
    """

    smiles: str
    """Canonical SMILES, hydrogens implicit."""
    mapped_smiles: str
    """SMILES with every atom explicit; atom i carries map number i + 1."""
    elements: tuple[str, ...]
    formal_charges: tuple[int, ...]
    """As drawn: a resonance form, not a physical charge."""
    charge: int
    """Net charge (e)."""
    bonds: tuple[tuple[int, int], ...]
    """Bonded pairs (i, j) with i < j, sorted."""
    symmetry_classes: tuple[int, ...]
    """Equal integers for graph-equivalent atoms, counted from 0 in order of first appearance."""
    atom_classes: tuple[tuple[str, ...], ...]
    """Four labels an atom, finest first; EC's carbonyl oxygen has ("O1(C3(O2,O2))", "O1(C3)", "O1", "O").
    Each number is a count of bonded atoms, brackets list the bonded atoms (at the finest level with their own
    further partners). A monoatomic ion is e.g. "Li+" at every level."""

    @classmethod
    def from_smiles(cls, smiles: str) -> "Molecule":
        """Read a SMILES; atom order is canonical unless every atom (hydrogens too) carries a map number 1..N.

        Raises InputError for text that is not a SMILES, several fragments, radicals, isotopes, partial or
        repeated map numbers, and elements outside SUPPORTED_ELEMENTS.
        """
        mol = _ordered(parse_smiles(smiles), smiles)
        _check(mol, smiles)
        for atom in mol.GetAtoms():
            atom.SetAtomMapNum(atom.GetIdx() + 1)
        mapped_smiles = Chem.MolToSmiles(mol, allHsExplicit=True)
        elements = tuple(atom.GetSymbol() for atom in mol.GetAtoms())
        charges = tuple(atom.GetFormalCharge() for atom in mol.GetAtoms())
        bonds = tuple(
            sorted(
                (min(b.GetBeginAtomIdx(), b.GetEndAtomIdx()), max(b.GetBeginAtomIdx(), b.GetEndAtomIdx()))
                for b in mol.GetBonds()
            )
        )
        neighbours = _neighbour_lists(len(elements), bonds)
        return cls(
            smiles=_canonical_smiles(mol),
            mapped_smiles=mapped_smiles,
            elements=elements,
            formal_charges=charges,
            charge=sum(charges),
            bonds=bonds,
            symmetry_classes=_symmetry_classes(elements, neighbours),
            atom_classes=tuple(_atom_classes(i, elements, charges, neighbours) for i in range(len(elements))),
        )

    @property
    def n_atoms(self) -> int:
        """Number of atoms, hydrogens included."""
        return len(self.elements)

    @property
    def masses(self) -> np.ndarray:
        """Standard atomic weights (amu), shape (n_atoms,)."""
        table = Chem.GetPeriodicTable()
        return np.array([table.GetAtomicWeight(element) for element in self.elements])

    @property
    def atomic_numbers(self) -> np.ndarray:
        """Shape (n_atoms,), integers."""
        table = Chem.GetPeriodicTable()
        return np.array([table.GetAtomicNumber(element) for element in self.elements])

    @property
    def formula(self) -> str:
        """Hill formula without charge, such as C3H4O3."""
        counts = {element: self.elements.count(element) for element in sorted(set(self.elements))}
        first = [e for e in ("C", "H") if "C" in counts and e in counts]
        order = first + [e for e in counts if e not in first]
        return "".join(f"{e}{counts[e] if counts[e] > 1 else ''}" for e in order)

    @property
    def graph_key(self) -> str:
        """Equal for drawings (resonance forms, atom orders, enantiomers) of one species, else different."""
        return _graph_key(self)

    def neighbours(self, atom: int) -> tuple[int, ...]:
        """Atoms bonded to `atom`, ascending."""
        return _neighbour_lists(self.n_atoms, self.bonds)[atom]

    def distance_matrix(self) -> np.ndarray:
        """Number of bonds on the shortest path between atoms, shape (n_atoms, n_atoms), integers."""
        return _distances(_neighbour_lists(self.n_atoms, self.bonds)).copy()

    def rdkit(self) -> Chem.Mol:
        """A fresh RDKit molecule with explicit hydrogens in this atom order, without map numbers."""
        mol = _ordered(parse_smiles(self.mapped_smiles), self.mapped_smiles)
        for atom in mol.GetAtoms():
            atom.SetAtomMapNum(0)
        return mol

    def skeleton(self) -> Chem.Mol:
        """The graph with single bonds and no charges, so that resonance forms are the same."""
        mol = Chem.RWMol()
        for element in self.elements:
            atom = Chem.Atom(element)
            atom.SetNoImplicit(True)
            mol.AddAtom(atom)
        for i, j in self.bonds:
            mol.AddBond(i, j, Chem.BondType.SINGLE)
        return mol.GetMol()


def parse_smiles(smiles: str) -> Chem.Mol:
    """Sanitised RDKit molecule with every hydrogen of the text kept."""
    text = smiles.strip()
    if not text or any(character.isspace() for character in text):
        raise InputError(f"SMILES {smiles!r} is empty or holds blanks; write one SMILES without spaces.")
    parameters = Chem.SmilesParserParams()
    parameters.removeHs = False  # type: ignore[assignment]
    with rdBase.BlockLogs():
        mol = Chem.MolFromSmiles(text, parameters)
    if mol is None or mol.GetNumAtoms() == 0:
        raise InputError(
            f"SMILES {smiles!r} is not valid; check brackets, ring numbers, charges and valences."
        )
    return mol


def _ordered(mol: Chem.Mol, smiles: str) -> Chem.Mol:
    """Molecule with all hydrogens, in map order if mapped, else in the order of its canonical SMILES."""
    if not any(atom.GetAtomMapNum() for atom in mol.GetAtoms()):
        with rdBase.BlockLogs():
            canonical = Chem.MolFromSmiles(Chem.MolToSmiles(Chem.RemoveHs(mol)))
        return Chem.AddHs(canonical)
    complete = Chem.AddHs(mol)
    maps = [atom.GetAtomMapNum() for atom in complete.GetAtoms()]
    if sorted(maps) != list(range(1, len(maps) + 1)):
        raise InputError(
            f"SMILES {smiles!r} has map numbers that do not number its {len(maps)} atoms (with hydrogens) "
            f"1 to {len(maps)} once each; map every atom or none."
        )
    order = sorted(range(len(maps)), key=maps.__getitem__)
    return Chem.RenumberAtoms(complete, order)


def _check(mol: Chem.Mol, smiles: str) -> None:
    if len(Chem.GetMolFrags(mol)) > 1:
        raise InputError(
            f"SMILES {smiles!r} is a mixture of several species; give one molecule or ion at a time (no '.')."
        )
    for atom in mol.GetAtoms():
        if atom.GetSymbol() not in SUPPORTED_ELEMENTS:
            raise InputError(
                f"SMILES {smiles!r} holds the element {atom.GetSymbol()!r}, for which there is no data; "
                f"supported are {', '.join(sorted(SUPPORTED_ELEMENTS))}."
            )
        if atom.GetIsotope():
            raise InputError(f"SMILES {smiles!r} has an isotope label; remove it, natural masses are used.")
        if atom.GetNumRadicalElectrons():
            raise InputError(
                f"SMILES {smiles!r} is a radical at atom {atom.GetSymbol()}; only closed-shell species are "
                "supported, add the missing hydrogens or charge."
            )
    electrons = sum(atom.GetAtomicNum() - atom.GetFormalCharge() for atom in mol.GetAtoms())
    if electrons % 2:
        raise InputError(f"SMILES {smiles!r} has an odd number of electrons ({electrons}); check its charge.")
    if electrons < 2:
        raise InputError(
            f"SMILES {smiles!r} has no electrons to model; write the solvated form, such as [OH3+]."
        )


def _canonical_smiles(mol: Chem.Mol) -> str:
    plain = Chem.Mol(mol)
    for atom in plain.GetAtoms():
        atom.SetAtomMapNum(0)
    return Chem.MolToSmiles(Chem.RemoveHs(plain))


@lru_cache(maxsize=512)
def _neighbour_lists(n_atoms: int, bonds: tuple[tuple[int, int], ...]) -> tuple[tuple[int, ...], ...]:
    lists: list[list[int]] = [[] for _ in range(n_atoms)]
    for i, j in bonds:
        lists[i].append(j)
        lists[j].append(i)
    return tuple(tuple(sorted(neighbours)) for neighbours in lists)


@lru_cache(maxsize=512)
def _distances(neighbours: tuple[tuple[int, ...], ...]) -> np.ndarray:
    """Breadth-first search from every atom of a connected graph."""
    n = len(neighbours)
    distances = np.full((n, n), -1, dtype=int)
    for start in range(n):
        distances[start, start] = 0
        front = [start]
        while front:
            reached = []
            for i in front:
                for j in neighbours[i]:
                    if distances[start, j] < 0:
                        distances[start, j] = distances[start, i] + 1
                        reached.append(j)
            front = reached
    return distances


def _symmetry_classes(elements: tuple[str, ...], neighbours: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
    """Colour refinement of the element-labelled graph; a round sees each atom's distances to every colour.

    Distances tell apart ring sizes, which refinement by bonded neighbours alone would confuse.
    """
    distances = _distances(neighbours).tolist()
    colours = _renumber([(element,) for element in elements])
    while True:
        refined = _renumber(
            [
                (colour, *sorted(zip(row, colours, strict=True)))
                for colour, row in zip(colours, distances, strict=True)
            ]
        )
        if max(refined) == max(colours):
            return refined
        colours = refined


def _renumber(labels: list[tuple]) -> tuple[int, ...]:
    """Integers from 0 in order of first appearance."""
    seen: dict[tuple, int] = {}
    return tuple(seen.setdefault(label, len(seen)) for label in labels)


def _atom_classes(
    atom: int, elements: tuple[str, ...], charges: tuple[int, ...], neighbours: tuple[tuple[int, ...], ...]
) -> tuple[str, ...]:
    """Labels of one atom from finest to coarsest; see Molecule.atom_classes."""

    def label(i: int) -> str:
        return f"{elements[i]}{len(neighbours[i])}"

    def bonded(i: int, depth: int, origin: int | None) -> str:
        others = sorted(bonded(j, depth - 1, i) for j in neighbours[i] if j != origin) if depth else []
        return f"{label(i)}({','.join(others)})" if others else label(i)

    if not neighbours[atom]:
        charge = charges[atom]
        size = str(abs(charge)) if abs(charge) > 1 else ""
        return (f"{elements[atom]}{size}{'+' if charge > 0 else '-' if charge < 0 else ''}",) * 4
    return bonded(atom, 2, None), bonded(atom, 1, None), label(atom), elements[atom]


@lru_cache(maxsize=512)
def _graph_key(molecule: Molecule) -> str:
    key = f"{Chem.MolToSmiles(molecule.skeleton())} {molecule.charge:+d}"
    stereo = [
        element
        for element in Chem.FindPotentialStereo(molecule.rdkit())
        if element.specified == Chem.StereoSpecified.Specified
    ]
    mirror_only = len(stereo) == 1 and stereo[0].type == Chem.StereoType.Atom_Tetrahedral
    return key if not stereo or mirror_only else f"{key} {molecule.smiles}"
