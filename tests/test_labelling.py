"""Clusters to label come out of a run's own liquid."""

from pathlib import Path

import numpy as np
import openmm
import pytest
import standin_species
from typer.testing import CliRunner

from phyff.cli import app
from phyff.errors import InputError
from phyff.labelling import DENSITY_STATE, cluster_jobs, frame_of_run
from phyff.md.run import RunState
from phyff.openmm.forcefield import ForceField
from phyff.qm.level import PHYFF_2026A

FORCE_FIELD = ForceField((standin_species.WATER, standin_species.LITHIUM), standin_species.SHORT_RANGE)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """26 waters and a lithium ion after their density stage."""
    counts = [("water", 26), ("Li+", 1)]
    places = 0.6 * np.stack(np.meshgrid(*[np.arange(3)] * 3), axis=-1).reshape(-1, 3)
    atoms = np.vstack([*(standin_species.WATER.xyz + place for place in places[:26]), places[26:]])
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
    RunState({}, {"counts": counts}, []).save(tmp_path)
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
    first = [np.mean(m["xyz_angstrom"], axis=0) for m in jobs[1].spec["monomers"]]
    assert min(np.linalg.norm(a - first[0]) for a in first[1:]) < 0.97 * 6.0


def test_a_folder_without_a_liquid_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="whose density stage is finished"):
        frame_of_run(tmp_path)
    refused = CliRunner().invoke(app, ["label", str(tmp_path)])
    assert refused.exit_code == 2 and "whose density stage is finished" in refused.stderr
