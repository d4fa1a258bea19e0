"""Flow under a cosine-shaped acceleration, from which the shear viscosity follows (periodic perturbation).

Hess, J. Chem. Phys. 116, 209 (2002): a_x = A cos(k z) with k = 2 pi / L drives a velocity profile V cos(k z).
The acceleration is no gradient of an energy, so it is a `PythonForce`, which runs beside any integrator, with
Drude oscillators and virtual sites, on every platform. Momentum balance with a Langevin friction gamma gives
V (gamma + viscosity k^2 / density) = A; phyff.properties.viscosity takes the friction off. What remains is
the viscosity of the liquid under that thermostat and at the wavelength of the box: keep friction weak and
boxes large (measured on argon, benchmarks/README.md).
"""

import copy
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openmm
from numpy.typing import NDArray

from phyff.errors import InputError, SimulationError
from phyff.md.interfaces import ForceFieldLike
from phyff.md.protocol import TRANSPORT_DRUDE_FRICTION, TRANSPORT_FRICTION
from phyff.md.reporters import write_atomically
from phyff.openmm.native import accelerated
from phyff.openmm.platforms import platform_named, precision
from phyff.units import AMU_NM3_TO_G_CM3

AMPLITUDES = (0.02, 0.04, 0.06)
"""nm/ps2; fluxes must show above thermal noise, and the extrapolation needs three."""
SAMPLE_PS = 0.02
STEADY_PS = 20.0
"""Left out at the start of each amplitude, where the profile still builds up."""
START_FILE = "state-settle.xml"
SERIES_FILE, ABOUT_FILE = "viscosity.csv", "viscosity.json"
COLUMNS = "amplitude_nm_ps2,time_ps,velocity_nm_ps"


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


def shear_flow_of_run(
    forcefield: ForceFieldLike,
    run_dir: Path,
    ps: float,
    amplitudes: Sequence[float] = AMPLITUDES,
    steady_ps: float = STEADY_PS,
    platform: str | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Path:
    """Drive the liquid of a run directory, from the state at the end of its settling stage; see shear_flow.

    Raises InputError when the run has not come that far.
    """
    needed = [run_dir / name for name in ("run.json", "composition.json", START_FILE)]
    missing = [path for path in needed if not path.is_file()]
    if missing:
        raise InputError(f"run: {missing[0]} is missing; let phyff run finish its settling stage first.")
    settings = json.loads(needed[0].read_text())["settings"]
    counts = [(row["name"], int(row["count"])) for row in json.loads(needed[1].read_text())]
    start = openmm.XmlSerializer.deserialize(needed[2].read_text())
    edge = float(start.getPeriodicBoxVectors(asNumpy=True)._value[0, 0])
    system = forcefield.create_system(forcefield.topology(counts, edge), cutoff_nm=settings["cutoff_nm"])

    def integrator() -> Any:
        made = forcefield.integrator(settings["temperature_K"], friction=TRANSPORT_FRICTION)
        made.setDrudeFriction(TRANSPORT_DRUDE_FRICTION)
        made.setRandomNumberSeed(settings["seed"])
        return made

    return shear_flow(system, integrator, start, run_dir, ps, amplitudes, steady_ps, platform, say)


def shear_flow(
    system: openmm.System,
    make_integrator: Callable[[], Any],
    start: openmm.State,
    run_dir: Path,
    ps: float,
    amplitudes: Sequence[float] = AMPLITUDES,
    steady_ps: float = STEADY_PS,
    platform: str | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Path:
    """Run every amplitude (nm/ps2) for ps at constant volume; writes viscosity.csv and viscosity.json.

    make_integrator: a fresh Langevin integrator, its getFriction() being that of centres of mass. start: with
    positions, velocities and a rectangular box. Returns the path of viscosity.json.
    """
    if ps <= 2.0 * steady_ps:
        raise InputError(
            f"ps: {ps:g} is too short; the first {steady_ps:g} ps of each amplitude are left out."
        )
    if not amplitudes or min(amplitudes) <= 0.0:
        raise InputError("amplitudes: give at least one positive acceleration in nm/ps2.")
    masses = np.array([system.getParticleMass(i)._value for i in range(system.getNumParticles())])
    box = start.getPeriodicBoxVectors(asNumpy=True)._value
    rows, friction, chosen = [COLUMNS], 0.0, platform_named(platform)
    for amplitude in amplitudes:
        say(f"Viscosity: {ps:g} ps under a cosine acceleration of {amplitude:g} nm/ps2")
        driven = accelerated(copy.deepcopy(system), chosen)
        driven.addForce(cosine_acceleration(masses, amplitude))
        integrator = make_integrator()
        friction = float(integrator.getFriction()._value)
        context = openmm.Context(driven, integrator, chosen, precision(chosen))
        context.setPeriodicBoxVectors(*box)
        context.setPositions(start.getPositions())
        context.setVelocities(start.getVelocities())
        for time_ps, velocity in _profile(context, masses, ps):
            if time_ps > steady_ps:
                rows.append(f"{amplitude:g},{time_ps:.4f},{velocity:.8f}")
    write_atomically(run_dir / SERIES_FILE, "\n".join(rows) + "\n")
    about = {
        "series": SERIES_FILE,
        "wave_number_per_nm": 2.0 * math.pi / float(box[2, 2]),
        "density_g_cm3": float(masses.sum()) * AMU_NM3_TO_G_CM3 / float(np.linalg.det(box)),
        "friction_per_ps": friction,
        "steady_ps": steady_ps,
    }
    write_atomically(run_dir / ABOUT_FILE, json.dumps(about, indent=1) + "\n")
    return run_dir / ABOUT_FILE


def _profile(context: openmm.Context, masses: NDArray[np.float64], ps: float) -> Any:
    """Time (ps) and profile velocity (nm/ps) every SAMPLE_PS."""
    integrator = context.getIntegrator()
    step_ps = integrator.getStepSize()._value
    every = max(1, round(SAMPLE_PS / step_ps))
    for sample in range(1, round(ps / (every * step_ps)) + 1):
        try:
            integrator.step(every)
        except openmm.OpenMMException as problem:
            raise SimulationError(
                f"the flow simulation failed ({problem}); use smaller amplitudes."
            ) from None
        velocity = profile_velocity(context.getState(positions=True, velocities=True), masses)
        if not math.isfinite(velocity):
            raise SimulationError("the flow simulation turned not-a-number; use smaller amplitudes.")
        yield sample * every * step_ps, velocity
