"""One turn of active learning: the neural term is taught what it was uncertain of in a run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

from phyff.errors import InputError
from phyff.fit.labels import label_of, load_library, split_of, with_physics
from phyff.fit.neural import Judgement, judged, make_neural
from phyff.fit.neural_training import Schedule
from phyff.labelling import uncertain_frames, uncertain_jobs
from phyff.model.neural import NeuralTerm
from phyff.model.parameters import species_tensors
from phyff.openmm.forcefield import ForceField
from phyff.qm.executor import run_jobs
from phyff.qm.level import LevelOfTheory
from phyff.qm.store import RecordStore
from phyff.replicas import run_folders
from phyff.species.library import NEURAL_FILE

SIDES = {"in the training": "train", "held out": "test"}
"""Of the split by sources, as a user says it; a third of the clusters is held out of every training."""

Turn = Mapping[str, tuple[Judgement, Judgement]]
"""By side: how the run's term and the new one do on its clusters."""


def improve(
    run_dir: Path,
    clusters: int,
    level: LevelOfTheory,
    forces: bool,
    folder: Path,
    workers: int,
    say: Callable[[str], None],
    schedule: Schedule | None = None,
) -> Turn:
    """Label up to `clusters` clusters around the most uncertain molecules of the frames that a run (or its
    replicas) saved, and train the neural term of the library in `folder` (molecules/) anew, with the
    architecture of the run's. Records that exist are not computed again, a stopped training goes on.

    Raises:
        InputError: the folder is no run with a neural term and saved frames, or the library has another short
            range, or lacks a species of the run.
        JobError: clusters could not be labelled; the others are.
    """
    runs = run_folders(run_dir)
    frames = [frame for run in runs for frame in uncertain_frames(run)]
    forcefield = ForceField.load(runs[0] / "forcefield.json")
    before = forcefield.neural
    if before is None:
        raise InputError(f"{run_dir} was simulated without --neural, so there is no neural term to improve.")
    if not frames:
        raise InputError(
            f"{run_dir} has no saved frames: its neural term was never uncertain, or it has not come to its "
            "density stage. Let it run longer, or simulate with a lower --spread-threshold."
        )
    model, species = load_library(folder)
    if model != forcefield.short_range:
        raise InputError(
            f"{run_dir} was simulated with another short-range model than that of {folder}, which its neural "
            "term corrects; run 'phyff train-neural' and simulate again."
        )
    names = {s.mapped_smiles: s.name for s in species.values()}
    missing = [s.name for s in forcefield.species if s.mapped_smiles not in names]
    if missing:
        raise InputError(
            f"{', '.join(missing)} of {run_dir} is not in {folder}, and the neural term learns only of what "
            "is there; put its file there first."
        )
    jobs = uncertain_jobs(frames, clusters, f"{run_dir.absolute().name}-uncertain", level, forces)
    say(f"{len(jobs)} clusters around the most uncertain molecules of {len(frames)} frames")
    records = run_jobs(jobs, RecordStore(folder / "records"), workers, "clusters")
    labels = [
        label_of(job.spec["monomers"], record, job.spec["source"], names)
        for job, record in zip(jobs, records, strict=True)
    ]
    make_neural(folder, before.architecture, schedule or Schedule(), studies=False, say=say)
    after = NeuralTerm.load(folder / NEURAL_FILE)
    tensors = {name: species_tensors(s, model) for name, s in species.items()}
    samples = with_physics(labels, tensors)
    sides = {side: [s for s in samples if split_of(s.label.source) == split] for side, split in SIDES.items()}
    return {
        side: (judged(before, own, tensors), judged(after, own, tensors))
        for side, own in sides.items()
        if own
    }


def table(turn: Turn) -> tuple[list[str], list[list[str]]]:
    """Header and rows: before and after, by side."""
    header = ["clusters", "number", "energy error", "energy spread", "force error", "largest force spread"]
    rows = []
    for side, (before, after) in turn.items():
        pairs = [
            (before.energy_error, after.energy_error),
            (before.energy_spread, after.energy_spread),
            (before.force_error, after.force_error),
            (before.force_spread, after.force_spread),
        ]
        cells = [f"{a:.3g} → {b:.3g}" if math.isfinite(a) else "—" for a, b in pairs]
        rows.append([side, str(before.clusters), *cells])
    return header, rows
