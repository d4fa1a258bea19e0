"""The driven flow: the force is the one asked for, friction alone gives its exact answer, Drudes go along."""

import json
import math

import numpy as np
import openmm
import pytest
from standin import StandIn
from typer.testing import CliRunner

from phyff.cli import app
from phyff.errors import InputError
from phyff.md.driven import Driving, settled
from phyff.md.run_state import RunState
from phyff.md.viscosity import cosine_acceleration, profile_velocity, shear_flow, shear_flow_of_run
from phyff.properties.trajectory import Run
from phyff.properties.viscosity import viscosity

EDGE = 2.0


def ideal_gas(count: int) -> openmm.System:
    system = openmm.System()
    system.setDefaultPeriodicBoxVectors((EDGE, 0, 0), (0, EDGE, 0), (0, 0, EDGE))
    for index in range(count):
        system.addParticle(20.0 if index % 2 else 40.0)
    return system


def context_of(system: openmm.System, integrator: openmm.Integrator) -> openmm.Context:
    return openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))


def test_every_particle_is_accelerated_by_the_same_cosine() -> None:
    system = ideal_gas(50)
    masses = np.array([system.getParticleMass(i)._value for i in range(50)])
    system.addForce(cosine_acceleration(masses, 0.3))
    context = context_of(system, openmm.VerletIntegrator(0.001))
    z = np.linspace(-EDGE, 2.0 * EDGE, 50)
    context.setPositions(np.stack([np.zeros(50), np.zeros(50), z], axis=1))
    state = context.getState(forces=True, energy=True)
    forces = state.getForces(asNumpy=True)._value
    assert forces[:, 0] / masses == pytest.approx(0.3 * np.cos(2.0 * math.pi * z / EDGE), abs=1e-5)
    assert np.abs(forces[:, 1:]).max() == 0.0
    assert state.getPotentialEnergy()._value == 0.0


def test_the_profile_velocity_is_the_amplitude_of_the_cosine() -> None:
    rng = np.random.default_rng(1)
    system = ideal_gas(4000)
    masses = np.array([system.getParticleMass(i)._value for i in range(4000)])
    xyz = rng.uniform(0.0, EDGE, size=(4000, 3))
    velocities = np.zeros((4000, 3))
    velocities[:, 0] = 0.7 * np.cos(2.0 * math.pi * xyz[:, 2] / EDGE)
    context = context_of(system, openmm.VerletIntegrator(0.001))
    context.setPositions(xyz)
    context.setVelocities(velocities)
    state = context.getState(positions=True, velocities=True)
    assert profile_velocity(state, masses) == pytest.approx(0.7, rel=1e-6)


def test_without_forces_between_particles_only_friction_holds_the_flow_back(tmp_path) -> None:  # type: ignore[no-untyped-def]
    # At high friction particles hardly move along z, so V = A / friction: no viscosity is left. The
    # integrator shows velocities just after its friction, which makes them smaller by x / (exp(x) - 1).
    system, friction, rng = ideal_gas(300), 20.0, np.random.default_rng(2)

    def integrator() -> openmm.Integrator:
        made = openmm.LangevinMiddleIntegrator(100.0, friction, 0.005)
        made.setRandomNumberSeed(5)
        return made

    context = context_of(system, integrator())
    context.setPositions(rng.uniform(0.0, EDGE, size=(300, 3)))
    context.setVelocitiesToTemperature(100.0, 3)
    start = context.getState(positions=True, velocities=True)
    shear_flow(system, integrator, start, tmp_path, Driving(8.0, (2.0, 4.0), 1.0, "Reference"))
    about = json.loads((tmp_path / "viscosity.json").read_text())
    assert about["wave_number_per_nm"] == pytest.approx(math.pi)
    assert about["density_g_cm3"] == pytest.approx(300 * 30.0 * 1.66053907e-3 / EDGE**3)
    found, flow = viscosity(Run(tmp_path, {}, ()))
    assert found is not None and flow is not None
    x = friction * 0.005
    assert flow.linear * friction == pytest.approx(x / math.expm1(x), abs=0.025)


def test_a_run_directory_of_drude_water_is_driven_from_its_settled_state(tmp_path) -> None:  # type: ignore[no-untyped-def]
    forcefield, edge = StandIn(), 1.6
    topology = forcefield.topology([("WATER", 27)], edge)
    system = forcefield.create_system(topology, cutoff_nm=0.7)
    grid = (edge / 3.0) * np.stack(np.meshgrid(*[np.arange(3)] * 3, indexing="ij"), axis=-1).reshape(-1, 1, 3)
    atoms = (grid + np.array(forcefield.species[0].conformers[0].xyz_nm)).reshape(-1, 3)
    context = context_of(system, forcefield.integrator(298.15))
    context.setPeriodicBoxVectors((edge, 0, 0), (0, edge, 0), (0, 0, edge))
    context.setPositions(forcefield.place(topology, atoms))
    state = context.getState(positions=True, velocities=True)
    with pytest.raises(InputError, match=r"run\.json is missing"):
        shear_flow_of_run(forcefield, tmp_path, Driving(50.0, (0.5,)))
    (tmp_path / "state-settle.xml").write_text(openmm.XmlSerializer.serialize(state))
    (tmp_path / "composition.json").write_text(json.dumps([{"name": "WATER", "count": 27}]))
    settings = {"temperature_K": 298.15, "cutoff_nm": 0.7, "seed": 1}
    settle = {"name": "settle", "mean_drude_temperature_K": 4.0}
    stages = [{"name": "density"}, settle, {"name": "transport"}]
    RunState(settings, {}, stages[:1], stage="finished", preset="density").save(tmp_path)
    with pytest.raises(InputError, match="preset 'density' ends with the density"):
        shear_flow_of_run(forcefield, tmp_path, Driving(50.0, (0.5,)))
    RunState(settings, {}, stages, stage="settle", step=100).save(tmp_path)  # has a checkpoint already
    with pytest.raises(InputError, match="has not settled yet"):
        shear_flow_of_run(forcefield, tmp_path, Driving(50.0, (0.5,)))
    RunState(settings, {}, stages, stage="transport").save(tmp_path)
    warmer = 5.0 / 1.0 * (1 / 3) * (4.0 - 1.0)  # one oscillator for three atoms (phyff.md.temperature)
    assert settled(forcefield, tmp_path).integrator().getTemperature()._value == pytest.approx(
        298.15 + warmer
    )
    shear_flow_of_run(forcefield, tmp_path, Driving(0.2, (0.5,), 0.05, "Reference"))
    rows = (tmp_path / "viscosity-0.5.csv").read_text().splitlines()
    assert rows[0] == "time_ps,velocity_nm_ps"
    assert len(rows) == 11
    assert json.loads((tmp_path / "viscosity.json").read_text())["friction_per_ps"] == 1.0


@pytest.mark.parametrize("command", ["viscosity", "field", "vapour"])
def test_the_command_names_what_a_folder_lacks(command, tmp_path) -> None:  # type: ignore[no-untyped-def]
    called = CliRunner().invoke(app, [command, str(tmp_path), "--platform", "Reference"])
    assert called.exit_code == 2
    assert "holds no run.json; give a folder that phyff run has written" in called.output
