"""E_nn: where it must vanish, what must not change it, and that the physical wall wins at contact."""

from pathlib import Path

import library_species
import numpy as np
import pytest
import torch
from library_species import SHORT_RANGE, at_contact, random_pose
from neural_terms import untrained
from scipy.spatial.transform import Rotation

from phyff.errors import InputError
from phyff.model.cluster import Cluster, short_range_energies
from phyff.model.neural import (
    CUTOFF,
    VARIANTS,
    AtomKinds,
    NeuralTerm,
    Pairs,
    atomic_energies,
    bonds_seen,
    cutoff_function,
    descriptors,
    exchange_share,
    neighbour_sums,
    neural_energies,
    predict,
    wall_factor,
)
from phyff.model.parameters import species_tensors

TENSORS = {n: species_tensors(library_species.load(n), SHORT_RANGE) for n in ("EC", "DMC", "Li+", "PF6-")}
XYZ = {n: library_species.load(n).xyz for n in TENSORS}


def _cluster(names: list[str], xyz: list[np.ndarray]) -> Cluster:
    return Cluster.of([TENSORS[n] for n in names], [torch.tensor(x) for x in xyz])


@pytest.fixture(scope="module")
def trimer() -> tuple[list[str], list[np.ndarray]]:
    """EC, DMC and a lithium ion in contact, at random orientations."""
    rng = np.random.default_rng(4)
    first = random_pose(XYZ["EC"], rng)
    second = at_contact(first, random_pose(XYZ["DMC"], rng), 0.27, rng)
    lithium = at_contact(np.vstack([first, second]), np.zeros((1, 3)), 0.19, rng)
    return ["EC", "DMC", "Li+"], [first, second, lithium]


@pytest.fixture(params=VARIANTS)
def term(request: pytest.FixtureRequest) -> NeuralTerm:
    return untrained(request.param)


def test_an_isolated_species_has_no_energy_and_no_force(term: NeuralTerm) -> None:
    found = predict(term, _cluster(["EC"], [XYZ["EC"]]))
    assert (found.energy, found.energy_spread) == (0.0, 0.0)
    assert not found.forces.any()


def test_a_neighbour_beyond_the_cutoff_changes_nothing(term: NeuralTerm, trimer) -> None:
    names, xyz = trimer
    centre, reach = (
        np.vstack(xyz).mean(0),
        np.linalg.norm(np.vstack(xyz) - np.vstack(xyz).mean(0), axis=1).max(),
    )
    far = centre + np.array([[reach + CUTOFF + 1e-9, 0.0, 0.0]])
    alone = neural_energies(term, _cluster(names, xyz))
    assert alone.abs().min() > 0.1
    with_neighbour = neural_energies(term, _cluster([*names, "Li+"], [*xyz, far]))
    torch.testing.assert_close(with_neighbour, alone, rtol=1e-12, atol=0)


def test_turning_and_moving_the_cluster_changes_nothing(term: NeuralTerm, trimer) -> None:
    names, xyz = trimer
    turn = Rotation.random(rng=np.random.default_rng(9)).as_matrix()
    moved = [x @ turn.T + np.array([1.0, -2.0, 0.5]) for x in xyz]
    torch.testing.assert_close(
        neural_energies(term, _cluster(names, moved)),
        neural_energies(term, _cluster(names, xyz)),
        rtol=1e-9,
        atol=0,
    )


def test_the_order_of_molecules_and_of_equivalent_atoms_does_not_matter(term: NeuralTerm) -> None:
    rng = np.random.default_rng(1)
    anion = random_pose(XYZ["PF6-"], rng)
    lithium = at_contact(anion, np.zeros((1, 3)), 0.19, rng)
    expected = neural_energies(term, _cluster(["PF6-", "Li+"], [anion, lithium]))
    exchanged = anion[[2, 1, 0, 3, 4, 5, 6]]
    found = neural_energies(term, _cluster(["Li+", "PF6-"], [lithium, exchanged]))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)


def test_forces_are_the_derivatives_of_the_energy(term: NeuralTerm, trimer) -> None:
    names, xyz = trimer
    sizes, forces = np.cumsum([len(x) for x in xyz])[:-1], predict(term, _cluster(names, xyz)).forces.numpy()
    rng, step = np.random.default_rng(1), 1e-5
    for _ in range(4):
        direction = rng.normal(size=forces.shape)
        ends = [
            neural_energies(
                term, _cluster(names, np.split(np.vstack(xyz) + sign * step * direction, sizes))
            ).mean()
            for sign in (1.0, -1.0)
        ]
        numeric = (ends[0] - ends[1]).item() / (2 * step)
        assert np.sum(forces * direction) == pytest.approx(-numeric, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(("variant", "knows"), [("angular", False), ("oriented", True)])
def test_only_an_oriented_atom_knows_where_a_lone_neighbour_is_from_its_bonds(
    variant: str, knows: bool
) -> None:
    solvent, xyz, term = TENSORS["EC"], torch.tensor(XYZ["EC"]), untrained(variant)
    kinds, numbers = AtomKinds.of([solvent, TENSORS["Li+"]])
    kind, oxygen = torch.cat(numbers), solvent.elements.index("O")
    pairs = Pairs(torch.tensor([[oxygen], [len(xyz)]]), bonds_seen(variant, [solvent]))
    ways = xyz[pairs.bonds[1]] - xyz[pairs.bonds[0]]
    shares = []
    for turn in Rotation.random(5, rng=np.random.default_rng(5)).as_matrix():
        vectors = torch.cat([torch.tensor(0.21 * turn[:1]), ways])
        sums = neighbour_sums(variant, kinds, kind, pairs, vectors)
        shares.append(atomic_energies(term, kinds, kind, sums)[:, oxygen].mean())
    assert (torch.stack(shares).std() > 0.1 * shares[0].abs()) == knows


def test_two_derivatives_are_continuous_at_the_cutoff() -> None:
    r = torch.tensor([CUTOFF - 1e-7, CUTOFF + 1e-7], dtype=torch.float64, requires_grad=True)
    value = cutoff_function(r)
    (slope,) = torch.autograd.grad(value.sum(), r, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), r)
    for inside in (value[0], slope[0], curvature[0]):
        assert abs(inside.item()) < 1e-3
    assert not torch.stack([value[1], slope[1], curvature[1]]).any()


