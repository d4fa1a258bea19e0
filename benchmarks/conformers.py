"""Shares of conformers in a liquid, where lowered barriers let them come to equilibrium.

    python benchmarks/conformers.py RUN_DIR [--ps PS]

RUN_DIR holds a run whose density stage is finished. From where that ended the box goes on at the run's
temperature and constant volume, with the barriers of slowly turning bonds lowered as in the stages before
those that count (phyff/md/barriers.py). Printed of each kind of bond: what share of them stands trans (more
than 120 degrees) with its error, how often one turned, and what share does so in the conformers that a box
is packed with. The first quarter is left out.
"""

import argparse
from pathlib import Path

import numpy as np
import openmm
from rich.console import Console
from rich.progress import track

from phyff.labelling import DENSITY_STATE
from phyff.md.barriers import barrier_forces, lowered_barriers
from phyff.openmm.forcefield import ForceField
from phyff.openmm.native import accelerated
from phyff.openmm.platforms import open_context, platform_named
from phyff.properties.conformers import TRANS, torsion_angles
from phyff.properties.density import series_mean
from phyff.properties.trajectory import read_run
from phyff.species.rotors import rotors

SAMPLE_PS = 0.25
LEFT_OUT = 4
"""One part in so many, at the start."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--ps", type=float, default=80.0)
    given = parser.parse_args()
    forcefield, run = ForceField.load(given.run_dir / "forcefield.json"), read_run(given.run_dir)
    counts = [(forcefield.named(s.name), s.count) for s in run.species]
    start = openmm.XmlSerializer.deserialize((given.run_dir / DENSITY_STATE).read_text())
    topology = forcefield.topology(
        [(s.name, count) for s, count in counts], start.getPeriodicBoxVectors(asNumpy=True)._value[0, 0]
    )
    system = forcefield.create_system(topology, cutoff_nm=run.settings["settings"]["cutoff_nm"])
    atoms = forcefield.atom_indices(topology)
    lowered = lowered_barriers(forcefield, [s.name for s in run.species])
    for force in barrier_forces(lowered, counts, atoms):
        system.addForce(force)
    platform = platform_named(None)
    integrator = forcefield.integrator(run.temperature)
    context = open_context(accelerated(system, platform), integrator, platform)
    context.setPeriodicBoxVectors(*start.getPeriodicBoxVectors())
    context.setPositions(start.getPositions())
    context.setVelocities(start.getVelocities())
    frames = []
    for _ in track(range(round(given.ps / SAMPLE_PS)), "turning", console=Console(stderr=True)):
        integrator.step(round(SAMPLE_PS / integrator.getStepSize()._value))
        frames.append(context.getState(positions=True).getPositions(asNumpy=True)._value[atoms])
    xyz = np.array(frames)
    print(
        "| species | bonds | barrier lowered by (kJ/mol) | trans, packed (%) | trans (%) | turns of a bond |"
    )
    print("|---|---|---|---|---|---|")
    for species, inside in zip((s for s, _ in counts), run.species, strict=True):
        biased = {tuple(row["torsions"][0]): row for row in lowered.get(species.name, ())}
        own = xyz[:, inside.first_atom : inside.first_atom + inside.count * inside.n_atoms]
        own = own.reshape(-1, inside.n_atoms, 3)
        for rotor in rotors(species.mapped_smiles):
            trans = np.abs(torsion_angles(own, rotor)).reshape(len(xyz), -1) > TRANS
            share = series_mean(trans[len(trans) // LEFT_OUT :].mean(axis=1), cut_start=False)
            turns = np.sum(trans[1:] != trans[:-1]) / trans.shape[1]
            shapes = np.array([c.xyz_nm for c in species.conformers])
            packed = np.abs(torsion_angles(shapes, rotor)) > TRANS
            weights = [c.weight for c in species.conformers]
            row = biased.get(rotor.torsions[0])
            print(
                f"| {species.name} | {rotor.label} | {-min(row['bias_kJ_mol']) if row else 0:.0f} "
                f"| {100 * np.average(packed.mean(axis=1), weights=weights):.1f} "
                f"| {100 * share.mean:.1f} ± {100 * share.error:.1f} | {turns:.1f} |"
            )


if __name__ == "__main__":
    main()
