"""From a simulation to labelled clusters: what the neural term learns from."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openmm
from MDAnalysis.coordinates.timestep import Timestep  # type: ignore[import-untyped]
from openmm import unit

from phyff.errors import InputError
from phyff.fit.contact_shapes import shapes_in_frames
from phyff.fit.training import load_dimers
from phyff.md.run_state import RunState
from phyff.openmm.forcefield import ForceField
from phyff.properties.committee import read_checks
from phyff.properties.trajectory import open_dcd
from phyff.qm.clusters import SCALES, SIZES, CutCluster, Frame, cluster_job_of, cut_around, cut_clusters
from phyff.qm.executor import Job
from phyff.qm.level import LevelOfTheory
from phyff.qm.monomer import contact_potential_job_of
from phyff.species.parameters import SpeciesParameters
from phyff.units import ANGSTROM_NM, BOHR_NM

DENSITY = "density"
DENSITY_STATE = f"state-{DENSITY}.xml"
FRAME_SPACING_PS = 1.5
"""Between frames that clusters are cut from: molecules have vibrated and moved against each other by then, if
not turned or parted."""
SHAPE_SPACING_PS = 0.5
"""The same for the shapes of single molecules: their vibrations have changed by then."""


def cluster_jobs(
    run_dir: Path,
    number: int,
    level: LevelOfTheory,
    forces: bool,
    smallest: int = SIZES[0],
    largest: int = SIZES[-1],
    around: Sequence[str] = (),
    most_atoms: int | None = None,
    seed: int = 1,
) -> list[Job]:
    """Jobs that label up to `number` clusters, as many as the frames of a run hold, of `smallest` to
    `largest` molecules and at most `most_atoms` (none: any number) around species of those names (none: all),
    every third one compressed and every third one stretched.

    Raises:
        InputError: the folder holds no run that got so far, or no species of such a name.
    """
    frames = frames_of_run(run_dir)
    _check_named("around", around, {s.name for s in frames[0].species}, str(run_dir))
    sizes = [size for size in SIZES if smallest <= size <= largest]
    if not sizes:
        raise InputError(f"smallest: {smallest} molecules are more than largest, {largest}; swap them.")
    cut = cut_clusters(frames, number, run_dir.absolute().name, seed, sizes, around, most_atoms)
    copies = [cluster.scaled(SCALES[k % len(SCALES)]) for k, cluster in enumerate(cut)]
    return [cluster_job_of(cluster, level, forces) for cluster in copies]


def shape_jobs(
    run_dir: Path, number: int, level: LevelOfTheory, species: Sequence[str] = (), seed: int = 1
) -> list[Job]:
    """Jobs that compute the potential of molecules in shapes that they have beside bare cations in a run, for
    `number` of each of some species (none: all), or as many as its frames hold.

    Raises:
        InputError: the folder holds no run that got so far, or no species of such a name.
    """
    frames = frames_of_run(run_dir, SHAPE_SPACING_PS)
    _check_named("species", species, {s.name for s in frames[0].species}, str(run_dir))
    return [
        contact_potential_job_of(own.molecule, xyz / BOHR_NM, cations / BOHR_NM, level)
        for own, xyz, cations in shapes_in_frames(frames, number, seed, species)
    ]


def _check_named(option: str, asked: Sequence[str], known: Collection[str], where: str) -> None:
    unknown = [name for name in asked if name not in known]
    if unknown:
        raise InputError(
            f"{option}: {', '.join(unknown)} is not in {where}; choose of {', '.join(sorted(known))}."
        )


def dimer_force_jobs(
    records: Path,
    species: Mapping[str, SpeciesParameters],
    number: int,
    level: LevelOfTheory,
    around: Sequence[str] = (),
    most_atoms: int | None = None,
) -> list[Job]:
    """Jobs that add forces to the first `number` bound dimers of the training set in the record folder, scans
    and neighbours in liquids alike, of those with a species named in `around` (none: all) and at most
    `most_atoms`. The order is drawn by a hash, so that a larger number continues a smaller one; a dimer keeps
    its scan as the source, and with it its side of a split.

    Raises:
        InputError: no species of such a name.
    """
    _check_named("around", around, species, "the library")
    chosen = [
        point
        for point in load_dimers(records, species)
        if point.components["total"] < 0.0
        and (not around or set(around) & set(point.names))
        and (most_atoms is None or sum(species[n].n_atoms for n in point.names) <= most_atoms)
    ]
    chosen.sort(key=lambda p: hashlib.sha256(f"{p.scan} {p.xyz[1].round(6).tolist()}".encode()).digest())
    return [
        cluster_job_of(
            CutCluster(tuple(species[n] for n in point.names), point.xyz, point.scan), level, forces=True
        )
        for point in chosen[:number]
    ]


def frames_of_run(run_dir: Path, spacing_ps: float = FRAME_SPACING_PS) -> list[Frame]:
    """The molecules at the end of a run's density stage, and where it has trajectories every `spacing_ps` of
    them.

    Raises:
        InputError: the folder holds no run that got so far.
    """
    frames = [frame_of_run(run_dir)]
    forcefield, state = ForceField.load(run_dir / "forcefield.json"), RunState.load(run_dir)
    for replica in state.nvt.get("replicas", []):
        path = run_dir / replica["trajectory"]
        if not path.is_file():  # the run stopped before its first frame
            continue
        stride = max(1, round(spacing_ps / state.nvt["frame_ps"]))
        with open_dcd(path) as reader:
            frames += [
                _saved_frame(forcefield, state, reader[k]) for k in range(stride, reader.n_frames, stride)
            ]
    return frames


def frame_of_run(run_dir: Path) -> Frame:
    """The molecules at the end of a run's density stage.

    Raises:
        InputError: the folder holds no run that got so far.
    """
    state = RunState.load(run_dir) if (run_dir / "run.json").is_file() else None
    if state is None or not state.has_finished(DENSITY):
        raise InputError(f"{run_dir} is no run whose density stage is finished; give one that is.")
    forcefield = ForceField.load(run_dir / "forcefield.json")
    final = openmm.XmlSerializer.deserialize((run_dir / DENSITY_STATE).read_text())
    positions = final.getPositions(asNumpy=True).value_in_unit(unit.nanometer)
    vectors = np.array(final.getPeriodicBoxVectors(asNumpy=True).value_in_unit(unit.nanometer))
    counts = state.inputs["counts"]
    return _frame(
        forcefield, counts, positions[forcefield.atom_indices(forcefield.topology(counts))], vectors
    )


@dataclass(frozen=True)
class UncertainFrame:
    """A frame that a run saved, and of its uncertain molecules the largest spread of the force on an atom,
    kJ/mol/nm."""

    run_dir: Path
    frame: Frame
    spreads: dict[int, float]


def uncertain_jobs(
    frames: Sequence[UncertainFrame], number: int, label: str, level: LevelOfTheory, forces: bool
) -> list[Job]:
    """Jobs that label up to `number` clusters around the most uncertain molecules, as the runs left them:
    every molecule at its most uncertain moment, then at its second, and so on."""
    moments: dict[tuple[Path, int], int] = {}
    turns = []
    every = [
        (spread, k, molecule) for k, one in enumerate(frames) for molecule, spread in one.spreads.items()
    ]
    for spread, k, molecule in sorted(every, key=lambda entry: (-entry[0], *entry[1:])):
        own = (frames[k].run_dir, molecule)
        moments[own] = moments.get(own, 0) + 1
        turns.append((moments[own], -spread, k, molecule))
    centres = [(frames[k].frame, molecule) for _, _, k, molecule in sorted(turns)]
    return [cluster_job_of(cluster, level, forces) for cluster in cut_around(centres, number, label)]


def uncertain_frames(run_dir: Path) -> list[UncertainFrame]:
    """The frames that a run saved because the committee of its neural term was uncertain; empty without any.

    Raises:
        InputError: the folder holds no run, or files that do not fit together.
    """
    if not (run_dir / "run.json").is_file():
        raise InputError(f"{run_dir} holds no run.json; give a folder that phyff run has written.")
    forcefield, state = ForceField.load(run_dir / "forcefield.json"), RunState.load(run_dir)
    found = []
    for stage in state.committee.get("stages", []):
        rows, path = run_dir / stage["log"], run_dir / stage["frames"]
        told = read_checks(rows, state.committee["threshold_kJ_mol_nm"]).uncertain if rows.is_file() else ()
        if not told:
            continue
        with open_dcd(path) as reader:
            if reader.n_frames < len(told):
                raise InputError(f"{path} holds fewer frames than {rows} says ({len(told)}); restore it.")
            for spreads, saved in zip(told, reader, strict=False):
                found.append(UncertainFrame(run_dir, _saved_frame(forcefield, state, saved), spreads))
    return found


def _saved_frame(forcefield: ForceField, state: RunState, saved: Timestep) -> Frame:
    """The molecules of a frame of a trajectory."""
    atoms = ANGSTROM_NM * saved.positions.astype(float)
    vectors = np.diag(ANGSTROM_NM * saved.dimensions[:3].astype(float))
    return _frame(forcefield, state.inputs["counts"], atoms, vectors)


def _frame(
    forcefield: ForceField, counts: Sequence[tuple[str, int]], atoms: np.ndarray, vectors: np.ndarray
) -> Frame:
    """The molecules of a box from the positions (n_atoms, 3) of its real atoms, nm."""
    species = tuple(forcefield.named(name) for name, count in counts for _ in range(count))
    ends = np.cumsum([s.n_atoms for s in species])
    return Frame(species, tuple(np.split(atoms, ends[:-1])), vectors)
