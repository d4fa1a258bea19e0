"""The OpenMM valence forces give the torch energies and forces, and hold ions together."""

import numpy as np
import openmm
import pytest
import torch
from openmm import unit

from phyff.errors import SimulationError
from phyff.model.valence import (
    AngleTerm,
    BondTerm,
    ImproperTerm,
    LinearAngleTerm,
    OneFourTerm,
    TorsionPairTerm,
    TorsionTerm,
    UreyBradleyTerm,
    ValenceTerms,
    valence_energy,
)
from phyff.openmm.valence import add_valence_forces

EVERYTHING = ValenceTerms(
    n_atoms=5,
    bonds=(
        BondTerm(atoms=(0, 1), k=3e5, r0=0.14, anharmonicity=21.0),
        BondTerm(atoms=(1, 2), k=2e5, r0=0.15),
    ),
    angles=(AngleTerm(atoms=(0, 1, 2), k=500.0, theta0=1.9), AngleTerm(atoms=(1, 2, 3), k=300.0, theta0=2.1)),
    linear_angles=(LinearAngleTerm(atoms=(2, 3, 4), k=200.0),),
    urey_bradleys=(UreyBradleyTerm(atoms=(0, 2), k=-2e4, r0=0.24),),
    one_fours=(OneFourTerm(atoms=(0, 3), g=-50.0, k=1000.0, centre=0.3),),
    torsions=(TorsionTerm(atoms=(0, 1, 2, 3), k=(1.0, -2.0, 3.0, 0.5, 0.0, -1.5)),),
    torsion_pairs=(
        TorsionPairTerm(atoms=(3, 2, 1, 4, 0), c=4.0, s=-7.0),
        TorsionPairTerm(atoms=(3, 2, 1, 4, 0), multiples=(1, 2), c=-2.0, s=3.0),
        TorsionPairTerm(atoms=(0, 4, 1, 2, 3), multiples=(1, 2), c=1.0, s=-5.0),
        TorsionPairTerm(atoms=(0, 4, 1, 2, 3), multiples=(2, 1), c=0.5, s=2.0),
    ),
    impropers=(ImproperTerm(atoms=(1, 0, 2, 4), k=30.0),),
)
XYZ = np.array([[0, 0.14, 0.02], [0, 0, 0], [0.15, 0, 0], [0.2, 0.05, 0.12], [-0.1, -0.1, 0.03]], dtype=float)


def _context(terms: ValenceTerms, particles: list[int], n_particles: int) -> openmm.Context:
    system = openmm.System()
    for _ in range(n_particles):
        system.addParticle(15.0)
    add_valence_forces(system, [(terms, particles)])
    integrator = openmm.LangevinMiddleIntegrator(400.0, 1.0, 0.001)
    integrator.setRandomNumberSeed(5)
    return openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))


def test_openmm_agrees_with_torch_on_distorted_geometries() -> None:
    particles = [1, 2, 3, 5, 6]
    context = _context(EVERYTHING, particles, 7)
    rng = np.random.default_rng(0)
    for _ in range(20):
        xyz = XYZ + rng.normal(scale=0.01, size=XYZ.shape)
        positions = np.zeros((7, 3))
        positions[particles] = xyz
        context.setPositions(positions)
        state = context.getState(energy=True, forces=True)
        x = torch.tensor(xyz, requires_grad=True)
        energy = valence_energy(EVERYTHING, x)
        (gradient,) = torch.autograd.grad(energy, x)
        forces = state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.nanometer)
        assert state.getPotentialEnergy()._value == pytest.approx(energy.item(), rel=1e-6)
        np.testing.assert_allclose(forces[particles], -gradient.numpy(), rtol=1e-6, atol=1e-4)


def test_only_forces_with_terms_are_added() -> None:
    system = openmm.System()
    bonds = ValenceTerms(n_atoms=2, bonds=(BondTerm(atoms=(0, 1), k=1e5, r0=0.1),))
    assert [f.getName() for f in add_valence_forces(system, [(bonds, [0, 1])])] == ["valence: bonds"]
    assert add_valence_forces(system, [(ValenceTerms(n_atoms=1), [0])]) == []


def test_a_molecule_with_a_missing_particle_is_refused() -> None:
    with pytest.raises(SimulationError, match="one index per atom"):
        add_valence_forces(openmm.System(), [(EVERYTHING, [0, 1])])
