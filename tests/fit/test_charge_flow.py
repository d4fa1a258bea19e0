"""Flows of charge fitted to shapes of moving molecules: found where they exist, honest about new shapes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from library_species import quantum_data

from phyff.fit import charge_flow
from phyff.fit.charge_flow import (
    ChargeFlowFit,
    cation_weights,
    fit_charge_flow,
    penetration_potential,
    without_flow,
)
from phyff.fit.electrostatics import fit_electrostatics
from phyff.fit.species import fit_nonbonded
from phyff.model.charge_flow import FlowTensors, flow_triples
from phyff.model.cluster import site_positions
from phyff.qm.monomer import ContactPotential, MonomerData, MonomerDensity
from phyff.species.molecule import Molecule
from phyff.species.parameters import ChargeFlow, DrudeCharges, SpeciesParameters
from phyff.units import BOHR_NM, HARTREE_KJ


@pytest.fixture(scope="module")
def species(ec: MonomerData) -> SpeciesParameters:
    return fit_nonbonded("EC", ec)


def _fit(data: MonomerData, charges: DrudeCharges, shapes: list[MonomerDensity]) -> ChargeFlowFit:
    return fit_charge_flow(data.molecule, data.densities[:1], [1.0], shapes, charges)


def _potential(
    molecule: Molecule, density: MonomerDensity, charges: DrudeCharges, flows: tuple[ChargeFlow, ...]
) -> np.ndarray:
    """(G,) hartree/e, of charges, sites, and what has flowed."""
    xyz = torch.tensor(density.xyz * BOHR_NM)
    on_atoms = np.array(charges.atoms)
    tensors = FlowTensors.of(molecule, flows)
    moved = tensors.charges(xyz).numpy()
    np.add.at(on_atoms, tensors.atoms[:, 0].numpy(), moved)
    np.add.at(on_atoms, tensors.atoms[:, 1].numpy(), -moved)
    places = np.vstack([density.xyz, site_positions(charges.sites, xyz).numpy() / BOHR_NM])
    values = np.array([*on_atoms, *(site.charge for site in charges.sites)])
    potential: np.ndarray = (values / np.linalg.norm(density.esp_points[:, None] - places[None], axis=2)).sum(
        1
    )
    return potential


def _error(
    molecule: Molecule,
    densities: list[MonomerDensity],
    charges: DrudeCharges,
    flows: tuple[ChargeFlow, ...] = (),
) -> float:
    """Root mean square as cations see it, kJ/mol/e."""
    squares = [
        cation_weights(HARTREE_KJ * d.esp_values)
        @ (_potential(molecule, d, charges, flows) - d.esp_values) ** 2
        for d in densities
    ]
    return HARTREE_KJ * float(np.sqrt(np.mean(squares)))


def test_the_potential_of_moving_shapes_is_as_good_as_reported(
    ec: MonomerData, species: SpeciesParameters
) -> None:
    quality, charges = species.quality["charge_flow"], species.drude_charges
    assert quality["shapes"] == len(ec.shapes)
    found = _error(ec.molecule, ec.shapes, charges)
    assert found == pytest.approx(quality["esp_rms_shapes_kJ_mol_e"], rel=1e-6)
    found = _error(ec.molecule, ec.shapes, charges, species.charge_flow)
    assert found == pytest.approx(quality["esp_rms_shapes_flow_kJ_mol_e"], rel=1e-6)


@pytest.mark.parametrize("part", [0, 1])
def test_flows_suit_shapes_they_have_not_seen(ec: MonomerData, species: SpeciesParameters, part: int) -> None:
    known, unknown = ec.shapes[part::2], ec.shapes[1 - part :: 2]
    flows = _fit(ec, species.drude_charges, known).flows
    still = _error(ec.molecule, unknown, species.drude_charges)
    assert _error(ec.molecule, unknown, species.drude_charges, flows) < 0.85 * still


def test_the_error_of_shapes_left_out_is_that_of_fits_without_them(
    ec: MonomerData, species: SpeciesParameters
) -> None:
    charges, few = species.drude_charges, ec.shapes[:3]
    squares = []
    for k, left_out in enumerate(few):
        flows = _fit(ec, charges, [*few[:k], *few[k + 1 :]]).flows
        squares.append(_error(ec.molecule, [left_out], charges, flows) ** 2)
    found = _fit(ec, charges, few).quality["esp_rms_shapes_flow_left_out_kJ_mol_e"]
    assert found == pytest.approx(np.sqrt(np.mean(squares)), rel=1e-6)


def test_flows_that_exist_are_found(
    ec: MonomerData, species: SpeciesParameters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(charge_flow, "RIDGE", 1e-6)
    made = [
        replace(d, esp_values=_potential(ec.molecule, d, species.drude_charges, species.charge_flow))
        for d in ec.shapes
    ]
    found = _fit(ec, species.drude_charges, made).flows
    assert _error(ec.molecule, made, species.drude_charges, found) < 0.01


def test_nothing_has_flowed_at_rest(ec: MonomerData, species: SpeciesParameters) -> None:
    tensors = FlowTensors.of(ec.molecule, species.charge_flow)
    rest = tensors.charges(torch.tensor(ec.densities[0].xyz * BOHR_NM))
    moved = tensors.charges(torch.tensor(ec.shapes[0].xyz * BOHR_NM))
    assert moved.abs().max() > 0.003
    # over the triples of a kind, whose lengths and angles differ a little: the ring is puckered
    kinds = [tuple(ec.molecule.symmetry_classes[a] for a in triple) for triple in tensors.atoms.tolist()]
    for kind in set(kinds):
        own = torch.tensor([other == kind for other in kinds])
        assert rest[own].sum().item() == pytest.approx(0.0, abs=1e-12)


def _contacts(
    ec: MonomerData, charges: DrudeCharges, flows: tuple[ChargeFlow, ...]
) -> list[ContactPotential]:
    """What charges, flows and shells of the atoms would give beside cations, in the shapes there are."""
    found = []
    for density in ec.shapes:
        cations, shells = density.esp_points[:3], density.esp_points[3:].reshape(11, -1, 3)
        moved = replace(density, esp_points=np.concatenate([cations, shells.reshape(-1, 3)]))
        values = _potential(ec.molecule, moved, charges, flows)
        values = values + penetration_potential(ec.densities[0], density.xyz, moved.esp_points)
        found.append(
            ContactPotential(density.xyz, cations, values[:3], shells, values[3:].reshape(shells.shape[:2]))
        )
    return found


def test_beside_cations_charge_may_have_flowed_at_rest_and_knows_far_atoms(
    ec: MonomerData, species: SpeciesParameters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(charge_flow, "RIDGE", 1e-6)
    charges = species.drude_charges
    unknowns = charge_flow._Unknowns.of(ec.molecule, ec.densities[:1], [1.0], for_cations=True)
    assert unknowns.free.any(axis=0).all()
    values = np.random.default_rng(1).normal(scale=0.05, size=unknowns.free.shape) * unknowns.free
    truth = unknowns.flows(values.ravel())
    contacts = _contacts(ec, charges, truth)
    made = [replace(d, esp_values=_potential(ec.molecule, d, charges, truth)) for d in ec.shapes]
    still = [replace(d, esp_values=_potential(ec.molecule, d, charges, truth)) for d in ec.densities[:1]]
    found = fit_charge_flow(ec.molecule, still, [1.0], made, charges, contacts)
    assert found.quality["contacts"] == len(contacts)
    assert found.quality["esp_rms_contacts_kJ_mol_e"] > 5.0
    assert _error(ec.molecule, made, charges, found.flows) < 0.2
    assert found.quality["esp_rms_contacts_flow_left_out_kJ_mol_e"] < 2.0


def test_a_shell_of_electrons_screens_its_nucleus_from_afar_only(ec: MonomerData) -> None:
    electrons, width, place = 1.3, 0.7, 1.9
    one = replace(ec.densities[0], shell_populations=[[electrons]], shell_widths=[[width]])
    points = np.array([[place, 0.0, 0.0], [0.0, 40.0, 0.0]])
    near, far = penetration_potential(one, np.zeros((1, 3)), points)
    # nucleus and shell by quadrature: charge inside counts as at the centre, charge outside where it is
    r = np.linspace(0.0, 60.0, 600001)
    charge = 4 * np.pi * r**2 * electrons * np.exp(-r / width) / (8 * np.pi * width**3)
    shell = np.trapezoid(charge / np.maximum(r, place), r)
    assert near == pytest.approx(electrons / place - shell, rel=1e-6)
    assert far == pytest.approx(0.0, abs=1e-12)


def test_what_is_left_without_the_flow_has_the_potential_and_dipole_of_the_rest(
    ec: MonomerData, species: SpeciesParameters
) -> None:
    shape, nothing = ec.shapes[0], DrudeCharges(atoms=(0.0,) * ec.molecule.n_atoms)
    left = without_flow(ec.molecule, shape, species.charge_flow)
    gone = _potential(ec.molecule, shape, nothing, species.charge_flow)
    np.testing.assert_allclose(shape.esp_values - left.esp_values, gone, atol=1e-12)
    # far away it is that of a dipole
    far = 1e4 * np.eye(3)
    at_a_distance = _potential(ec.molecule, replace(shape, esp_points=far), nothing, species.charge_flow)
    dipole = shape.dipole - left.dipole
    assert np.linalg.norm(dipole) > 1e-3
    np.testing.assert_allclose(
        at_a_distance, far @ dipole / 1e12, rtol=0.01, atol=1e-5 * np.abs(dipole).max() / 1e8
    )


def test_shapes_share_in_the_charges_but_not_in_their_quality_figures(ec: MonomerData) -> None:
    alone = fit_electrostatics(ec.molecule, ec.densities, [1.0])
    with_shapes = fit_electrostatics(ec.molecule, ec.densities, [1.0], ec.shapes, 0.5)
    assert with_shapes.drude_charges != alone.drude_charges
    figure = with_shapes.quality["esp_relative_rms_drude"]
    density, charges = ec.densities[0], with_shapes.drude_charges
    missed = _potential(ec.molecule, density, charges, ()) - density.esp_values
    assert figure == pytest.approx(np.linalg.norm(missed) / np.linalg.norm(density.esp_values), rel=1e-6)
    assert figure > alone.quality["esp_relative_rms_drude"]


def test_without_shapes_there_are_no_flows(ec: MonomerData, species: SpeciesParameters) -> None:
    assert _fit(ec, species.drude_charges, []) == ChargeFlowFit((), {})
    assert "charge_flow" not in fit_nonbonded("EC", replace(ec, shapes=[])).quality


@pytest.mark.parametrize("smiles", ["CC#N", "F[P-](F)(F)(F)(F)F"])
def test_a_straight_angle_moves_no_charge(smiles: str) -> None:
    data = quantum_data(smiles)
    fitted = fit_nonbonded("straight", data)
    classes = data.molecule.symmetry_classes
    bends = {flow.classes: flow.bend for flow in fitted.charge_flow}
    assert all(flow.apart == 2 for flow in fitted.charge_flow)
    xyz = data.densities[0].xyz
    straight = set()
    for _, (i, j, k) in flow_triples(data.molecule, far=False):
        one, other = xyz[i] - xyz[j], xyz[k] - xyz[j]
        if one @ other < -0.99 * np.linalg.norm(one) * np.linalg.norm(other):
            straight.add((classes[i], classes[j], classes[k]))
    assert straight
    assert all((bend == 0.0) == (key in straight) for key, bend in bends.items())
