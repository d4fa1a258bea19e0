"""Clusters to label come out of a run's own liquid."""

from pathlib import Path

import MDAnalysis
import numpy as np
import openmm
import pytest
import standin_species
from MDAnalysis.coordinates.DCD import DCDWriter
from typer.testing import CliRunner

from phyff.cli import app
from phyff.errors import InputError
from phyff.labelling import DENSITY_STATE, cluster_jobs, frame_of_run, frames_of_run, shape_jobs
from phyff.md.run_state import RunState
from phyff.openmm.forcefield import ForceField
from phyff.qm.level import PHYFF_2026A
from phyff.units import BOHR_NM

FORCE_FIELD = ForceField((standin_species.WATER, standin_species.LITHIUM), standin_species.SHORT_RANGE)


PLACES = 0.6 * np.stack(np.meshgrid(*[np.arange(3)] * 3), axis=-1).reshape(-1, 3)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """26 waters and a lithium ion, which touches none, after their density stage."""
    return _run(tmp_path, PLACES[26])


def _run(tmp_path: Path, lithium: np.ndarray) -> Path:
    counts = [("water", 26), ("Li+", 1)]
    atoms = np.vstack([*(standin_species.WATER.xyz + place for place in PLACES[:26]), lithium])
    topology = FORCE_FIELD.topology(counts, box_nm=1.8)
    context = openmm.Context(
        FORCE_FIELD.create_system(topology),
        openmm.VerletIntegrator(1e-3),
        openmm.Platform.getPlatformByName("Reference"),
    )
    context.setPositions(FORCE_FIELD.place(topology, atoms))
    state = context.getState(positions=True)
    (tmp_path / DENSITY_STATE).write_text(openmm.XmlSerializer.serialize(state))
    FORCE_FIELD.save(tmp_path / "forcefield.json")
    RunState({}, {"counts": counts}, [{"name": "density"}], stage="finished").save(tmp_path)
    return tmp_path


def test_the_frame_has_every_molecule_where_the_run_left_it(run_dir: Path) -> None:
    frame = frame_of_run(run_dir)
    assert [s.name for s in frame.species] == ["water"] * 26 + ["Li+"]
    np.testing.assert_allclose(frame.xyz[5], standin_species.WATER.xyz + 0.6 * np.array([1, 0, 2]), atol=1e-6)
    np.testing.assert_allclose(frame.vectors, 1.8 * np.eye(3))


def test_a_third_of_the_clusters_is_compressed_and_a_third_stretched(run_dir: Path) -> None:
    jobs = cluster_jobs(run_dir, 6, PHYFF_2026A, forces=True)
    assert [len(job.spec["monomers"]) for job in jobs] == [2, 3, 4, 5, 6, 2]
    assert len({job.spec["source"] for job in jobs}) == 6
    pairs = cluster_jobs(run_dir, 6, PHYFF_2026A, forces=True, largest=2)
    assert [len(job.spec["monomers"]) for job in pairs] == [2] * 6
    (around_the_ion,) = cluster_jobs(run_dir, 6, PHYFF_2026A, True, smallest=4, largest=4, around=["Li+"])
    assert [m["elements"] for m in around_the_ion.spec["monomers"]] == [["Li"], *[["O", "H", "H"]] * 3]
    small = cluster_jobs(run_dir, 6, PHYFF_2026A, True, most_atoms=7)
    assert len(small) == 6 and all(sum(len(m["elements"]) for m in j.spec["monomers"]) <= 7 for j in small)
    first = [np.mean(m["xyz_angstrom"], axis=0) for m in jobs[1].spec["monomers"]]
    assert min(np.linalg.norm(a - first[0]) for a in first[1:]) < 0.97 * 6.0


def test_clusters_are_cut_from_the_trajectory_too(run_dir: Path) -> None:
    first = np.concatenate(frame_of_run(run_dir).xyz)
    with DCDWriter(str(run_dir / "nvt.dcd"), n_atoms=len(first)) as writer:
        universe = MDAnalysis.Universe.empty(len(first), trajectory=True)
        universe.dimensions = [18.0, 18.0, 18.0, 90.0, 90.0, 90.0]
        for k in range(7):
            universe.atoms.positions = 10.0 * first + 0.1 * k
            writer.write(universe.atoms)
    state = RunState.load(run_dir)
    state.nvt = {"frame_ps": 0.5, "replicas": [{"trajectory": "nvt.dcd"}]}
    state.save(run_dir)
    frames = frames_of_run(run_dir)
    shifts = [np.concatenate(frame.xyz) - first for frame in frames]
    assert [round(float(shift.mean()), 4) for shift in shifts] == [0.0, 0.03, 0.06]
    np.testing.assert_allclose(frames[1].vectors, 1.8 * np.eye(3), atol=1e-6)
    assert len(cluster_jobs(run_dir, 9, PHYFF_2026A, True, largest=2, around=["Li+"])) == 3


def test_shapes_are_those_of_molecules_that_touch_a_cation_with_the_image_that_touches(
    run_dir: Path, tmp_path: Path
) -> None:
    assert shape_jobs(run_dir, 5, PHYFF_2026A) == []
    oxygen = PLACES[0] + standin_species.WATER.xyz[0]
    beside = shape_jobs(_run(tmp_path, oxygen + [1.8 - 0.2, 0.0, 1.8]), 5, PHYFF_2026A)
    (job,) = beside
    xyz, cations = (BOHR_NM * np.array(job.spec[key]) for key in ("xyz_bohr", "cations_bohr"))
    np.testing.assert_allclose(cations - xyz[:1], [[-0.2, 0.0, 0.0]], atol=1e-5)
    np.testing.assert_allclose(xyz.mean(axis=0), 0.0, atol=1e-6)
    assert shape_jobs(tmp_path, 5, PHYFF_2026A, ["Li+"]) == []
    with pytest.raises(InputError, match="species: EC is not in .*; choose of Li\\+, water"):
        shape_jobs(tmp_path, 5, PHYFF_2026A, ["EC"])
    none = CliRunner().invoke(app, ["label-shapes", str(tmp_path), "--species", "EC"])
    assert none.exit_code == 2 and "choose of" in none.stderr


def test_a_run_without_a_first_frame_has_the_end_of_its_density_stage(run_dir: Path) -> None:
    state = RunState.load(run_dir)
    state.nvt = {"frame_ps": 0.5, "replicas": [{"trajectory": "nvt.dcd"}]}
    state.save(run_dir)
    assert len(frames_of_run(run_dir)) == 1


def test_what_cannot_be_cut_is_said(run_dir: Path) -> None:
    with pytest.raises(InputError, match="Na\\+ is not in .*; choose of Li\\+, water"):
        cluster_jobs(run_dir, 1, PHYFF_2026A, True, around=["Na+"])
    with pytest.raises(InputError, match="swap them"):
        cluster_jobs(run_dir, 1, PHYFF_2026A, True, smallest=4, largest=3)


def test_a_folder_without_a_liquid_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="whose density stage is finished"):
        frame_of_run(tmp_path)
    refused = CliRunner().invoke(app, ["label", str(tmp_path)])
    assert refused.exit_code == 2 and "whose density stage is finished" in refused.stderr
