"""How honest the dynamics is: temperatures under the production thermostats, energy drift without any.

    phyff run recipes/lp30.yaml --preset quick --out RUN_DIR
    python benchmarks/drift.py RUN_DIR [--ps PS] [--drift-only] [--platform NAME]

From the settled liquid of a finished run, at 0.5 and 1 fs. First the thermostats of its density and transport
stages (phyff/md/protocol.py), set as warm as they were there: mean temperature of atoms that carry their
oscillators (the centre of mass of each pair), of oscillators against their atoms, and of molecules as wholes;
unequal ones mean that heat flows through the liquid. Then no friction and no hard wall: the drift of the
total energy, a straight line through its course, and how fast oscillators, cold at the start, take heat from
the atoms. While they do, the energy that leapfrog reports changes with the square of the step. So in the last
rows they start as hot as the atoms, and what drifts then is the error of integrator and forces, a neural
term's included where the run has one. Temperatures are those on the step (phyff/md/temperature.py).
"""

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import openmm
from numpy.typing import NDArray
from scipy.stats import linregress

from phyff.errors import SimulationError
from phyff.md.charges import particle_masses
from phyff.md.driven import Settled, settled
from phyff.md.temperature import (
    atoms_of_particles,
    drude_pairs,
    group_temperature,
    on_step,
    oscillator_temperature,
)
from phyff.openmm.forcefield import ForceField
from phyff.openmm.native import accelerated
from phyff.openmm.platforms import platform_named, precision
from phyff.properties.density import series_mean

TIME_STEPS_FS = (0.5, 1.0)
STAGES = ("density", "transport")
SAMPLE_PS = 0.02
NO_FRICTION = 1e-6
"""1/ps; at exactly zero DrudeLangevinIntegrator divides zero by zero (OpenMM 8.6)."""
HEATING_PS = 3.0
HEATING_FRICTIONS = (5.0, 20.0)
"""1/ps, of atoms and oscillators."""
BLOCKS = 10
"""Averages of the energy that the straight line goes through; they hardly remember each other."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Course:
    """Samples of a stretch of dynamics, (n,) each; temperatures in K."""

    time_ps: Floats
    energy: Floats
    """Potential and kinetic, kJ/mol."""
    atoms: Floats
    """Of centres of mass of atoms and their oscillators."""
    oscillators: Floats
    """Of their motion against their atoms."""
    molecules: Floats
    """Of centres of mass of molecules."""


@dataclass(frozen=True)
class Drift:
    """Of a total energy, kJ/mol per ns and atom."""

    value: float
    error: float
    """One standard error."""
    scatter: float
    """Root mean square about the line, kJ/mol per atom."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run_dir", type=Path, help="folder of a finished phyff run")
    parser.add_argument("--ps", type=float, default=20.0, help="length of each stretch")
    parser.add_argument("--drift-only", action="store_true", help="without the rows with thermostats")
    parser.add_argument("--platform", help="OpenMM platform, by default the fastest")
    options = parser.parse_args()
    if options.ps < 2 * BLOCKS * SAMPLE_PS:
        parser.error(f"--ps {options.ps:g} is too short for a drift; give {2 * BLOCKS * SAMPLE_PS:g} or more")
    platform = platform_named(options.platform)
    liquid = settled(ForceField.load(options.run_dir / "forcefield.json"), options.run_dir)
    state = json.loads((options.run_dir / "run.json").read_text())
    settings, stages = state["settings"], {stage["name"]: stage for stage in state["stages"]}
    atoms = number_of_atoms(liquid.system)
    print(f"{atoms} atoms at {settings['temperature_K']:g} K, {options.ps:g} ps a row, {platform.getName()}")
    if not options.drift_only:
        thermostats(liquid, stages, options.ps, platform)
    print(
        f"\n{'no friction':21s} fs{'drift (kJ/mol/ns/atom)':>27s}{'scatter (kJ/mol/atom)':>24s}"
        f"{'atoms (K)':>13s}{'oscillators (K)':>18s}"
    )
    hot = with_hot_oscillators(liquid, settings["temperature_K"], platform)
    for label, start in (("cold oscillators", liquid), ("as hot as the atoms", hot)):
        for fs in TIME_STEPS_FS:
            course = run(start, no_thermostat(liquid, fs), options.ps, platform)
            found = drift(course.time_ps, course.energy / atoms)
            line = f"{found.value:.3f} ± {found.error:.3f}"
            a, o = _from_to(course.atoms, 0), _from_to(course.oscillators, 1)
            print(f"{label:21s}{fs:3.1f}{line:>27s}{found.scatter:>24.5f}{a:>13s}{o:>18s}", flush=True)


