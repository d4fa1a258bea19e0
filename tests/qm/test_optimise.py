"""The minimiser and the symmetry of Hessians, on a spring model of methane."""

import numpy as np
import pytest
from pyscf.data.elements import charge
from tblite.interface import Calculator

from phyff.qm.optimise import GRADIENT_TOLERANCE, OptimisationError, minimise
from phyff.qm.symmetry import complete_hessian, operations, symmetrised, unique_atoms
from phyff.species.conformers import conformers
from phyff.species.molecule import Molecule
from phyff.units import BOHR_ANGSTROM

METHANE = np.array([[0, 0, 0], [1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) * 1.2
LENGTHS = np.linalg.norm(METHANE[:, None] - METHANE, axis=2)


def springs(xyz):
    """Anharmonic springs between all atoms, stiffer to the centre."""
    energy, gradient = 0.0, np.zeros_like(xyz)
    for i in range(len(xyz)):
        for j in range(i):
            vector = xyz[i] - xyz[j]
            length = np.linalg.norm(vector)
            stretch, k = length - LENGTHS[i, j], 0.3 if 0 in (i, j) else 0.05
            energy += k * stretch**2 - 0.1 * k * stretch**3
            force = (2 * k * stretch - 0.3 * k * stretch**2) * vector / length
            gradient[i] += force
            gradient[j] -= force
    return energy, gradient


def numerical_hessian(xyz):
    rows = []
    for k in range(xyz.size):
        moved = [xyz.copy(), xyz.copy()]
        moved[0].flat[k] += 1e-4
        moved[1].flat[k] -= 1e-4
        rows.append((springs(moved[0])[1] - springs(moved[1])[1]).ravel() / 2e-4)
    return np.array(rows)


def test_a_distorted_geometry_relaxes_to_the_minimum_in_few_gradients():
    start = METHANE + 0.3 * np.random.default_rng(1).normal(size=METHANE.shape)
    found = minimise(springs, start, "CHHHH")
    assert np.abs(np.linalg.norm(found.xyz[:, None] - found.xyz, axis=2) - LENGTHS).max() < 4e-3
    assert found.evaluations < 30


def test_a_geometry_that_does_not_settle_is_an_error():
    with pytest.raises(OptimisationError, match="not settled"):
        minimise(springs, 2.0 * METHANE, "CHHHH", max_evaluations=3)


@pytest.mark.parametrize("smiles", ["CCOC(C)=O", "F[P-](F)(F)(F)(F)F", "CC#N"])
def test_soft_torsions_octahedra_and_linear_molecules_settle(smiles):
    """On GFN1-xTB from the GFN2-xTB conformer; in Cartesian steps the methyls of an ester need over 80."""
    molecule = Molecule.from_smiles(smiles)
    numbers = np.array([charge(element) for element in molecule.elements])

    def surface(xyz):
        calculator = Calculator("GFN1-xTB", numbers, xyz, charge=float(molecule.charge))
        calculator.set("verbosity", 0)
        found = calculator.singlepoint()
        return float(found.get("energy")), np.array(found.get("gradient"))

    start = conformers(molecule, 1, 10.0)[0].xyz / BOHR_ANGSTROM
    found = minimise(surface, start, molecule.elements)
    assert found.evaluations < 40
    assert np.abs(surface(found.xyz)[1]).max() < GRADIENT_TOLERANCE
    assert surface(found.xyz)[0] == pytest.approx(found.energy, abs=1e-9)


def test_methane_has_24_operations_and_two_kinds_of_atoms():
    found = operations("CHHHH", METHANE)
    assert len(found) == 24 and unique_atoms(found) == [0, 1]
    for operation in found:
        assert METHANE @ operation.matrix.T == pytest.approx(METHANE[list(operation.images)], abs=1e-10)


def test_a_hessian_is_completed_from_one_atom_of_a_kind():
    full = numerical_hessian(METHANE)
    rows = {atom: full.reshape(5, 3, 5, 3)[atom] for atom in (0, 1)}
    assert complete_hessian(operations("CHHHH", METHANE), rows) == pytest.approx(full, abs=1e-6)


def test_a_molecule_without_symmetry_keeps_every_atom():
    xyz = METHANE + 0.2 * np.random.default_rng(2).normal(size=METHANE.shape)
    assert unique_atoms(operations("CHHHH", xyz)) == [0, 1, 2, 3, 4]
    assert unique_atoms(operations("HF", np.array([[0.0, 0, 0], [0, 0, 1.7]]))) == [0, 1]


def test_a_minimum_a_little_off_its_symmetry_gets_it_back():
    noise = np.random.default_rng(3).normal(size=METHANE.shape)
    near = METHANE + 0.02 * noise
    assert len(operations("CHHHH", near)) < 24
    found = symmetrised("CHHHH", near)
    assert len(operations("CHHHH", found)) == 24 and np.abs(found - near).max() < 0.1
    far = METHANE + 0.2 * noise
    assert symmetrised("CHHHH", far) is far and symmetrised("CHHHH", METHANE) is METHANE
