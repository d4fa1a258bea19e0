"""What bare cations feel of charge that flows along bonds: Coulomb's law close by, nothing far away."""

import library_species
import numpy as np
import pytest
import torch
from library_species import SHORT_RANGE, random_pose, with_random_flows
from rdkit import Chem
from scipy.spatial.transform import Rotation

from phyff.model import charge_flow
from phyff.model.charge_flow import CUTOFF, FlowTensors, flow_energy, flow_triples
from phyff.model.cluster import Cluster, permanent_energy
from phyff.model.parameters import SpeciesTensors, species_tensors
from phyff.species.parameters import SpeciesParameters
from phyff.units import COULOMB

LITHIUM = library_species.load("Li+")
NAMES = ("EC", "DMC", "AN", "PF6-")


def _species(name: str) -> SpeciesParameters:
    return with_random_flows(library_species.load(name), np.random.default_rng(3))


def _tensors(species: SpeciesParameters) -> list[SpeciesTensors]:
    return [species_tensors(one, SHORT_RANGE) for one in (species, LITHIUM)]


def _moved(species: SpeciesParameters, seed: int) -> np.ndarray:
    """(n, 3) nm: a conformer turned, and its atoms displaced."""
    rng = np.random.default_rng(seed)
    xyz = random_pose(species.xyz, rng)
    shifted: np.ndarray = xyz + rng.normal(scale=0.005, size=xyz.shape)
    return shifted


def _energy(species: SpeciesParameters, xyz: np.ndarray, ion: np.ndarray) -> float:
    atoms = torch.tensor(np.vstack([xyz, ion]))
    return flow_energy(atoms, _tensors(species), [0, species.n_atoms]).item()


