"""Conformers: true minima, distinct, reproducible, right for ions that usual embedding misses."""

from functools import lru_cache

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdMolTransforms

from phyff.species import Molecule
from phyff.species.conformers import Conformer, conformers, one_a_basin
from phyff.species.library import find


@lru_cache
def made(name: str) -> tuple[Molecule, list[Conformer]]:
    molecule = Molecule.from_smiles(find(name)[1])
    return molecule, conformers(molecule)


def dihedral(molecule: Molecule, conformer: Conformer, atoms: tuple[int, ...]) -> float:
    geometry = Chem.Conformer(molecule.n_atoms)
    for i, position in enumerate(conformer.xyz):
        geometry.SetAtomPosition(i, [float(value) for value in position])
    return abs(rdMolTransforms.GetDihedralDeg(geometry, *atoms))


def test_a_monoatomic_ion_sits_at_the_origin():
    _, found = made("Li+")
    assert len(found) == 1
    assert np.array_equal(found[0].xyz, np.zeros((1, 3))) and found[0].energy == 0


@pytest.mark.parametrize(
    ("name", "cosines"), [("PF6-", {-1.0, 0.0}), ("BF4-", {-0.333}), ("ClO4-", {-0.333})]
)
def test_symmetric_ions_come_out_as_ideal_polyhedra(name, cosines):
    molecule, (only,) = made(name)
    centre = max(range(molecule.n_atoms), key=lambda i: len(molecule.neighbours(i)))
    arms = only.xyz[list(molecule.neighbours(centre))] - only.xyz[centre]
    lengths = np.linalg.norm(arms, axis=1)
    assert np.ptp(lengths) < 1e-3
    angles = (arms @ arms.T / lengths[0] ** 2)[np.triu_indices(len(arms), 1)]
    assert {float(np.round(value, 3)) + 0.0 for value in angles} == cosines


def test_ethylene_carbonate_is_puckered_not_planar():
    molecule, found = made("EC")
    assert len(found) == 1
    ring = [i for i, e in enumerate(molecule.elements) if e != "H" and len(molecule.neighbours(i)) > 1]
    positions = found[0].xyz[ring]
    assert np.linalg.svd(positions - positions.mean(axis=0))[1][2] > 0.15


def test_dimethyl_carbonate_has_a_cis_cis_and_a_cis_trans_form():
    molecule, found = made("DMC")
    assert len(found) == 2
    carbonyl = next(
        i for i, e in enumerate(molecule.elements) if e == "O" and len(molecule.neighbours(i)) == 1
    )
    carbon = molecule.neighbours(carbonyl)[0]
    ethers = [k for k in molecule.neighbours(carbon) if k != carbonyl]

    def form(conformer: Conformer) -> list[str]:
        methyls = [next(k for k in molecule.neighbours(o) if k != carbon) for o in ethers]
        turns = [
            dihedral(molecule, conformer, (carbonyl, carbon, o, methyl))
            for o, methyl in zip(ethers, methyls, strict=True)
        ]
        return sorted("cis" if turn < 40 else "trans" if turn > 140 else "neither" for turn in turns)

    assert form(found[0]) == ["cis", "cis"]
    assert form(found[1]) == ["cis", "trans"]


def test_bis_fluorosulfonyl_imide_has_a_c2_and_a_c1_form():
    molecule, found = made("FSI-")
    fluorines = [i for i, e in enumerate(molecule.elements) if e == "F"]
    nitrogen = molecule.elements.index("N")
    s1, s2 = (molecule.neighbours(k)[0] for k in fluorines)

    def turns(conformer: Conformer) -> tuple[float, float]:
        return (
            dihedral(molecule, conformer, (fluorines[0], s1, nitrogen, s2)),
            dihedral(molecule, conformer, (fluorines[1], s2, nitrogen, s1)),
        )

    differences = [abs(a - b) for a, b in map(turns, found)]
    assert min(differences) < 2 and max(differences) > 20


def test_conformers_are_ordered_and_centred():
    molecule, found = made("DMC")
    energies = [conformer.energy for conformer in found]
    assert energies[0] == 0 and energies == sorted(energies) and energies[-1] <= 25
    for conformer in found:
        assert conformer.xyz.shape == (molecule.n_atoms, 3)
        assert np.allclose(molecule.masses @ conformer.xyz, 0, atol=1e-8)


def test_conformers_are_reproducible():
    molecule, found = made("EC")
    again = conformers(molecule)
    for a, b in zip(found, again, strict=True):  # to what threads leave of it
        assert a.xyz == pytest.approx(b.xyz, abs=1e-4)


def test_at_most_the_wanted_number_comes_back():
    molecule = Molecule.from_smiles("COC(=O)OC")
    assert len(conformers(molecule, max_count=1)) == 1


def test_geometries_of_one_basin_and_mirror_images_count_once():
    molecule, found = made("DMC")
    (cis, other), rng = [conformer.xyz for conformer in found[:2]], np.random.default_rng(1)
    shaken = cis + rng.normal(scale=0.03, size=cis.shape)
    mirror = other * [1.0, 1.0, -1.0]
    assert one_a_basin(molecule, [cis, shaken, other, mirror]) == [0, 2]


def test_one_turned_torsion_of_many_is_another_basin():
    molecule, found = made("DME")
    geometry = Chem.Mol(molecule.rdkit())
    geometry.RemoveAllConformers()
    held = Chem.Conformer(molecule.n_atoms)
    held.SetPositions(found[0].xyz)
    geometry.AddConformer(held)
    heavy = [i for i, e in enumerate(molecule.elements) if e != "H"]
    assert [molecule.elements[i] for i in heavy] == list("COCCOC")
    forms = []
    for turns in ((180, 180, 180), (180, 180, 70), (180, 70, 180), (182, 175, 180)):
        for first, degrees in enumerate(turns):
            rdMolTransforms.SetDihedralDeg(geometry.GetConformer(), *heavy[first : first + 4], degrees)
        forms.append(np.array(geometry.GetConformer().GetPositions()))
    assert one_a_basin(molecule, forms) == [0, 1, 2]


@pytest.mark.parametrize("name", ["Li+", "PF6-", "acetonitrile"])
def test_what_has_no_torsions_has_one_basin(name):
    molecule, found = made(name)
    assert one_a_basin(molecule, [found[0].xyz] * 2) == [0]
