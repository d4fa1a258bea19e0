"""One molecule alone in vacuum: the gas that a heat of vaporisation is measured from.

It moves under the thermostat and time step of the run's density stage, whose energies it is compared with
(phyff.properties.vaporisation), so that what these do to a molecule cancels.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import openmm
from numpy.typing import NDArray

from phyff.errors import InputError
from phyff.files import write_atomically
from phyff.md.charges import particle_masses
from phyff.md.driven import Driving, Stretch, run_stretches
from phyff.md.interfaces import ForceFieldLike
from phyff.md.temperature import drude_pairs, on_step, oscillator_temperature
from phyff.properties.vaporisation import ABOUT_FILE, oscillator_energy

SAMPLE_PS = 0.05


def vapour_of_run(forcefield: ForceFieldLike, run_dir: Path, driving: Driving) -> Path:
    """Simulate a molecule of a run's liquid in vacuum; writes the series and vapour.json, returns its path.

    It starts from the lowest conformer. Stopped or killed, the same call goes on. Raises InputError when the
    liquid is not one neutral species.
    """
    needed = [run_dir / name for name in ("run.json", "composition.json")]
    missing = [path for path in needed if not path.is_file()]
    if missing:
        raise InputError(f"run: {missing[0]} is missing; let phyff run make one first.")
    species_rows = json.loads(needed[1].read_text())
    if len(species_rows) != 1 or species_rows[0]["charge"]:
        raise InputError("run: a heat of vaporisation needs a liquid of one neutral species.")
    state = json.loads(needed[0].read_text())
    settings = state["settings"]
    stage = next(stage for stage in settings["stages"] if stage["name"] == "density")
    row = next(row for row in state["stages"] if row["name"] == "density")
    thermostat = row.get("thermostat_K", settings["temperature_K"])  # runs before 2026-12-01 note none
    species = next(s for s in forcefield.species if s.name == species_rows[0]["name"])
    topology = forcefield.topology([(species.name, 1)], None)
    system = forcefield.create_system(topology, cutoff_nm=None)

    def integrator() -> Any:
        made = forcefield.integrator(thermostat, stage["timestep_fs"], stage["friction"])
        made.setDrudeFriction(stage["drude_friction"])
        made.setRandomNumberSeed(settings["seed"])
        return made

    atoms = np.asarray(species.conformers[0].xyz_nm, dtype=float)
    positions = forcefield.place(topology, atoms)
    pairs = drude_pairs(system)
    masses = particle_masses(system)

    def energy(context: openmm.Context) -> float:
        state = context.getState(energy=True, velocities=True, forces=True)
        velocities = on_step(state, masses, context.getIntegrator().getStepSize()._value)
        temperature = oscillator_temperature(velocities, masses, pairs)
        return float(state.getPotentialEnergy()._value) - oscillator_energy(len(pairs), temperature)

    start = _at_rest(system, positions)
    stretch = Stretch(f"vapour-{species.name}", system, None, start, "energy_kJ_mol", energy, SAMPLE_PS)
    run_stretches([stretch], integrator, run_dir, driving)
    about = {
        "series": [{"file": stretch.series, "strength": 1.0}],
        "steady_ps": driving.steady_ps,
        "oscillators": len(pairs),
    }
    write_atomically(run_dir / ABOUT_FILE, json.dumps(about, indent=1) + "\n")
    return run_dir / ABOUT_FILE


def _at_rest(system: openmm.System, positions: NDArray[np.float64]) -> openmm.State:
    reference = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), reference)
    context.setPositions(positions)
    return context.getState(positions=True, velocities=True)
