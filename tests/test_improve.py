"""One turn of active learning on stand-ins: uncertain frames of a run become labels, the term knows better.

Quantum chemistry is played by the physics plus a teacher network.
"""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from neural_terms import untrained
from standin import tiny
from standin_species import SHORT_RANGE, WATER
from typer.testing import CliRunner

from phyff import improve as learning
from phyff import md
from phyff.cli import app
from phyff.errors import InputError
from phyff.fit.labels import cluster_of, label_of, split_of, with_physics
from phyff.fit.neural_training import Schedule
from phyff.labelling import uncertain_frames, uncertain_jobs
from phyff.md import CommitteeCheck
from phyff.model.neural import NeuralTerm, predict
from phyff.model.parameters import species_tensors
from phyff.openmm.forcefield import ForceField
from phyff.qm.level import PHYFF_2026A
from phyff.species import library

MODEL = SHORT_RANGE.model_copy(update={"classes": dict(reversed(SHORT_RANGE.classes.items()))})
"""In another order than forcefield.json keeps it."""
TENSORS = {"water": species_tensors(WATER, MODEL)}
NAMES = {WATER.mapped_smiles: "water"}
TEACHER = untrained("radial", seed=8, members=1)
IGNORANT = NeuralTerm(
    (loud := untrained("radial", seed=3)).architecture,
    {name: w * (0.3 if name in ("pair.in", "network.out") else 1.0) for name, w in loud.weights.items()},
    {"short_range": MODEL.fingerprint},
)
"""Random, and mild enough for a liquid to bear it."""
FORCE_FIELD = ForceField((WATER,), MODEL, IGNORANT)
FAST = tiny(cutoff_nm=0.65)
MOLECULES, THRESHOLD, PARTS = 110, 20.0, 2


