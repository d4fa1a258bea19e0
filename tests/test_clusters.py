"""Cluster files: atoms find their places in the species, and what cannot be right is refused by field."""

import json
from itertools import permutations

import numpy as np
import pytest
from standin_species import ALL, SHORT_RANGE, WATER, WATER_XYZ, species

from phyff.clusters import ENGINES, energies, in_species_order, interaction_energy
from phyff.errors import InputError, SimulationError
from phyff.openmm.forcefield import ForceField
from phyff.species.molecule import Molecule

FORCE_FIELD = ForceField(tuple(ALL.values()), SHORT_RANGE)
MAPPED_WATER = {
    "smiles": "[H:1][O:2][H:3]",
    "elements": ["H", "O", "H"],
    "xyz": (10 * np.array(WATER_XYZ)[[2, 0, 1]]).tolist(),
}
ION = {"smiles": "[Li+:1]", "elements": ["Li"], "xyz": [[-1.2, -1.6, 0.0]]}


def force_field_of(asked):
    return FORCE_FIELD


def write(tmp_path, content):
    path = tmp_path / "cluster.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def octahedron():
    """PF6- with atoms F, P, F, F, F, F, F as its species file holds them, nm."""
    fluorines = 0.16 * np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, -1], [0, -1, 0], [-1, 0, 0]])
    return np.vstack([fluorines[:1], np.zeros((1, 3)), fluorines[1:]])


def test_torch_and_drude_agree_whatever_the_order_of_the_file(tmp_path):
    path = write(tmp_path, {"monomers": [MAPPED_WATER, ION]})
    direct = interaction_energy(
        FORCE_FIELD, [("water", np.array(WATER_XYZ)), ("Li+", 0.1 * np.array(ION["xyz"]))], "torch"
    )
    for engine in ("torch", "drude"):
        found = energies(path, engine, force_field_of)
        assert list(found) == ["total", "electrostatics", "exchange", "induction", "dispersion", "neural"]
        assert found == pytest.approx(direct, abs=0.01)
        assert found["total"] == pytest.approx(sum(found.values()) - found["total"])


@pytest.mark.parametrize("engine", ENGINES)
def test_atoms_at_the_same_place_are_refused_in_every_engine(engine):
    water = np.array(WATER_XYZ)
    with pytest.raises(SimulationError, match="two of its monomers overlap"):
        interaction_energy(FORCE_FIELD, [("water", water), ("Li+", water[:1])], engine)


def test_of_several_clusters_the_one_that_overlaps_is_named(tmp_path):
    apart = {"monomers": [MAPPED_WATER, ION]}
    overlapping = {"monomers": [MAPPED_WATER, ION | {"xyz": MAPPED_WATER["xyz"][:1]}]}
    with pytest.raises(SimulationError, match=r"cluster\.json: clusters\[1\]: The energy"):
        energies(write(tmp_path, [apart, overlapping]), "torch", force_field_of)


def test_a_list_of_clusters_gives_a_list(tmp_path):
    path = write(tmp_path, [{"monomers": [MAPPED_WATER, ION]}, {"monomers": [MAPPED_WATER]}])
    answers = energies(path, "torch", force_field_of)
    assert isinstance(answers, list) and len(answers) == 2
    assert answers[1]["total"] == pytest.approx(0.0, abs=1e-9)


def test_equivalent_atoms_find_their_own_places():
    xyz = octahedron()
    anion = species("PF6-", "F[P-](F)(F)(F)(F)F", [0.0] * 6 + [-1.0], [0.0] * 7, [0.0] * 7, xyz)
    order = [4, 2, 0, 1, 6, 5, 3]
    mapped = "".join(["[F:1]", "[P-:4]([F:2])([F:3])([F:5])([F:6])[F:7]"])
    found = in_species_order(Molecule.from_smiles(mapped), xyz[order], anion)
    inside = np.linalg.norm(found[:, None] - found[None], axis=2)
    np.testing.assert_allclose(inside, np.linalg.norm(xyz[:, None] - xyz[None], axis=2), atol=1e-12)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_any_map_order_of_water_finds_its_oxygen(order):
    molecule = Molecule.from_smiles(
        f"[O:{order.index(0) + 1}]([H:{order.index(1) + 1}])[H:{order.index(2) + 1}]"
    )
    xyz = np.array(WATER_XYZ)
    found = in_species_order(molecule, xyz[list(order)], WATER)
    np.testing.assert_allclose(found[0], xyz[0])


BAD = {
    "not JSON": ("{", "is not JSON"),
    "no monomers": ({"monomers": []}, "monomers: there is nothing in it; give at least one"),
    "misspelt": ({"monomer": [ION]}, "monomers: this field is missing"),
    "a number": (5, r'cluster: no cluster; write \{"monomers"'),
    "unmapped": ({"monomers": [MAPPED_WATER | {"smiles": "O"}]}, r"monomers\[0\]\.smiles: 'O' is not mapped"),
    "bad SMILES": ({"monomers": [MAPPED_WATER | {"smiles": "[O:1"}]}, "is not valid"),
    "wrong elements": ({"monomers": [MAPPED_WATER | {"elements": ["O", "H", "H"]}]}, "in map order"),
    "missing position": ({"monomers": [MAPPED_WATER | {"xyz": [[0, 0, 0]]}]}, "1 positions for 3 atoms"),
    "two coordinates": ({"monomers": [MAPPED_WATER | {"xyz": [[0, 0]] * 3}]}, r"monomers\[0\]\.xyz"),
    "not finite": ('{"monomers": [{"smiles": "[Li+:1]", "elements": ["Li"], "xyz": [[NaN, 0, 0]]}]}', "xyz"),
    "nanometres": ({"monomers": [MAPPED_WATER | {"xyz": [list(x) for x in WATER_XYZ]}]}, "in angstrom"),
    "in a list": ([{"monomers": [ION]}, {"monomers": [ION | {"xyz": []}]}], r"clusters\[1\]\.monomers\[0\]"),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD)
def test_a_bad_cluster_file_is_refused_with_its_field(tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        energies(write(tmp_path, content), "torch", force_field_of)


def test_a_missing_file_and_engines_that_do_not_exist_are_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        energies(tmp_path / "none.json", "torch", force_field_of)
    path = write(tmp_path, {"monomers": [ION]})
    with pytest.raises(InputError, match="choose one of"):
        energies(path, "amber", force_field_of)
