"""A run directory is read as laid out, and what is missing or broken is named."""

import json
import shutil

import numpy as np
import pytest
from synthetic_run import SyntheticRun

from phyff.errors import InputError
from phyff.properties.trajectory import read_npt, read_replicas, read_run


@pytest.fixture()
def run_dir(tmp_path):  # type: ignore[no-untyped-def]
    return SyntheticRun(n_frames=12).write(tmp_path / "run")


def test_species_know_their_atoms_in_the_box(run_dir) -> None:  # type: ignore[no-untyped-def]
    li, pf6, ec = read_run(run_dir).species
    assert (li.first_atom, pf6.first_atom, ec.first_atom) == (0, 30, 240)
    assert list(pf6.atoms_of("F")[:7]) == [30, 32, 33, 34, 35, 36, 37]
    assert list(ec.atoms(ec.carbonyl)[:2]) == [240, 250]
    assert ec.masses.sum() == pytest.approx(88.06, abs=0.01)


def test_centres_of_mass_are_unwrapped_and_barycentric(run_dir) -> None:  # type: ignore[no-untyped-def]
    run = read_run(run_dir)
    (production,) = read_replicas(run, max_snapshots=5)
    assert production.centres.shape == (12, 120, 3)
    assert production.snapshots.shape == (4, 840, 3)
    weights = np.repeat([s.masses.sum() for s in run.species], [s.count for s in run.species])
    assert np.abs(np.average(production.centres, axis=1, weights=weights)).max() < 1e-9
    assert production.length_ps == 11.0
    steps = np.diff(production.centres, axis=0)
    assert np.sqrt((steps**2).mean()) < 0.1


def test_a_line_cut_off_by_a_kill_is_left_out(run_dir) -> None:  # type: ignore[no-untyped-def]
    with (run_dir / "npt.csv").open("a") as handle:
        handle.write("300.100,1.2")
    series = read_npt(read_run(run_dir))
    assert len(series.times) == len(series.densities) == 3000


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("run.json", "{", "not valid JSON"),
        ("run.json", json.dumps({"nvt": {}}), "nvt.frame_ps"),
        ("composition.json", "[]", "at least one species"),
        ("composition.json", json.dumps([{"name": "Li"}]), "'smiles'"),
        ("npt.csv", "time_ps,volume\n1,2\n", "density_g_cm3"),
        ("npt.csv", "time_ps,density_g_cm3\n1,1.2\n1,1.2\n", "strictly increase"),
        ("npt.csv", "time_ps,density_g_cm3\n1,nan\n", "not finite"),
        ("npt.csv", "time_ps,density_g_cm3\n1,dense\n", "not a number"),
    ],
)
def test_a_broken_file_is_named(run_dir, name: str, content: str, message: str) -> None:  # type: ignore[no-untyped-def]
    (run_dir / name).write_text(content)
    with pytest.raises(InputError, match=message):
        run = read_run(run_dir)
        read_npt(run)
        read_replicas(run)


@pytest.mark.parametrize("name", ["run.json", "composition.json", "npt.csv"])
def test_a_missing_file_is_named(run_dir, name: str) -> None:  # type: ignore[no-untyped-def]
    (run_dir / name).unlink()
    with pytest.raises(InputError, match=name):
        read_npt(read_run(run_dir))


def test_a_composition_that_does_not_fit_the_trajectory_is_refused(run_dir) -> None:  # type: ignore[no-untyped-def]
    rows = json.loads((run_dir / "composition.json").read_text())
    rows[0]["count"] = 29
    (run_dir / "composition.json").write_text(json.dumps(rows))
    with pytest.raises(InputError, match="840 atoms but composition.json describes 839"):
        read_replicas(read_run(run_dir))


def test_every_replica_that_exists_is_read_and_snapshots_are_shared_out(tmp_path) -> None:  # type: ignore[no-untyped-def]
    names = ["nvt.dcd", "nvt-2.dcd", "nvt-3.dcd"]
    nvt = {"frame_ps": 1.0, "box_nm": 2.5, "replicas": [{"trajectory": name} for name in names]}
    run_dir = SyntheticRun(n_frames=12, settings={"nvt": nvt}).write(tmp_path / "run")
    shutil.copy(run_dir / "nvt.dcd", run_dir / "nvt-2.dcd")
    replicas = read_replicas(read_run(run_dir), max_snapshots=12)
    assert [len(production.centres) for production in replicas] == [12, 12]
    assert [len(production.snapshots) for production in replicas] == [6, 6]


def test_dipoles_that_the_run_logged_come_with_the_trajectory(tmp_path) -> None:  # type: ignore[no-untyped-def]
    replica = {"trajectory": "nvt.dcd", "log": "nvt.csv", "dipoles": "nvt-dipole.csv", "frames": 50}
    nvt = {"frame_ps": 1.0, "box_nm": 2.5, "replicas": [replica]}
    run_dir = SyntheticRun(n_frames=50, settings={"nvt": nvt}).write(tmp_path)
    assert read_replicas(read_run(run_dir))[0].dipoles is None
    rows = ["time_ps,x,y,z", "0.1,1.0,2.0,3.0", "0.2,4.0,5.0,6.0", "0.3,7.0"]  # the last cut off by a kill
    (run_dir / "nvt-dipole.csv").write_text("\n".join(rows))
    dipoles = read_replicas(read_run(run_dir))[0].dipoles
    assert dipoles is not None and dipoles.tolist() == [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