def invoke(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def make_library(folder: Path) -> None:
    """Water and a short range, without any record."""
    WATER.save(folder / "water.json")
    (folder / "short_range.json").write_text(MODEL.model_dump_json())


def preset(name: str, committee: CommitteeCheck | None = None, **changes) -> md.Settings:
    """A few dozen steps a stage, a check every ten."""
    long = ("density", "transport")
    stages = tuple(replace(s, ps=0.04 if s.name in long else 0.02) for s in FAST.stages)
    often = committee and replace(committee, interval_ps=0.01, frames=PARTS)
    return replace(FAST, preset=name, stages=stages, committee=often, **changes)


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> tuple[Path, str]:
    """Folder and output of phyff run on water whose neural term has learned nothing."""
    folder, out = tmp_path_factory.mktemp("library"), tmp_path_factory.mktemp("runs") / "wet"
    make_library(folder)
    IGNORANT.save(folder / "neural.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library, "library_directory", lambda: folder)
        patch.setattr(md, "preset", preset)
        recipe = ("run", f"water={MOLECULES}", "--out", out, "--platform", "CPU")
        refused = invoke(*recipe, "--spread-threshold", THRESHOLD)
        assert refused.exit_code == 2 and "add --neural" in refused.stderr and not out.exists()
        result = invoke(*recipe, "--neural", "--spread-threshold", THRESHOLD)
    assert result.exit_code == 0, result.output
    return out, result.stdout


@pytest.fixture
def run_dir(ran: tuple[Path, str]) -> Path:
    return ran[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A library of its own for each test."""
    make_library(tmp_path)
    return tmp_path


@pytest.fixture
def quantum(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The sources of the clusters that the teacher has labelled."""
    done: list[str] = []

    def run_jobs(jobs, store, workers, label) -> list:
        records = []
        for job in jobs:
            record = store.get(job.kind, job.spec)
            if record is None:
                record = taught(job.spec)
                store.put(job.kind, job.spec, record)
                done.append(job.spec["source"])
            records.append(record)
        return records

    monkeypatch.setattr(learning, "run_jobs", run_jobs)
    return done


def taught(spec: dict) -> dict:
    atoms = sum(len(m["elements"]) for m in spec["monomers"])
    asked = label_of(spec["monomers"], {"total": 0.0, "forces": np.zeros((atoms, 3))}, spec["source"], NAMES)
    (sample,) = with_physics([asked], TENSORS)
    found = predict(TEACHER, cluster_of(asked, TENSORS))
    assert sample.physics_forces is not None
    return {
        "total": sample.physics + found.energy,
        "forces": (sample.physics_forces + found.forces.numpy()).tolist() if spec["forces"] else None,
    }


def improved(run_dir: Path, folder: Path, **options) -> learning.Turn:
    arguments = {"clusters": 18, "level": PHYFF_2026A, "forces": True, "folder": folder, "workers": 1}
    schedule = Schedule(epochs=60, rate=1e-2)
    return learning.improve(run_dir, say=lambda line: None, schedule=schedule, **(arguments | options))


def test_a_run_tells_how_sure_its_neural_term_was(ran: tuple[Path, str]) -> None:
    out, told = ran
    assert f"phyff improve {out}" in " ".join(told.split())
    results = json.loads((out / "results.json").read_text())
    found = results["provenance"]["committee"]
    assert found["threshold_kJ_mol_nm"] == THRESHOLD and found["checks"] == 8
    assert found["saved_frames"] == len(uncertain_frames(out)) > 0
    assert any("phyff improve" in warning for warning in results["provenance"]["warnings"])


def test_saved_frames_are_the_moments_when_the_networks_differed(run_dir: Path) -> None:
    frames = uncertain_frames(run_dir)
    assert 1 <= len(frames) <= 2 * PARTS
    spread = FORCE_FIELD.committee(FORCE_FIELD.topology([("water", MOLECULES)], 1.4))
    for one in frames:
        assert [s.name for s in one.frame.species] == ["water"] * MOLECULES
        _, forces = spread(np.vstack(one.frame.xyz), one.frame.vectors)
        worst = forces.reshape(MOLECULES, 3).max(1)
        above = {k: w for k, w in enumerate(worst) if w > THRESHOLD}
        assert one.spreads == pytest.approx(above, rel=1e-3, abs=0.1)


def test_clusters_are_cut_around_the_most_uncertain_molecules(run_dir: Path) -> None:
    frames = uncertain_frames(run_dir)
    jobs = uncertain_jobs(frames, 8, "wet", PHYFF_2026A, forces=True)
    assert [job.spec["source"] for job in jobs] == [f"wet#{k}" for k in range(8)]
    best: dict[int, float] = {}
    for one in frames:
        for molecule, value in one.spreads.items():
            best[molecule] = max(value, best.get(molecule, 0.0))
    first = max(best, key=lambda molecule: best[molecule])
    place = next(one for one in frames if one.spreads.get(first) == best[first]).frame.xyz[first]
    np.testing.assert_allclose(jobs[0].spec["monomers"][0]["xyz_angstrom"], 10.0 * place, atol=1e-4)
    again = uncertain_jobs(frames, 8, "wet", PHYFF_2026A, forces=True)
    assert [job.spec for job in again] == [job.spec for job in jobs]


def test_one_turn_makes_the_term_better_and_surer_where_it_was_not(
    run_dir: Path, folder: Path, quantum: list[str]
) -> None:
    turn = improved(run_dir, folder)
    assert quantum == [f"wet-uncertain#{k}" for k in range(18)]
    assert {side: before.clusters for side, (before, _) in turn.items()} == {
        "in the training": 12,
        "held out": 6,
    }
    assert sum(split_of(source) == "test" for source in quantum) == 6
    for before, after in turn.values():
        assert after.energy_error < 0.6 * before.energy_error
        assert after.energy_spread < 0.6 * before.energy_spread
        assert after.force_error < 0.8 * before.force_error
        assert after.force_spread < 0.6 * before.force_spread
    term = NeuralTerm.load(folder / "neural.safetensors")
    assert term.architecture == IGNORANT.architecture
    assert term.metadata["labels"] == {"train": 12, "test": 6}
    header, rows = learning.table(turn)
    assert [row[:2] for row in rows] == [["in the training", "12"], ["held out", "6"]]
    assert all(len(row) == len(header) and "→" in row[2] for row in rows)


def test_a_turn_that_was_stopped_computes_what_is_left(
    run_dir: Path, folder: Path, quantum: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = taught

    def stopped(spec: dict) -> dict:
        if len(quantum) == 7:
            raise KeyboardInterrupt
        return whole(spec)

    monkeypatch.setitem(globals(), "taught", stopped)
    with pytest.raises(KeyboardInterrupt):
        improved(run_dir, folder)
    assert not (folder / "neural.safetensors").exists()
    monkeypatch.setitem(globals(), "taught", whole)
    improved(run_dir, folder)
    assert quantum == [f"wet-uncertain#{k}" for k in range(18)], "each once"
    improved(run_dir, folder, clusters=19)
    assert quantum[18:] == ["wet-uncertain#18"]


def test_labels_without_forces_leave_the_force_error_open(
    run_dir: Path, folder: Path, quantum: list[str]
) -> None:
    before, _ = improved(run_dir, folder, forces=False)["held out"]
    assert math.isnan(before.force_error) and before.force_spread > 0


def copied(run_dir: Path, target: Path, **changes) -> Path:
    """The run with another force field."""
    target.mkdir()
    for path in run_dir.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    replace(FORCE_FIELD, **changes).save(target / "forcefield.json")
    return target


def test_what_cannot_be_improved_is_refused_with_the_reason(run_dir: Path, folder: Path) -> None:
    with pytest.raises(InputError, match="holds no run.json"):
        improved(folder, folder)
    plain = copied(run_dir, folder / "plain", neural=None)
    with pytest.raises(InputError, match="simulated without --neural"):
        improved(plain, folder)
    sure = copied(run_dir, folder / "sure")
    for path in sure.glob("*-spread.csv"):
        rows = [row.rpartition(",")[0] + "," for row in path.read_text().splitlines()[1:]]
        path.write_text("\n".join([path.read_text().splitlines()[0], *rows]) + "\n")
    with pytest.raises(InputError, match="no saved frames.*--spread-threshold"):
        improved(sure, folder)
    other = copied(run_dir, folder / "other", short_range=MODEL.model_copy(update={"damping": 2.0}))
    with pytest.raises(InputError, match="another short-range model"):
        improved(other, folder)
    (folder / "water.json").rename(folder / "elsewhere")
    with pytest.raises(InputError, match="water of .* is not in"):
        improved(run_dir, folder)


def test_replicas_are_learned_from_together(run_dir: Path, tmp_path: Path, folder: Path, quantum) -> None:
    out = tmp_path / "both"
    out.mkdir()
    for number in (1, 2):
        copied(run_dir, out / f"replica-{number}")
    (out / "replicas.json").write_text(json.dumps({"replicas": 2, "at_once": 1}))
    said: list[str] = []
    learning.improve(out, 9, PHYFF_2026A, True, folder, 1, said.append, Schedule(epochs=1))
    assert f"{2 * len(uncertain_frames(run_dir))} frames" in said[0]
    assert quantum == [f"both-uncertain#{k}" for k in range(9)]


def test_the_command_improves_the_term_of_the_library(
    run_dir: Path, folder: Path, quantum: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "library_directory", lambda: folder)
    monkeypatch.setattr(learning, "Schedule", lambda: Schedule(epochs=2))
    IGNORANT.save(folder / "neural.safetensors")
    refused = invoke("improve", folder)
    assert refused.exit_code == 2 and "holds no run.json" in refused.stderr
    done = invoke("improve", run_dir, "--clusters", 9)
    assert done.exit_code == 0, done.output
    assert len(quantum) == 9
    assert "held out" in done.stdout and "New neural term" in done.stdout
    assert NeuralTerm.load(folder / "neural.safetensors") != IGNORANT
