"""What bare cations feel of a molecule's density: symmetric, smooth, nothing far away, and never a trap."""

import itertools

import library_species
import numpy as np
import pytest
import torch
from library_species import SHORT_RANGE, random_pose
from scipy.spatial.transform import Rotation

from phyff.model.cluster import Cluster, permanent_energy, short_range_energies
from phyff.model.near_field import CUTOFF, SWITCH_START, NearFieldTensors, near_field_energies, references
from phyff.model.parameters import ShortRange, species_tensors
from phyff.species.library import SHORT_RANGE_FILE
from phyff.species.molecule import Molecule
from phyff.species.parameters import SpeciesParameters

NAMES = ("EC", "DMC", "FSI-", "AN", "PF6-")
LITHIUM = library_species.load("Li+")
LIBRARY = ShortRange.load(library_species.FOLDER / SHORT_RANGE_FILE)


def _energies(species: SpeciesParameters, xyz: np.ndarray, ion: np.ndarray) -> dict[str, float]:
    tensors = [species_tensors(one, SHORT_RANGE) for one in (species, LITHIUM)]
    found = near_field_energies(torch.tensor(np.vstack([xyz, ion])), tensors, [0, species.n_atoms])
    return {name: energy.item() for name, energy in found.items()}


def test_directions_count_from_what_equivalent_atoms_share() -> None:
    molecule = Molecule.from_smiles("COC(=O)OC")
    own, elements = references(molecule), molecule.elements
    oxygens = [i for i, element in enumerate(elements) if element == "O"]
    (carbonyl,) = (i for i in oxygens if len(molecule.neighbours(i)) == 1)
    esters = [i for i in oxygens if i != carbonyl]
    assert set(own[carbonyl]) == set(esters)  # the plane of the carbonate, by two atoms that are alike
    classes = np.array(molecule.symmetry_classes)
    assert len({tuple(classes[own[i]]) for i in esters}) == 1
    for i, element in enumerate(elements):
        if element == "C":
            assert tuple(own[i]) == (-1, -1)
        if element == "H":
            assert own[i][0] == own[i][1] == molecule.neighbours(i)[0]


@pytest.mark.parametrize("name", NAMES)
def test_it_turns_and_moves_with_the_molecule(name: str) -> None:
    species, ion = library_species.load(name), np.array([[0.25, 0.1, -0.05]])
    xyz = random_pose(species.xyz, np.random.default_rng(1))
    turn = Rotation.from_euler("xyz", [0.4, -1.1, 2.0]).as_matrix()
    shift = np.array([1.0, -2.0, 0.5])
    assert _energies(species, xyz @ turn.T + shift, ion @ turn.T + shift) == pytest.approx(
        _energies(species, xyz, ion), rel=1e-9
    )


def test_equivalent_atoms_are_the_same_to_it() -> None:
    species = library_species.load("PF6-")
    xyz, phosphorus = species.xyz, species.elements.index("P")
    found = []
    for fluorine in (i for i, e in enumerate(species.elements) if e == "F"):
        axis = (xyz[fluorine] - xyz[phosphorus]) / np.linalg.norm(xyz[fluorine] - xyz[phosphorus])
        found.append(_energies(species, xyz, (xyz[fluorine] + 0.19 * axis)[None])["exchange"])
    assert np.ptp(found) < 0.02 * abs(np.mean(found))  # the minimum is an octahedron but for its rounding


@pytest.mark.parametrize("name", NAMES)
def test_directions_are_switched_off_smoothly(name: str) -> None:
    species = library_species.load(name)
    away = np.linalg.norm(species.xyz - species.xyz.mean(0), axis=1).max() + CUTOFF + 0.001
    assert set(_energies(species, species.xyz - species.xyz.mean(0), np.array([[away, 0, 0]])).values()) == {
        0.0
    }
    tensors = NearFieldTensors.of(species.molecule, species.near_field)
    xyz = torch.tensor(species.xyz)
    for end in (SWITCH_START, CUTOFF):
        steps = torch.tensor([[0.0, 0.0, end + step] for step in (-1e-4, 0.0, 1e-4)]) + xyz[0]
        excess, potential = tensors.at(xyz, steps.double())
        for values in (excess[:, 0], potential[:, 0]):
            assert abs(values[0] - 2 * values[1] + values[2]) < 1e-4


@pytest.mark.parametrize("name", [n for n in library_species.NAMES if n not in ("Li+", "Na+", "K+")])
def test_no_direction_leads_a_cation_through_the_wall(name: str) -> None:
    species = library_species.load(name)
    tensors = [species_tensors(s, LIBRARY) for s in (species, LITHIUM)]
    first_of_class = sorted({species.symmetry_classes.index(k) for k in species.symmetry_classes})
    ways = Rotation.random(12, random_state=3).apply([0.0, 0.0, 1.0])
    for atom, way, r in itertools.product(first_of_class, ways, (0.08, 0.1)):
        ion = species.xyz[atom] + r * way
        if np.linalg.norm(species.xyz - ion, axis=1).min() < 0.07:
            continue  # inside a bond
        cluster = Cluster.of(tensors, [torch.tensor(species.xyz), torch.tensor(ion[None])])
        short = short_range_energies(cluster)
        wall = short["exchange"] - short["penetration"] + short["potential"] + permanent_energy(cluster)
        assert wall > 0.0, (atom, way, r)
