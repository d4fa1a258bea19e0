"""From molecules to the state that the first stage starts from: packed, minimised, slow bonds scanned."""

import copy
import io

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app

from phyff.errors import SimulationError
from phyff.files import write_atomically
from phyff.md.barriers import lowered_barriers
from phyff.md.packing import PackedSpecies, pack
from phyff.md.reporters import StageProgress
from phyff.md.run_system import RunSystem, Snapshot, save_checkpoint, set_state, what_is_wrong
from phyff.openmm.native import accelerated
from phyff.openmm.platforms import open_context
from phyff.species.rotors import rotors

SOFT_POLARIZABILITY = 0.1
"""Factor on polarizabilities in the first minimisation pass, so that contacts relax before dipoles do."""


def pack_and_minimise(run: RunSystem, progress: StageProgress) -> None:
    """Write topology.pdb and the checkpoint "minimise"; the packed box is a little loose.

    Raises:
        SimulationError: no minimum was found that makes sense.
    """
    settings = run.settings
    molecules = sum(number for _, number in run.species)
    progress.say(f"Packing {molecules} molecules ({len(run.atoms)} atoms) into a box of {run.edge:.2f} nm")
    packed = pack(
        [
            PackedSpecies(
                species.name,
                tuple(species.elements),
                tuple(np.asarray(conformer.xyz_nm, dtype=float) for conformer in species.conformers),
                tuple(float(conformer.weight) for conformer in species.conformers),
                number,
            )
            for species, number in run.species
        ],
        run.edge,
        settings.seed,
    )
    positions = run.forcefield.place(run.topology, packed)
    _write_topology(run, packed)
    soft = copy.deepcopy(run.system)
    for force in soft.getForces():
        if isinstance(force, openmm.DrudeForce):
            for i in range(force.getNumParticles()):
                parameters = force.getParticleParameters(i)
                parameters[6] = parameters[6] * SOFT_POLARIZABILITY
                force.setParticleParameters(i, *parameters)
    for system, what in ((soft, "stiff dipoles"), (run.system, "all degrees of freedom")):
        progress.say(f"Minimising the energy: {what}, at most {settings.minimise_iterations} iterations")
        integrator = run.forcefield.integrator(settings.temperature_K, timestep_fs=0.1)
        context = open_context(accelerated(system, run.platform), integrator, run.platform)
        set_state(context, Snapshot(positions, np.zeros_like(positions), run.edge, 0))
        try:
            openmm.LocalEnergyMinimizer.minimize(context, 10.0, settings.minimise_iterations)
        except openmm.OpenMMException as problem:
            raise SimulationError(f"the energy minimisation failed ({problem}); try another seed.") from None
        state = context.getState(positions=True, velocities=True, forces=True, energy=True)
        found = what_is_wrong(run, state)
        if found is not None:
            raise SimulationError(f"after minimisation {found}; try another seed, or check the force field.")
        positions = state.getPositions(asNumpy=True)._value
    save_checkpoint(run, "minimise", context)


def scan_barriers(run: RunSystem, progress: StageProgress) -> None:
    """Find the barriers that stages before those that count lower; run.json keeps them.

    Raises:
        SimulationError: a scan failed.
    """
    if not any(stage.lowered_barriers for stage in run.settings.stages):
        return
    names = [species.name for species, _ in run.species if rotors(species.mapped_smiles)]
    if names:
        progress.say(f"Scanning bonds that turn, of {', '.join(names)}")
        try:
            run.state.lowered_barriers = lowered_barriers(run.forcefield, names)
        except openmm.OpenMMException as problem:
            raise SimulationError(
                f"a scan of the bonds of {', '.join(names)} failed ({problem}); check the force field."
            ) from None


def _write_topology(run: RunSystem, packed: NDArray[np.float64]) -> None:
    """topology.pdb: the real atoms only, at their packed positions."""
    real = app.Topology()
    real.setPeriodicBoxVectors(np.eye(3) * run.edge)
    chain = real.addChain()
    new = {}
    for residue in run.topology.residues():
        copied = real.addResidue(residue.name, chain, residue.id)
        for atom in residue.atoms():
            if atom.element is not None:
                new[atom.index] = real.addAtom(atom.name, atom.element, copied)
    for bond in run.topology.bonds():
        if bond[0].index in new and bond[1].index in new:
            real.addBond(new[bond[0].index], new[bond[1].index])
    written = io.StringIO()
    app.PDBFile.writeFile(real, packed * openmm.unit.nanometer, written)
    write_atomically(run.run_dir / "topology.pdb", written.getvalue())
