"""Local frames: kinds from the graph, axes that turn with the molecule."""

import numpy as np
import pytest
from rdkit.Chem import rdDistGeom
from scipy.spatial.transform import Rotation

from phyff.errors import InputError
from phyff.species import Molecule
from phyff.species.frames import frame_axes, handedness, local_frames
from phyff.species.library import SPECIES, find


def embedded(name: str) -> tuple[Molecule, np.ndarray]:
    molecule = Molecule.from_smiles(find(name)[1])
    mol = molecule.rdkit()
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=11) == 0
    return molecule, np.array(mol.GetConformer().GetPositions())


@pytest.mark.parametrize("name", [species.name for species in SPECIES])
def test_axes_turn_with_the_molecule(name):
    molecule, xyz = embedded(name)
    frames = local_frames(molecule)
    turn = Rotation.from_euler("zyx", [0.3, -1.1, 2.0]).as_matrix()
    for frame in frames:
        a, b = frame_axes(frame, xyz), frame_axes(frame, xyz @ turn.T + 3.0)
        assert np.allclose(a @ a.T, np.eye(3)) and np.linalg.det(a) == pytest.approx(1)
        if frame.axial:
            assert np.allclose(b[2], turn @ a[2], atol=1e-8)
        elif not frame.isotropic:
            assert np.allclose(b, a @ turn.T, atol=1e-8)


@pytest.mark.parametrize("name", [species.name for species in SPECIES])
def test_equivalent_atoms_get_the_same_kind_of_frame_on_equivalent_neighbours(name):
    molecule = Molecule.from_smiles(find(name)[1])
    seen: dict[int, tuple] = {}
    for frame in local_frames(molecule):
        classes = [tuple(molecule.symmetry_classes[k] for k in axis) for axis in (frame.z, frame.x, frame.y)]
        label = molecule.symmetry_classes[frame.atom]
        assert seen.setdefault(label, (frame.kind, classes)) == (frame.kind, classes)


def kinds(name: str) -> dict[str, set[str]]:
    molecule = Molecule.from_smiles(find(name)[1])
    table: dict[str, set[str]] = {}
    for frame in local_frames(molecule):
        table.setdefault(molecule.elements[frame.atom], set()).add(frame.kind)
    return table


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Li+", {"Li": {"monoatomic"}}),
        ("PF6-", {"P": {"octahedral"}, "F": {"linear"}}),
        ("BF4-", {"B": {"tetrahedral"}, "F": {"linear"}}),
        ("ClO4-", {"Cl": {"tetrahedral"}, "O": {"linear"}}),
        ("NO3-", {"N": {"trigonal-planar"}, "O": {"z-then-x"}}),
        ("AN", {"N": {"linear"}, "C": {"linear", "threefold"}, "H": {"z-then-x"}}),
        (
            "TFSI-",
            {"N": {"bisector"}, "S": {"z-then-x"}, "O": {"z-then-x"}, "C": {"threefold"}, "F": {"z-then-x"}},
        ),
        ("BOB-", {"B": {"bisector"}, "C": {"z-then-x"}, "O": {"z-then-x"}}),
        ("O=C=O", {"C": {"linear"}, "O": {"linear"}}),
        ("water", {"O": {"bisector"}, "H": {"z-then-x"}}),
        ("N", {"N": {"threefold"}, "H": {"z-then-x"}}),
    ],
)
def test_local_symmetry_decides_the_kind(name, expected):
    assert kinds(name) == expected


def test_the_x_axis_of_a_planar_carbonyl_lies_in_its_plane():
    molecule, xyz = embedded("VC")
    plane = np.linalg.svd(xyz - xyz.mean(axis=0))[2][2]
    for frame in local_frames(molecule):
        if molecule.elements[frame.atom] == "O":
            assert abs(frame_axes(frame, xyz)[1] @ plane) > 0.99


def test_the_two_hydrogens_of_a_methylene_have_opposite_handedness():
    molecule, xyz = embedded("EC")
    frames = local_frames(molecule)
    for carbon in (i for i, e in enumerate(molecule.elements) if e == "C"):
        pair = [k for k in molecule.neighbours(carbon) if molecule.elements[k] == "H"]
        if pair:
            assert sorted(handedness(frames[k], xyz) for k in pair) == [-1, 1]
    assert handedness(frames[0], xyz) == 1


def test_collinear_frame_atoms_are_reported():
    water = Molecule.from_smiles("O")
    straight = np.array([[0.0, 0, 0], [0, 0, 1], [0, 0, -1]])
    with pytest.raises(InputError, match="collinear"):
        frame_axes(local_frames(water)[0], straight)
