"""Ions in a field: the force is q E, free ions drift as Langevin's equation says, oscillators feel it too."""

import io
import json
from pathlib import Path

import numpy as np
import openmm
import pytest
from rich.console import Console
from standin import StandIn

from phyff.errors import InputError
from phyff.md.charges import charge_weights, dipole_weights, particle_charges
from phyff.md.driven import Driving
from phyff.md.field import drift, field_force
from phyff.properties.drift import MS_CM, field_conductivity
from phyff.properties.trajectory import Run
from phyff.units import AVOGADRO, ELEMENTARY_CHARGE

EDGE, IONS, MASS, FRICTION, TEMPERATURE = 2.0, 200, 40.0, 10.0, 300.0


def context_of(system: openmm.System, integrator: openmm.Integrator) -> openmm.Context:
    return openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))


def langevin() -> openmm.Integrator:
    made = openmm.LangevinMiddleIntegrator(TEMPERATURE, FRICTION, 0.002)
    made.setRandomNumberSeed(5)
    return made


def test_the_force_is_charge_times_field() -> None:
    system, charges = openmm.System(), np.array([1.5, -0.5, 0.0])
    for _ in charges:
        system.addParticle(1.0)
    system.addForce(field_force(charges, 0.2))
    context = context_of(system, openmm.VerletIntegrator(0.001))
    context.setPositions(np.random.default_rng(1).normal(scale=9.0, size=(3, 3)))
    forces = context.getState(forces=True).getForces(asNumpy=True)._value
    newton = charges * ELEMENTARY_CHARGE * 0.2e9  # e E in N
    assert forces[:, 0] == pytest.approx(newton * AVOGADRO * 1e-9 / 1000.0)
    assert not forces[:, 1:].any()


def test_the_charge_displacement_counts_net_charges_at_centres_of_mass() -> None:
    masses, charges = np.array([1.0, 3.0, 5.0, 2.0]), np.array([-0.4, -0.6, 0.7, 0.3])
    weights = charge_weights(masses, charges, np.array([0, 0, 1, 2]))
    # The third molecule, 0.3 e, stands for a rounding error of a neutral one: only whole charges drift.
    assert weights == pytest.approx([-0.25, -0.75, 1.0, 0.0])
    # What is left of the charges makes the dipoles about centres of mass.
    assert dipole_weights(masses, charges, np.array([0, 0, 1, 2])) == pytest.approx([-0.15, 0.15, -0.3, 0.3])


def test_free_ions_have_the_conductivity_of_their_friction(tmp_path: Path) -> None:
    # sigma = n q^2 / (m gamma): J = (N/V) q v with v = q E / (m gamma).
    system = openmm.System()
    system.setDefaultPeriodicBoxVectors((EDGE, 0, 0), (0, EDGE, 0), (0, 0, EDGE))
    for _ in range(IONS):
        system.addParticle(MASS)
    charges = np.where(np.arange(IONS) % 2, 1.0, -1.0)
    context = context_of(system, langevin())
    context.setPositions(np.random.default_rng(2).uniform(0.0, EDGE, size=(IONS, 3)))
    context.setVelocitiesToTemperature(TEMPERATURE, 3)
    start = context.getState(positions=True, velocities=True)
    quiet = Console(file=io.StringIO())
    driving = Driving(30.0, (0.2, 0.4, 0.6), 1.0, "Reference", quiet)
    drift(system, charges, np.arange(IONS), langevin, start, tmp_path, driving)
    found, response = field_conductivity(Run(tmp_path, {}, ()), None)
    assert found is not None and response is not None
    mass_kg = MASS * 1e-3 / AVOGADRO
    known = 10.0 * IONS / (EDGE * 1e-9) ** 3 * ELEMENTARY_CHARGE**2 / (mass_kg * FRICTION * 1e12)
    assert abs(found.value - known) < 3.0 * found.error
    assert found.error < 0.06 * known
    assert response.cubic == 0.0
    assert MS_CM * response.linear == found.value
    with pytest.raises(InputError, match="no ions"):
        drift(system, 0.0 * charges, np.arange(IONS), langevin, start, tmp_path, driving)


def test_oscillators_and_sites_of_the_force_field_carry_their_charges() -> None:
    topology = StandIn().topology([("WATER", 2)], 2.0)
    charges = particle_charges(StandIn().create_system(topology, cutoff_nm=0.9))
    assert charges.reshape(2, 5)[0] == pytest.approx([1.71636, 0.55733, 0.55733, -1.71636, -1.11466])


def test_a_broken_series_is_named(tmp_path: Path) -> None:
    about = {"series": [{"file": "field-0.1.csv", "strength": 0.1}], "volume_nm3": 8.0, "steady_ps": 1.0}
    (tmp_path / "field.json").write_text(json.dumps(about))
    with pytest.raises(InputError, match=r"field\.json"):
        field_conductivity(Run(tmp_path, {}, ()), None)