@pytest.mark.parametrize("name", NAMES)
def test_close_by_it_is_the_coulomb_energy_of_the_charge_that_moved(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(charge_flow, "SWITCH_START", 2.0)
    monkeypatch.setattr(charge_flow, "CUTOFF", 2.5)
    species, ion = _species(name), np.array([[0.3, -0.2, 0.25]])
    xyz = _moved(species, 1)
    coefficients = {(flow.apart, flow.classes): flow for flow in species.charge_flow}
    charges = np.zeros(species.n_atoms)
    for apart, triple in flow_triples(species.molecule, far=True):
        i, j, k = triple
        flow = coefficients[apart, tuple(species.symmetry_classes[a] for a in triple)]
        one, other = xyz[i] - xyz[j], xyz[k] - xyz[j]
        lengths = np.linalg.norm(one), np.linalg.norm(other)
        moved = flow.bond * lengths[0] + flow.next_bond * lengths[1] - flow.at_rest
        moved += flow.bend * np.arccos(one @ other / lengths[0] / lengths[1])
        moved += flow.through / np.linalg.norm(xyz[i] - xyz[k])
        charges[i] += moved
        charges[j] -= moved
    expected = COULOMB * (charges / np.linalg.norm(xyz - ion, axis=1)).sum()
    assert abs(expected) > 0.1
    assert charges.sum() == pytest.approx(0.0, abs=1e-12)
    assert _energy(species, xyz, ion) == pytest.approx(expected, rel=1e-9)


def test_it_is_part_of_the_permanent_energy_of_both_engines() -> None:
    species, ion = _species("EC"), np.array([[0.25, 0.1, 0.2]])
    xyz = _moved(species, 2)
    still = species.model_copy(update={"charge_flow": ()})
    with_flow, without = (
        Cluster.of(_tensors(one), [torch.tensor(xyz), torch.tensor(ion)]) for one in (species, still)
    )
    change = permanent_energy(with_flow).item() - permanent_energy(without).item()
    assert change == pytest.approx(_energy(species, xyz, ion), rel=1e-9)


def test_it_is_gone_at_the_cutoff_and_fades_without_a_kink() -> None:
    species = _species("EC")
    xyz = _moved(species, 3)
    xyz -= xyz.mean(0)
    reach = np.linalg.norm(xyz, axis=1).max()
    assert _energy(species, xyz, np.array([[CUTOFF + reach + 1e-6, 0.0, 0.0]])) == 0.0
    # not farther in, where the terms themselves are steep
    step, tensors = 2e-4, _tensors(species)
    places = np.arange(reach + 0.1, CUTOFF + reach, step)
    atoms = [torch.tensor(np.vstack([xyz, [[x, 0.0, 0.0]]])) for x in places]
    energies = np.array([flow_energy(a, tensors, [0, species.n_atoms]).item() for a in atoms])
    curvature = np.diff(energies, 2) / step**2
    assert np.abs(np.diff(curvature)).max() < 0.05 * np.abs(curvature).max()


def test_only_bare_cations_feel_it_and_a_molecule_its_own_never() -> None:
    species = _species("EC")
    xyz = [_moved(species, seed) + 0.3 * seed for seed in (1, 2)]
    tensors = _tensors(species)[0]
    atoms = torch.tensor(np.vstack(xyz))
    assert flow_energy(atoms, [tensors, tensors], [0, species.n_atoms]).item() == 0.0


def test_it_does_not_change_when_the_pair_turns_or_equivalent_atoms_change_places() -> None:
    species, ion = _species("PF6-"), np.array([[0.2, 0.25, 0.0]])
    xyz = _moved(species, 4)
    expected = _energy(species, xyz, ion)
    turn = Rotation.random(rng=np.random.default_rng(9)).as_matrix()
    assert _energy(species, xyz @ turn.T, ion @ turn.T) == pytest.approx(expected, rel=1e-9)
    first, second = [i for i, element in enumerate(species.elements) if element == "F"][:2]
    order = list(range(species.n_atoms))
    order[first], order[second] = second, first
    assert _energy(species, xyz[order], ion) == pytest.approx(expected, rel=1e-9)


def test_forces_are_finite_where_an_angle_is_straight() -> None:
    species = _species("AN")
    xyz = species.xyz.copy()
    heavy = [i for i, element in enumerate(species.elements) if element != "H"]
    axis = xyz[heavy[-1]] - xyz[heavy[0]]
    for atom in heavy:  # exactly on one line
        xyz[atom] = xyz[heavy[0]] + axis * ((xyz[atom] - xyz[heavy[0]]) @ axis) / (axis @ axis)
    atoms = torch.tensor(np.vstack([xyz, xyz.mean(0) + [[0.0, 0.3, 0.0]]]), requires_grad=True)
    energy = flow_energy(atoms, _tensors(species), [0, species.n_atoms])
    (gradient,) = torch.autograd.grad(energy, atoms)
    assert torch.isfinite(gradient).all() and gradient.abs().max() > 0.0


def test_atoms_of_other_classes_have_no_flow() -> None:
    species = _species("EC")
    kept = species.charge_flow[:1]
    tensors = FlowTensors.of(species.molecule, kept)
    classes = [tuple(species.symmetry_classes[a] for a in triple) for triple in tensors.atoms.tolist()]
    assert classes and set(classes) == {kept[0].classes}


def test_charge_knows_atoms_that_the_way_along_its_bond_leads_to() -> None:
    molecule = library_species.load("DME").molecule
    elements = molecule.elements
    bonds = Chem.GetDistanceMatrix(molecule.rdkit())
    near, far = (dict.fromkeys(flow_triples(molecule, far=far)) for far in (False, True))
    assert list(near) == [key for key in far if key[0] == 2]
    assert len(near) == sum(len(n) * (len(n) - 1) for n in map(molecule.neighbours, range(molecule.n_atoms)))
    for apart, (i, j, k) in far:
        assert bonds[i, j] == 1 and bonds[i, k] == apart == bonds[j, k] + 1
    turning = [(i, k) for i in range(len(elements)) for k in range(len(elements)) if bonds[i, k] == 3]
    assert sorted((i, k) for apart, (i, _, k) in far if apart == 3) == turning
    distant = {(elements[i], elements[k]) for apart, (i, _, k) in far if apart > 3}
    assert distant == {("C", "O")}