def test_the_energy_has_two_continuous_derivatives_as_an_ion_leaves(term: NeuralTerm) -> None:
    curvatures = []
    for distance in (CUTOFF - 0.03, CUTOFF - 1e-4, CUTOFF - 1e-6, CUTOFF + 1e-6):
        x = torch.tensor(distance, dtype=torch.float64, requires_grad=True)
        along = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)
        energy = neural_energies(term, Cluster.of([TENSORS["Li+"]] * 2, [0.0 * along, x * along])).mean()
        if distance > CUTOFF:
            assert energy.item() == 0.0
            continue
        (slope,) = torch.autograd.grad(energy, x, create_graph=True)
        curvatures.append(torch.autograd.grad(slope, x)[0].abs().item())
    assert curvatures[0] > 1.0
    assert curvatures[1] < 0.02 * curvatures[0]
    assert curvatures[2] < 2e-4 * curvatures[0]


def test_contacts_deep_inside_the_wall_feel_nothing_of_it(term: NeuralTerm) -> None:
    rng = np.random.default_rng(6)
    for names in (("EC", "Li+"), ("EC", "DMC"), ("PF6-", "Li+")):
        first, second = (random_pose(XYZ[n], rng) for n in names)
        for gap in (0.02, 0.05, 0.08, 0.12):
            cluster = _cluster(list(names), [first, at_contact(first, second, gap, rng)])
            exchange = short_range_energies(cluster)["exchange"].item()
            bound = term.architecture.saturation * len(cluster.atoms)
            energy = neural_energies(term, cluster).abs().max().item()
            assert energy < bound
            assert energy < max(0.2 * exchange, 60.0)


def test_a_pair_on_top_of_each_other_has_no_energy(term: NeuralTerm) -> None:
    close = [np.zeros((1, 3)), np.array([[1e-3, 0.0, 0.0]])]
    strong = TENSORS["Li+"].amplitudes[0, 0] ** 2
    assert 1e3 < strong < TENSORS["PF6-"].amplitudes[0, 0] * TENSORS["EC"].amplitudes[0, 0]
    energy = neural_energies(term, _cluster(["Li+", "Li+"], close))
    assert energy.abs().max() < 2.0  # the wall leaves a 500th of the pair's weight


def test_the_wall_takes_over_as_fast_as_exchange_grows() -> None:
    kinds, _ = AtomKinds.of([TENSORS["EC"]])
    r = torch.linspace(0.05, 0.5, 200, dtype=torch.float64)
    zero = torch.zeros(200, dtype=torch.long)
    factor = wall_factor(exchange_share(r, kinds, zero, zero))
    assert torch.all(factor.diff() >= 0)
    assert factor[0] < 1e-3 and factor[-1] > 0.999


def test_a_saved_term_loads_and_saves_to_the_same_bytes(term: NeuralTerm, trimer, tmp_path: Path) -> None:
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    term.save(first)
    loaded = NeuralTerm.load(first)
    loaded.save(second)
    assert first.read_bytes() == second.read_bytes()
    assert loaded == term
    assert torch.equal(neural_energies(loaded, _cluster(*trimer)), neural_energies(term, _cluster(*trimer)))


def test_what_is_no_neural_term_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "neural.safetensors"
    with pytest.raises(InputError, match="cannot be read"):
        NeuralTerm.load(path)
    path.write_text("{}")
    with pytest.raises(InputError, match="not a neural term"):
        NeuralTerm.load(path)


def test_equivalent_atoms_are_one_kind_and_different_ones_differ() -> None:
    kinds, numbers = AtomKinds.of(list(TENSORS.values()))
    assert [len(n.unique()) for n in numbers] == [5, 5, 1, 2]
    assert len(kinds.exponents) == 13
    rows = torch.cat([descriptors(s) for s in TENSORS.values()])
    assert rows.abs().max() < 6.0


def test_the_spread_is_that_of_the_members(term: NeuralTerm, trimer) -> None:
    found, energies = predict(term, _cluster(*trimer)), neural_energies(term, _cluster(*trimer))
    assert found.energy == pytest.approx(energies.mean().item())
    assert found.energy_spread == pytest.approx(energies.std(correction=0).item())
    assert found.energy_spread > 0
    assert (found.forces_spread > 0).any()
