"""From a finished simulation to labelled clusters: what the neural term learns from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openmm
from openmm import unit

from phyff.errors import InputError
from phyff.md.run import RunState
from phyff.openmm.forcefield import ForceField
from phyff.qm.clusters import SCALES, Frame, cluster_job_of, cut_clusters
from phyff.qm.executor import Job
from phyff.qm.level import LevelOfTheory

DENSITY_STATE = "state-density.xml"


def cluster_jobs(run_dir: Path, number: int, level: LevelOfTheory, forces: bool, seed: int = 1) -> list[Job]:
    """Jobs that label `number` clusters cut out of the end of a run's density stage, every third one
    compressed and every third one stretched.

    Raises:
        InputError: the folder holds no run that got so far.
    """
    cut = cut_clusters(frame_of_run(run_dir), number, run_dir.absolute().name, seed)
    copies = [cluster.scaled(SCALES[k % len(SCALES)]) for k, cluster in enumerate(cut)]
    return [cluster_job_of(cluster, level, forces) for cluster in copies]


def frame_of_run(run_dir: Path) -> Frame:
    """The molecules at the end of a run's density stage.

    Raises:
        InputError: the folder holds no run that got so far.
    """
    if not (run_dir / DENSITY_STATE).is_file():
        raise InputError(
            f"{run_dir} holds no {DENSITY_STATE}; give a folder whose density stage is finished."
        )
    forcefield, state = ForceField.load(run_dir / "forcefield.json"), RunState.load(run_dir)
    final = openmm.XmlSerializer.deserialize((run_dir / DENSITY_STATE).read_text())
    positions = final.getPositions(asNumpy=True).value_in_unit(unit.nanometer)
    vectors = np.array(final.getPeriodicBoxVectors(asNumpy=True).value_in_unit(unit.nanometer))
    species, xyz, start = [], [], 0
    for name, count in state.inputs["counts"]:
        own, tensors = forcefield.named(name), forcefield.tensors[name]
        size = own.n_atoms + len(tensors.oscillators) + len(tensors.sites)
        for _ in range(count):
            species.append(own)
            xyz.append(np.array(positions[start : start + own.n_atoms]))
            start += size
    return Frame(tuple(species), tuple(xyz), vectors)
