"""Perception: SMILES to atoms, bonds, symmetry classes and atom classes."""

import pytest

from phyff.errors import InputError
from phyff.species import Molecule
from phyff.species.library import SPECIES

TFSI = "O=S(=O)([N-]S(=O)(=O)C(F)(F)F)C(F)(F)F"
FSI = "O=S(=O)(F)[N-]S(=O)(=O)F"
BOB = "O=C1O[B-]2(OC1=O)OC(=O)C(=O)O2"


def class_sizes(smiles: str) -> dict[str, list[int]]:
    molecule = Molecule.from_smiles(smiles)
    sizes: dict[str, list[int]] = {}
    for label in sorted(set(molecule.symmetry_classes)):
        members = [i for i, c in enumerate(molecule.symmetry_classes) if c == label]
        sizes.setdefault(molecule.elements[members[0]], []).append(len(members))
    return {element: sorted(counts) for element, counts in sizes.items()}


@pytest.mark.parametrize(
    ("smiles", "sizes"),
    [
        ("F[P-](F)(F)(F)(F)F", {"P": [1], "F": [6]}),
        ("F[B-](F)(F)F", {"B": [1], "F": [4]}),
        ("[O-]Cl(=O)(=O)=O", {"Cl": [1], "O": [4]}),
        (FSI, {"S": [2], "N": [1], "O": [4], "F": [2]}),
        ("O=S([O-])(F)=NS(=O)(=O)F", {"S": [2], "N": [1], "O": [4], "F": [2]}),
        (TFSI, {"S": [2], "N": [1], "O": [4], "C": [2], "F": [6]}),
        (BOB, {"B": [1], "C": [4], "O": [4, 4]}),
        ("O=C1O[B-](F)(F)OC1=O", {"B": [1], "C": [2], "O": [2, 2], "F": [2]}),
        ("CC(=O)[O-]", {"C": [1, 1], "O": [2], "H": [3]}),
        ("O=C1OCCO1", {"C": [1, 2], "O": [1, 2], "H": [4]}),
        ("CCOC(C)=O", {"C": [1, 1, 1, 1], "O": [1, 1], "H": [2, 3, 3]}),
        ("[Li+]", {"Li": [1]}),
    ],
)
def test_symmetry_classes_ignore_how_resonance_is_drawn(smiles, sizes):
    assert class_sizes(smiles) == sizes


@pytest.mark.parametrize("species", SPECIES, ids=lambda species: species.name)
def test_the_mapped_smiles_gives_back_the_same_molecule(species):
    molecule = Molecule.from_smiles(species.smiles)
    again, mol = Molecule.from_smiles(molecule.mapped_smiles), molecule.rdkit()
    assert again == molecule
    assert [atom.GetSymbol() for atom in mol.GetAtoms()] == list(molecule.elements)
    assert sum(molecule.formal_charges) == molecule.charge


def test_atom_order_follows_the_maps_of_a_fully_mapped_smiles():
    molecule = Molecule.from_smiles("[O:2]([H:1])[H:3]")
    assert molecule.elements == ("H", "O", "H")
    assert molecule.bonds == ((0, 1), (1, 2))
    assert molecule.neighbours(1) == (0, 2)
    assert molecule.distance_matrix().tolist() == [[0, 1, 2], [1, 0, 1], [2, 1, 0]]


def test_atom_order_does_not_depend_on_how_the_smiles_is_written():
    assert Molecule.from_smiles("O(C)C(OC)=O") == Molecule.from_smiles("COC(=O)OC")


def test_the_graph_key_joins_resonance_forms_and_separates_isomers():
    def key(smiles: str) -> str:
        return Molecule.from_smiles(smiles).graph_key

    assert key("O=S([O-])(F)=NS(=O)(=O)F") == key(FSI)
    assert key("C[C@H]1COC(=O)O1") == key("CC1COC(=O)O1") == key("C[C@@H]1COC(=O)O1")
    assert key("F/C=C/F") != key("F/C=C\\F")
    assert key("CC(=O)OC") != key("COC=O")
    assert key("[Na+]") != key("[Li+]")


def test_atom_classes_run_from_fine_to_coarse():
    carbonate = Molecule.from_smiles("O=C1OCCO1")
    assert carbonate.atom_classes[0] == ("O1(C3(O2,O2))", "O1(C3)", "O1", "O")
    assert Molecule.from_smiles("[Li+]").atom_classes == (("Li+",) * 4,)
    assert Molecule.from_smiles("[Mg+2]").atom_classes == (("Mg2+",) * 4,)
    perchlorate = Molecule.from_smiles("[O-]Cl(=O)(=O)=O")
    assert len({perchlorate.atom_classes[i] for i, e in enumerate(perchlorate.elements) if e == "O"}) == 1


def test_atoms_of_one_symmetry_class_share_their_atom_classes():
    for species in SPECIES:
        molecule = Molecule.from_smiles(species.smiles)
        pairs = set(zip(molecule.symmetry_classes, molecule.atom_classes, strict=True))
        assert len(pairs) == len(set(molecule.symmetry_classes)), species.name


def test_formula_and_masses_describe_all_atoms():
    molecule = Molecule.from_smiles("O=C1OCCO1")
    assert molecule.formula == "C3H4O3"
    assert molecule.masses.sum() == pytest.approx(88.06, abs=0.01)


@pytest.mark.parametrize(
    ("smiles", "says"),
    [
        ("", "empty"),
        ("C C", "spaces"),
        ("C(", "not valid"),
        ("C1CC", "not valid"),
        ("FP(F)(F)(F)(F)F", "not valid"),
        ("[Li+].F[P-](F)(F)(F)(F)F", "mixture"),
        ("[CH3]", "radical"),
        ("[Li]", "radical"),
        ("[2H]C", "isotope"),
        ("[Fe+2]", "element"),
        ("*C", "element"),
        ("[CH3:1]O", "map"),
        ("[O:1]([H:1])[H:2]", "map"),
        ("[H+]", "no electrons"),
    ],
)
def test_a_bad_smiles_gets_one_clear_sentence(smiles, says):
    with pytest.raises(InputError, match=says):
        Molecule.from_smiles(smiles)
