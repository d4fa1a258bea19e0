"""Ions drifting in a constant electric field: conductivity without any fluctuation formula.

Every charge q (atoms, off-atom sites, oscillators) feels the force q E along x. E is the macroscopic field,
as the Ewald sum has a conducting boundary; a constant force needs no care for periodic images, and as the box
is neutral its centre of mass stays. What is recorded is the unwrapped displacement of the ions' charge, whose
drift is the current (phyff.properties.drift).
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openmm
from numpy.typing import NDArray

from phyff.errors import InputError
from phyff.files import write_atomically
from phyff.md.charges import charge_weights, particle_charges, particle_masses
from phyff.md.driven import Driving, Stretch, run_stretches, settled
from phyff.md.interfaces import ForceFieldLike
from phyff.properties.drift import ABOUT_FILE
from phyff.units import AVOGADRO, ELEMENTARY_CHARGE

FIELDS = (0.05, 0.10, 0.15)
"""V/nm; weaker ones drown in noise, and at 0.3 an ion gains several kT on the way past a neighbour."""
SAMPLE_PS = 0.1
EV_KJ_MOL = ELEMENTARY_CHARGE * AVOGADRO / 1000.0
"""kJ/mol of one e V."""


def field_force(charges: NDArray[np.float64], volt_per_nm: float) -> openmm.CustomExternalForce:
    """The force of a constant field along x on particles of these charges (e).

    Its energy depends on which image a particle is taken from; no thermostat uses it.
    """
    force = openmm.CustomExternalForce("-strength*q*x")
    force.addGlobalParameter("strength", EV_KJ_MOL * volt_per_nm)
    force.addPerParticleParameter("q")
    for particle, charge in enumerate(charges):
        if charge:
            force.addParticle(particle, [float(charge)])
    force.setName("electric field")
    return force


def drift_of_run(forcefield: ForceFieldLike, run_dir: Path, driving: Driving) -> Path:
    """Drive the ions of a run directory, from the state at the end of its settling stage; see drift.

    Raises InputError when the run has not come that far or has no ions.
    """
    liquid = settled(forcefield, run_dir)
    charges = particle_charges(liquid.system)
    return drift(liquid.system, charges, liquid.molecule, liquid.integrator, liquid.start, run_dir, driving)


def drift(
    system: openmm.System,
    charges: NDArray[np.float64],
    molecule: NDArray[np.int_],
    make_integrator: Callable[[], Any],
    start: openmm.State,
    run_dir: Path,
    driving: Driving,
) -> Path:
    """Run every field (V/nm) at constant volume; writes the series and field.json, returns its path.

    charges (e) and molecule (whose it is, from 0), each (n_particles,). start: with positions, velocities and
    a rectangular box. Stopped or killed, the same call goes on.
    """
    masses = particle_masses(system)
    weights = charge_weights(masses, charges, molecule)
    if not weights.any():
        raise InputError("field: there are no ions in this liquid, so no current either.")

    def observe(context: openmm.Context) -> float:
        return float(weights @ context.getState(positions=True).getPositions(asNumpy=True)._value[:, 0])

    stretches = {
        field: Stretch(
            f"field-{field:g}",
            system,
            field_force(charges, field),
            start,
            "charge_displacement_e_nm",
            observe,
            SAMPLE_PS,
        )
        for field in driving.strengths
    }
    run_stretches(list(stretches.values()), make_integrator, run_dir, driving)
    box = start.getPeriodicBoxVectors(asNumpy=True)._value
    about = {
        "series": [{"file": stretch.series, "strength": field} for field, stretch in stretches.items()],
        "volume_nm3": float(np.linalg.det(box)),
        "steady_ps": driving.steady_ps,
    }
    write_atomically(run_dir / ABOUT_FILE, json.dumps(about, indent=1) + "\n")
    return run_dir / ABOUT_FILE
