"""Flow under a cosine-shaped acceleration, from which the shear viscosity follows (periodic perturbation).

Hess, J. Chem. Phys. 116, 209 (2002): a_x = A cos(k z) with k = 2 pi / L drives a velocity profile V cos(k z).
The acceleration is no gradient of an energy, so it is a `PythonForce`, which runs beside any integrator, with
Drude oscillators and virtual sites, on every platform. Momentum balance with a Langevin friction gamma gives
V (gamma + viscosity k^2 / density) = A; phyff.properties.viscosity takes the friction off. What remains is
the viscosity of the liquid under that thermostat and at the wavelength of the box: keep friction weak and
boxes large (measured on argon, benchmarks/notes/transport.md).
"""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openmm
from numpy.typing import NDArray

from phyff.files import write_atomically
from phyff.md.charges import particle_masses
from phyff.md.driven import Driving, Stretch, run_stretches, settled
from phyff.md.interfaces import ForceFieldLike
from phyff.properties.viscosity import ABOUT_FILE
from phyff.units import AMU_NM3_TO_G_CM3

AMPLITUDES = (0.02, 0.04, 0.06)
"""nm/ps2; fluxes must show above thermal noise, and the extrapolation needs three."""
SAMPLE_PS = 0.02


def cosine_acceleration(masses: NDArray[np.float64], amplitude: float) -> openmm.PythonForce:
    """The force of a_x = amplitude cos(2 pi z / L) on particles of these masses (amu); amplitude in nm/ps2.

    Its energy is reported as zero, so potential energies stay those of the system itself.
    """

    def force(state: openmm.State) -> tuple[float, NDArray[np.float64]]:
        z = state.getPositions(asNumpy=True)._value[:, 2]
        height = state.getPeriodicBoxVectors(asNumpy=True)._value[2, 2]
        forces = np.zeros((len(z), 3))
        forces[:, 0] = masses * amplitude * np.cos(2.0 * math.pi / height * z)
        return 0.0, forces

    made = openmm.PythonForce(force, {})
    made.setUsesPeriodicBoundaryConditions(True)
    made.setName("cosine acceleration")
    return made


def profile_velocity(state: openmm.State, masses: NDArray[np.float64]) -> float:
    """V (nm/ps) of the velocity profile v_x = V cos(2 pi z / L), mass-weighted least squares."""
    height = state.getPeriodicBoxVectors(asNumpy=True)._value[2, 2]
    shape = np.cos(2.0 * math.pi / height * state.getPositions(asNumpy=True)._value[:, 2])
    velocities = state.getVelocities(asNumpy=True)._value[:, 0]
    return float(np.sum(masses * velocities * shape) / np.sum(masses * shape**2))


def stretch_name(amplitude: float) -> str:
    """Of the flow under that acceleration (nm/ps2)."""
    return f"viscosity-{amplitude:g}"


def shear_flow_of_run(forcefield: ForceFieldLike, run_dir: Path, driving: Driving) -> Path:
    """Drive the liquid of a run directory, from the state at the end of its settling stage; see shear_flow.

    Raises InputError when the run has not come that far.
    """
    liquid = settled(forcefield, run_dir)
    return shear_flow(liquid.system, liquid.integrator, liquid.start, run_dir, driving)


def shear_flow(
    system: openmm.System,
    make_integrator: Callable[[], Any],
    start: openmm.State,
    run_dir: Path,
    driving: Driving,
) -> Path:
    """Run every amplitude (nm/ps2) at constant volume; writes series and viscosity.json, returns its path.

    make_integrator: a fresh Langevin integrator, its getFriction() being that of centres of mass. start: with
    positions, velocities and a rectangular box. Stopped or killed, the same call goes on.
    """
    masses = particle_masses(system)
    box = start.getPeriodicBoxVectors(asNumpy=True)._value

    def observe(context: openmm.Context) -> float:
        return profile_velocity(context.getState(positions=True, velocities=True), masses)

    stretches = {
        a: Stretch(
            stretch_name(a),
            system,
            cosine_acceleration(masses, a),
            start,
            "velocity_nm_ps",
            observe,
            SAMPLE_PS,
        )
        for a in driving.strengths
    }
    run_stretches(list(stretches.values()), make_integrator, run_dir, driving)
    about = {
        "series": [{"file": stretch.series, "strength": a} for a, stretch in stretches.items()],
        "wave_number_per_nm": 2.0 * math.pi / float(box[2, 2]),
        "density_g_cm3": float(masses.sum()) * AMU_NM3_TO_G_CM3 / float(np.linalg.det(box)),
        "friction_per_ps": float(make_integrator().getFriction()._value),
        "steady_ps": driving.steady_ps,
    }
    write_atomically(run_dir / ABOUT_FILE, json.dumps(about, indent=1) + "\n")
    return run_dir / ABOUT_FILE
