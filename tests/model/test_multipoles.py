"""The reference of the `multipole` engine: forces, and the limits that physics prescribes."""

import library_species
import numpy as np
import pytest
import standin_species
import torch
from library_species import SHORT_RANGE, at_contact, random_pose

from phyff.model.cluster import PARTS, Cluster
from phyff.model.multipoles import induced_energy, interaction_energy, laboratory_moments, permanent_energy
from phyff.model.parameters import SpeciesTensors, species_tensors
from phyff.species.parameters import Polarizability, SpeciesParameters
from phyff.units import COULOMB


def _tensors(species: SpeciesParameters) -> SpeciesTensors:
    """With the drude polarizabilities under AMOEBA's damping, so that tests do not follow the fitted ones."""
    own = Polarizability(alpha=species.polarizability.alpha, thole=0.45)
    return species_tensors(species.model_copy(update={"multipole_polarizability": own}), SHORT_RANGE)


EC, LITHIUM = library_species.load("EC"), library_species.load("Li+")


def _cluster(*monomers: tuple[SpeciesParameters, np.ndarray]) -> Cluster:
    return Cluster.of([_tensors(s) for s, _ in monomers], [torch.tensor(xyz) for _, xyz in monomers])


def test_forces_are_the_derivatives_of_the_energy() -> None:
    rng = np.random.default_rng(4)
    first = random_pose(EC.xyz, rng)
    second = at_contact(first, random_pose(EC.xyz, rng), 0.27, rng)
    lithium = at_contact(np.vstack([first, second]), np.zeros((1, 3)), 0.19, rng)
    cluster = _cluster((EC, first), (EC, second), (LITHIUM, lithium))
    cluster.atoms.requires_grad_(True)
    direction, step = torch.tensor(rng.normal(size=cluster.atoms.shape)), 1e-6
    for name in PARTS:
        (gradient,) = torch.autograd.grad(interaction_energy(cluster)[name], cluster.atoms)
        ends = [
            interaction_energy(
                Cluster(
                    cluster.atoms.detach() + sign * step * direction,
                    cluster.molecule,
                    cluster.species,
                    cluster.offsets,
                )
            )[name].item()
            for sign in (1.0, -1.0)
        ]
        assert (gradient * direction).sum().item() == pytest.approx(
            (ends[0] - ends[1]) / (2 * step), rel=1e-5
        )


def test_a_distant_charge_sees_charges_dipoles_and_quadrupoles_as_its_potential() -> None:
    far = np.array([[1.0, -0.7, 0.4]])
    cluster = _cluster((EC, EC.xyz), (LITHIUM, far))
    moments = laboratory_moments(cluster)
    away = torch.tensor(far) - cluster.atoms[:10]
    r = away.norm(dim=1)
    potential = (
        moments.charges[:10] / r
        + (moments.dipoles[:10] * away).sum(1) / r**3
        + torch.einsum("na,nab,nb->n", away, moments.quadrupoles[:10], away) / r**5
    )
    assert permanent_energy(cluster, moments).item() == pytest.approx(COULOMB * potential.sum().item())


def test_a_polarizable_atom_near_a_charge_gains_half_alpha_field_squared() -> None:
    alpha, r = 2e-3, 1.0
    neutral = standin_species.species(
        "methane", "C", charges=(0.0,) * 5, alpha=(alpha, *(0.0,) * 4), c6=(0.0,) * 5
    )
    ion = standin_species.species("ion", "[Na+]", charges=(1.0,), alpha=(0.0,), c6=(0.0,))
    cluster = _cluster((neutral, 1e-6 * np.eye(5, 3)), (ion, np.array([[r, 0.0, 0.0]])))
    energy = induced_energy(cluster, laboratory_moments(cluster)).item()
    assert energy == pytest.approx(-0.5 * COULOMB * alpha / r**4, rel=1e-4)


def test_a_molecule_alone_has_no_interaction_energy() -> None:
    found = {name: value.item() for name, value in interaction_energy(_cluster((EC, EC.xyz))).items()}
    assert found == pytest.approx(dict.fromkeys((*PARTS, "total"), 0.0), abs=1e-12)
