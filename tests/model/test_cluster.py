"""Interaction energies of rigid monomers: forces, symmetries, and the limits that physics prescribes."""

import library_species
import numpy as np
import pytest
import standin_species
import torch
from library_species import SHORT_RANGE, at_contact, random_pose
from scipy.spatial.transform import Rotation

from phyff.errors import SimulationError
from phyff.model.cluster import (
    PARTS,
    Cluster,
    interaction_energy,
    oscillator_energy,
    relaxed_displacements,
    short_range_energies,
)
from phyff.model.pairs import COMPONENTS
from phyff.model.parameters import (
    CATION_EXPONENT,
    CONTACT_ENERGY,
    ShortRange,
    ShortRangeClass,
    species_tensors,
)
from phyff.units import COULOMB

EC, LITHIUM = library_species.load("EC"), library_species.load("Li+")
TENSORS = {s.name: species_tensors(s, SHORT_RANGE) for s in (EC, LITHIUM)}


def _energies(names: list[str], xyz: list[np.ndarray]) -> dict[str, float]:
    cluster = Cluster.of([TENSORS[n] for n in names], [torch.tensor(x) for x in xyz])
    return {part: value.item() for part, value in interaction_energy(cluster).items()}


@pytest.fixture(scope="module")
def trimer() -> tuple[list[str], list[np.ndarray]]:
    """Two EC and a lithium ion in contact, at random orientations."""
    rng = np.random.default_rng(4)
    first = random_pose(EC.xyz, rng)
    second = at_contact(first, random_pose(EC.xyz, rng), 0.27, rng)
    lithium = at_contact(np.vstack([first, second]), np.zeros((1, 3)), 0.19, rng)
    return ["EC", "EC", "Li+"], [first, second, lithium]


def test_forces_are_the_derivatives_of_the_energy_with_relaxed_oscillators(trimer) -> None:
    names, xyz = trimer
    tensors, sizes = [TENSORS[n] for n in names], [len(x) for x in xyz]
    cluster = Cluster.of(tensors, [torch.tensor(x) for x in xyz])
    cluster.atoms.requires_grad_(True)
    (gradient,) = torch.autograd.grad(interaction_energy(cluster)["total"], cluster.atoms)
    rng, step = np.random.default_rng(1), 1e-5
    for _ in range(8):
        direction = rng.normal(size=gradient.shape)
        ends = [
            _energies(names, np.split(np.vstack(xyz) + sign * step * direction, np.cumsum(sizes)[:-1]))
            for sign in (1.0, -1.0)
        ]
        numeric = (ends[0]["total"] - ends[1]["total"]) / (2 * step)
        assert float((gradient * torch.tensor(direction)).sum()) == pytest.approx(numeric, rel=1e-4)


def test_contact_classes_change_what_meets_a_bare_cation_and_nothing_else(trimer) -> None:
    names, xyz = trimer
    plain = SHORT_RANGE.model_copy(update={"cation_contacts": {}})
    without = {s.name: species_tensors(s, plain) for s in (EC, LITHIUM)}
    for kept, changes in (([0, 1], False), ([0, 2], True), ([2, 1], True)):
        own = [torch.tensor(xyz[k]) for k in kept]
        one, other = (
            short_range_energies(Cluster.of([tensors[names[k]] for k in kept], own))
            for tensors in (TENSORS, without)
        )
        assert all((one[c].item() != other[c].item()) == changes for c in COMPONENTS)


def test_a_contact_class_multiplies_the_density_and_its_width() -> None:
    contacts = {"O": ShortRangeClass(exchange=2.0, penetration=0.5, charge_transfer=1.0, width=0.9)}
    model = SHORT_RANGE.model_copy(update={"cation_contacts": contacts})
    tensors = species_tensors(EC, model)
    oxygen = torch.tensor([element == "O" for element in EC.elements])
    near = tensors.near_field
    ratio = tensors.contact_amplitudes / (CONTACT_ENERGY**0.5 * near.densities)
    expected = torch.tensor([2.0, 0.5, 1.0], dtype=torch.float64)[:, None] * 0.9**1.5
    assert torch.allclose(ratio[:, oxygen], expected) and torch.allclose(
        ratio[:, ~oxygen], torch.ones(()).double()
    )
    widths = (CATION_EXPONENT * tensors.contact_exponents / near.density_exponents) ** 2
    assert torch.allclose(widths[oxygen], torch.tensor(0.9).double())