def thermostats(
    liquid: Settled, stages: dict[str, dict[str, Any]], ps: float, platform: openmm.Platform
) -> None:
    """Prints the temperatures under the thermostats of STAGES, set as they were in the run."""
    print(
        f"\n{'friction (1/ps)':21s} fs{'set (K)':>9s}{'atoms (K)':>15s}{'molecules (K)':>16s}"
        f"{'oscillators (K)':>17s}"
    )
    for name in STAGES:
        frictions = stages[name]["friction_per_ps"], stages[name]["drude_friction_per_ps"]
        for fs in TIME_STEPS_FS:
            integrator = thermostat(liquid, fs, *frictions)
            integrator.setTemperature(stages[name]["thermostat_K"])
            course = run(liquid, integrator, ps, platform)
            means = [series_mean(x) for x in (course.atoms, course.molecules, course.oscillators)]
            a, m, o = (f"{mean.mean:.1f} ± {mean.error:.1f}" for mean in means)
            label = f"{name}: {frictions[0]:g}, {frictions[1]:g}"
            print(
                f"{label:21s}{fs:3.1f}{stages[name]['thermostat_K']:9.1f}{a:>15s}{m:>16s}{o:>17s}", flush=True
            )


def thermostat(
    liquid: Settled, timestep_fs: float, friction: float, drude_friction: float
) -> openmm.DrudeLangevinIntegrator:
    """The production integrator with other frictions (1/ps)."""
    made = liquid.integrator()
    made.setStepSize(1e-3 * timestep_fs)
    made.setFriction(friction)
    made.setDrudeFriction(drude_friction)
    return made


def no_thermostat(liquid: Settled, timestep_fs: float) -> openmm.DrudeLangevinIntegrator:
    """The same without what does work on the system besides its forces: frictions and hard wall."""
    made = thermostat(liquid, timestep_fs, NO_FRICTION, NO_FRICTION)
    made.setMaxDrudeDistance(0.0)
    return made


def with_hot_oscillators(liquid: Settled, temperature: float, platform: openmm.Platform) -> Settled:
    """The liquid after HEATING_PS with oscillators at the temperature (K) of the atoms, and no hard wall."""
    integrator = thermostat(liquid, min(TIME_STEPS_FS), *HEATING_FRICTIONS)
    integrator.setTemperature(temperature)
    integrator.setDrudeTemperature(temperature)
    integrator.setMaxDrudeDistance(0.0)
    context = _context(liquid, integrator, platform)
    context.setVelocities(liquid.start.getVelocities())
    integrator.step(round(HEATING_PS / integrator.getStepSize()._value))
    return replace(liquid, start=context.getState(positions=True, velocities=True))


def run(
    liquid: Settled, integrator: openmm.DrudeLangevinIntegrator, ps: float, platform: openmm.Platform
) -> Course:
    """Dynamics from the settled state, at rest as a whole, sampled every SAMPLE_PS.

    Raises:
        SimulationError: the liquid blew up.
    """
    system = liquid.system
    masses = particle_masses(system)
    context = _context(liquid, integrator, platform)
    velocities = liquid.start.getVelocities(asNumpy=True)._value
    velocities[masses > 0] -= masses @ velocities / masses.sum()
    context.setVelocities(velocities)
    atoms, pairs, timestep_ps = (
        atoms_of_particles(system),
        drude_pairs(system),
        integrator.getStepSize()._value,
    )
    rows = []
    for k in range(1, round(ps / SAMPLE_PS) + 1):
        integrator.step(round(SAMPLE_PS / timestep_ps))
        state = context.getState(energy=True, velocities=True, forces=True)
        moving = on_step(state, masses, timestep_ps)
        rows.append(
            (
                k * SAMPLE_PS,
                (state.getPotentialEnergy() + state.getKineticEnergy())._value,
                group_temperature(moving, masses, atoms),
                oscillator_temperature(moving, masses, pairs),
                group_temperature(moving, masses, liquid.molecule),
            )
        )
    if not np.isfinite(rows).all():
        raise SimulationError("The liquid blew up; its temperatures mean nothing.")
    return Course(*np.array(rows).T)


def _context(
    liquid: Settled, integrator: openmm.DrudeLangevinIntegrator, platform: openmm.Platform
) -> openmm.Context:
    """At the positions of the start."""
    context = openmm.Context(accelerated(liquid.system, platform), integrator, platform, precision(platform))
    context.setPeriodicBoxVectors(*liquid.start.getPeriodicBoxVectors())
    context.setPositions(liquid.start.getPositions())
    return context


def drift(time_ps: Floats, energy: Floats) -> Drift:
    """Straight line through the averages of BLOCKS equal parts of an energy's course (kJ/mol per atom)."""
    times, energies = (
        np.array([part.mean() for part in np.array_split(x, BLOCKS)]) for x in (time_ps, energy)
    )
    fit = linregress(1e-3 * times, energies)
    line = fit.intercept + fit.slope * 1e-3 * time_ps
    return Drift(float(fit.slope), float(fit.stderr), float(np.std(energy - line)))


def number_of_atoms(system: openmm.System) -> int:
    """Particles with a mass, without oscillators."""
    massive = sum(system.getParticleMass(k)._value > 0 for k in range(system.getNumParticles()))
    return massive - len(drude_pairs(system))


def _from_to(series: Floats, digits: int) -> str:
    """Means of the first and the last tenth."""
    tenths = np.array_split(series, 10)
    return f"{tenths[0].mean():.{digits}f} to {tenths[-1].mean():.{digits}f}"


if __name__ == "__main__":
    main()
