"""The `multipole` engine with multiple time steps: energy drift, and the density beside that of `drude`.

    phyff bench density --only EC --runs RUNS
    python -m benchmarks.multiple_time_steps drift RUNS/EC [--ps 4]
    python -m benchmarks.multiple_time_steps density RUNS/EC [--ps 40]

From where a finished run ended. `drift`: total energy without a thermostat, single steps of 0.5 and 1 fs and
multiple ones of 2 and 4 fs (dipoles direct: the splitting of the forces is the same, their cost a third).
`density`: constant pressure, mutual dipoles, 2 fs; resumable, the series and its checkpoint stand in
RUNS/EC/multipole. The first quarter does not count.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openmm
from openmm import app, unit

from benchmarks.drift import drift
from phyff.md.driven import Driving, Stretch, run_stretches
from phyff.openmm.drude import GROUPS
from phyff.openmm.forcefield import EVALUATIONS, ForceField
from phyff.openmm.native import accelerated
from phyff.openmm.platforms import platform_named, precision
from phyff.properties.density import series_mean
from phyff.units import AMU_NM3_TO_G_CM3

SAMPLE_PS = 0.02
BAROSTAT_STEPS = 25


@dataclass(frozen=True)
class Liquid:
    """The atoms of a finished run, where its density stage ended."""

    forcefield: ForceField
    topology: app.Topology
    start: openmm.State
    settings: dict[str, Any]

    def system(self, polarization: str) -> openmm.System:
        """Of the `multipole` engine."""
        return self.forcefield.create_system(
            self.topology, self.settings["cutoff_nm"], "multipole", polarization=polarization
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=["drift", "density"])
    parser.add_argument("run_dir", type=Path, help="folder of a finished phyff run")
    parser.add_argument("--ps", type=float, help="length of each stretch")
    parser.add_argument("--platform", help="OpenMM platform, by default the fastest")
    options = parser.parse_args()
    liquid = at_the_end_of(options.run_dir)
    if options.what == "drift":
        show_drift(liquid, options.ps or 4.0, platform_named(options.platform))
    else:
        show_density(liquid, options.run_dir, options.ps or 40.0, options.platform)


def at_the_end_of(run_dir: Path) -> Liquid:
    """Positions and velocities of the atoms alone."""
    forcefield = ForceField.load(run_dir / "forcefield.json")
    settings = json.loads((run_dir / "run.json").read_text())["settings"]
    counts = [
        (row["name"], int(row["count"])) for row in json.loads((run_dir / "composition.json").read_text())
    ]
    found = openmm.XmlSerializer.deserialize((run_dir / "state-density.xml").read_text())
    atoms = forcefield.atom_indices(forcefield.topology(counts))
    topology = forcefield.topology(counts, engine="multipole")
    topology.setPeriodicBoxVectors(found.getPeriodicBoxVectors())
    system = forcefield.create_system(topology, settings["cutoff_nm"], "multipole", polarization="direct")
    context = openmm.Context(system, openmm.VerletIntegrator(1e-3), platform_named("Reference"))
    context.setPositions(found.getPositions(asNumpy=True)[atoms])
    context.setVelocities(found.getVelocities(asNumpy=True)[atoms])
    return Liquid(forcefield, topology, context.getState(positions=True, velocities=True), settings)


def show_drift(liquid: Liquid, ps: float, platform: openmm.Platform) -> None:
    system = liquid.system("direct")
    atoms = system.getNumParticles()
    print(
        f"{atoms} atoms, {ps:g} ps a row, {platform.getName()}; "
        "drift in kJ/mol/ns/atom, scatter in kJ/mol/atom"
    )
    rows: list[tuple[str, Callable[[], openmm.Integrator]]] = [
        ("0.5 fs", lambda: openmm.VerletIntegrator(0.5e-3)),
        ("1 fs", lambda: openmm.VerletIntegrator(1e-3)),
        ("2 / 1 / 0.5 fs", lambda: _multiple(2e-3)),
        ("4 / 2 / 1 fs", lambda: _multiple(4e-3)),
    ]
    for name, made in rows:
        integrator = made()
        context = openmm.Context(accelerated(system, platform), integrator, platform, precision(platform))
        context.setPeriodicBoxVectors(*liquid.start.getPeriodicBoxVectors())
        context.setPositions(liquid.start.getPositions())
        context.setVelocities(liquid.start.getVelocities())
        energies = []
        for _ in range(round(ps / SAMPLE_PS)):
            integrator.step(round(SAMPLE_PS / integrator.getStepSize()._value))
            state = context.getState(energy=True)
            energies.append((state.getPotentialEnergy() + state.getKineticEnergy())._value / atoms)
        times = SAMPLE_PS * np.arange(1, len(energies) + 1)
        found = drift(times, np.array(energies))
        print(f"{name:16s}{found.value:+10.3f} ± {found.error:.3f}{found.scatter:12.5f}", flush=True)


def _multiple(outer_ps: float) -> openmm.MTSIntegrator:
    return openmm.MTSIntegrator(outer_ps, [(GROUPS[name], times) for name, times in EVALUATIONS.items()])


def show_density(liquid: Liquid, run_dir: Path, ps: float, platform: str | None) -> None:
    settings = liquid.settings
    system = liquid.system("mutual")
    mass = sum(system.getParticleMass(k)._value for k in range(system.getNumParticles()))
    temperature = settings["temperature_K"]
    barostat = openmm.MonteCarloBarostat(settings["pressure_bar"], temperature, BAROSTAT_STEPS)
    barostat.setRandomNumberSeed(settings["seed"])

    def integrator() -> openmm.MTSLangevinIntegrator:
        made = liquid.forcefield.multiple_time_steps(temperature)
        made.setRandomNumberSeed(settings["seed"])
        return made

    def density(context: openmm.Context) -> float:
        volume = context.getState().getPeriodicBoxVolume().value_in_unit(unit.nanometer**3)
        return float(mass * AMU_NM3_TO_G_CM3 / volume)

    out = run_dir / "multipole"
    stretch = Stretch("density", system, barostat, liquid.start, "density_g_cm3", density, SAMPLE_PS)
    run_stretches([stretch], integrator, out, Driving(ps, steady_ps=ps / 4, platform=platform))
    found = np.genfromtxt(out / stretch.series, delimiter=",", names=True)
    kept = series_mean(found["density_g_cm3"][found["time_ps"] > ps / 4], cut_start=False)
    drude = series_mean(np.genfromtxt(run_dir / "npt.csv", delimiter=",", names=True)["density_g_cm3"])
    print(f"drude      {drude.mean:.4f} ± {drude.error:.4f} g/cm3")
    print(f"multipole  {kept.mean:.4f} ± {kept.error:.4f} g/cm3, {ps:g} ps")
    error = float(np.hypot(drude.error, kept.error))
    print(f"difference {kept.mean - drude.mean:+.4f} ± {error:.4f} g/cm3")


if __name__ == "__main__":
    main()