def test_two_bare_cations_have_no_short_range() -> None:
    places = [torch.zeros(1, 3).double(), torch.tensor([[0.2, 0.0, 0.0]]).double()]
    parts = short_range_energies(Cluster.of([TENSORS["Li+"]] * 2, places))
    assert all(abs(part) < 1e-9 for part in parts.values())


def test_a_species_without_dimers_in_the_fit_is_said_to_lean_on_classes_of_others() -> None:
    model = SHORT_RANGE.model_copy(update={"provenance": {"pairs": ["Li+ + DMC", "EC + EC in liquids"]}})
    assert model.fitted_species == {"Li+", "DMC", "EC"}
    alone = EC.model_copy(update={"name": "carbonate"})
    (added,) = set(model.leans_on(alone)) - {
        note.replace("EC:", "carbonate:", 1) for note in model.leans_on(EC)
    }
    assert added.startswith("carbonate: no dimers of its own are in the fit")


def test_every_component_acts_at_contact_with_its_own_sign(trimer) -> None:
    parts = _energies(*trimer)
    assert parts["exchange"] > 0 > parts["dispersion"]
    assert parts["induction"] < 0
    assert parts["total"] == pytest.approx(sum(parts[name] for name in PARTS), rel=1e-12)


def test_energies_do_not_change_when_the_cluster_turns_and_moves(trimer) -> None:
    names, xyz = trimer
    turn = Rotation.random(rng=np.random.default_rng(9)).as_matrix()
    moved = [x @ turn.T + np.array([1.0, -2.0, 0.5]) for x in xyz]
    assert _energies(names, moved) == pytest.approx(_energies(names, xyz), rel=1e-7)


def test_energies_do_not_depend_on_the_order_of_the_monomers(trimer) -> None:
    names, xyz = trimer
    order = [2, 1, 0]
    swapped = _energies([names[k] for k in order], [xyz[k] for k in order])
    assert swapped == pytest.approx(_energies(names, xyz), rel=1e-7)


def test_a_monomer_alone_has_no_interaction_energy() -> None:
    assert _energies(["EC"], [EC.xyz]) == pytest.approx(dict.fromkeys((*PARTS, "total"), 0.0), abs=1e-9)


def test_distant_ions_repel_as_point_charges() -> None:
    parts = _energies(["Li+", "Li+"], [np.zeros((1, 3)), np.array([[0.0, 0.0, 5.0]])])
    assert parts["electrostatics"] == pytest.approx(COULOMB / 5.0, rel=1e-9)


def test_a_distant_ion_feels_the_dipole_of_a_molecule() -> None:
    alone = Cluster.of([TENSORS["EC"]], [torch.tensor(EC.xyz)])
    places, charges, _ = alone.permanent_charges()
    dipole = (charges[:, None] * places).sum(0).numpy()
    along, far = dipole / np.linalg.norm(dipole), 20.0
    ends = [
        _energies(["EC", "Li+"], [EC.xyz - EC.xyz.mean(0), sign * far * along[None]]) for sign in (1.0, -1.0)
    ]
    odd = (ends[0]["electrostatics"] - ends[1]["electrostatics"]) / 2
    assert odd == pytest.approx(COULOMB * np.linalg.norm(dipole) / far**2, rel=2e-3)


def test_a_neutral_oscillator_near_a_charge_gains_half_alpha_field_squared() -> None:
    alpha, r = 2e-3, 3.0
    model = ShortRange.charges_only().model_copy(update={"damping_alpha": {"H": 4e-4, "Na": 4e-4}})
    methane = standin_species.species(
        "methane", "C", charges=(0.0,) * 5, alpha=(alpha, *(0.0,) * 4), c6=(0.0,) * 5
    )
    ion = standin_species.species("ion", "[Na+]", charges=(1.0,), alpha=(0.0,), c6=(0.0,))
    at = [torch.zeros((5, 3), dtype=torch.float64), torch.tensor([[r, 0.0, 0.0]], dtype=torch.float64)]
    cluster = Cluster.of([species_tensors(methane, model), species_tensors(ion, model)], at)
    # alpha is a volume: energy is -1/2 alpha (q/r^2)^2 in units of e^2/(4 pi epsilon_0)
    expected = -0.5 * COULOMB * alpha / r**4
    assert interaction_energy(cluster)["induction"].item() == pytest.approx(expected, rel=1e-4)
    mobile = cluster.species[0].oscillator_charges
    moment = (mobile[:, None] * relaxed_displacements(cluster)).sum(0)
    np.testing.assert_allclose(moment.numpy(), [-alpha / r**2, 0.0, 0.0], rtol=1e-4, atol=1e-12)


def test_dispersion_goes_to_the_molecular_c6_over_r_to_the_sixth() -> None:
    far = 40.0
    parts = _energies(["EC", "EC"], [EC.xyz, EC.xyz + np.array([0.0, far, 0.0])])
    molecular_c6 = float(np.sqrt(EC.dispersion.c6).sum() ** 2)
    assert parts["dispersion"] == pytest.approx(-molecular_c6 / far**6, rel=1e-3)


def test_the_short_range_is_gone_at_two_nanometres() -> None:
    def largest(gap: float) -> float:
        rng = np.random.default_rng(2)
        other = at_contact(EC.xyz, random_pose(EC.xyz, rng), gap, rng)
        cluster = Cluster.of([TENSORS["EC"]] * 2, [torch.tensor(EC.xyz), torch.tensor(other)])
        return max(abs(value.item()) for value in short_range_energies(cluster).values())

    assert largest(0.25) > 1.0
    assert largest(2.0) < 1e-9


@pytest.fixture(scope="module")
def bare_contact() -> Cluster:
    """A cation inside an anion, without damping."""
    undamped = ShortRange.charges_only().model_copy(update={"damping": 1e4, "damping_alpha": {}})
    anion = standin_species.species("anion", "[Cl-]", charges=(-1.0,), alpha=(5e-3,), c6=(0.0,))
    cation = standin_species.species("cation", "[Na+]", charges=(1.0,), alpha=(1e-5,), c6=(0.0,))
    return Cluster.of(
        [species_tensors(anion, undamped), species_tensors(cation, undamped)],
        [torch.zeros((1, 3), dtype=torch.float64), torch.tensor([[0.03, 0.0, 0.0]], dtype=torch.float64)],
    )


def test_a_cation_bare_inside_an_anion_is_reported_as_not_converging(bare_contact: Cluster) -> None:
    with pytest.raises(SimulationError, match="induced dipoles do not converge: two molecules .* too close"):
        interaction_energy(bare_contact)


def test_oscillators_at_rest_on_a_saddle_are_reported_as_not_converging(
    bare_contact: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def energy(flat: torch.Tensor) -> torch.Tensor:
        return oscillator_energy(bare_contact, flat.reshape(2, 3))

    saddle = torch.tensor([-0.001429, 0.0, 0.0, -0.017486, 0.0, 0.0], dtype=torch.float64)
    for _ in range(6):  # Newton's method
        slope = torch.autograd.functional.jacobian(energy, saddle)
        saddle = saddle - torch.linalg.solve(torch.autograd.functional.hessian(energy, saddle), slope)
    assert torch.linalg.eigvalsh(torch.autograd.functional.hessian(energy, saddle))[0] < 0
    # the iteration is chaotic here and may come to rest on it, by chance
    monkeypatch.setattr("phyff.model.cluster._anderson", lambda history: saddle.reshape(2, 3))
    with pytest.raises(SimulationError, match="induced dipoles do not converge"):
        relaxed_displacements(bare_contact)
