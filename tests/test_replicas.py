"""Replicas: honest errors, pooled values, verdicts judged anew, and the command."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from standin import COUNTS, DENSITY, StandIn, tiny
from synthetic_run import SyntheticRun
from typer.testing import CliRunner

from phyff import md, replicas
from phyff.cli import app
from phyff.properties import study
from phyff.properties.result import CONVERGED, Property, not_converged
from phyff.properties.trajectory import Run
from phyff.replicas import replica_error, study_replicas
from phyff.side_by_side import Simulation

SPEED = {"stages": [{"name": "density", "ps": 300.0, "wall_s": 3600.0}, {"name": "transport", "ps": 900.0}]}


@pytest.mark.parametrize("hidden", [0.0, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("n", [2, 3, 5, 8])
def test_one_sigma_holds_the_truth_in_two_of_three_cases(n, hidden):
    """hidden: how far replicas differ beyond what their blocks tell (6 independent blocks each)."""
    rng, trials = np.random.default_rng(3), 20000
    values = np.hypot(1.0, hidden) * rng.normal(size=(trials, n))
    blocks = np.sqrt(rng.chisquare(6 * n, trials) / (6 * n) / n)
    errors = np.array([replica_error(b, v) for b, v in zip(blocks, values, strict=True)])
    covered = np.mean(np.abs(values.mean(axis=1)) < errors)
    assert 0.62 < covered < 0.72
    if hidden == 5.0:
        assert np.mean(np.abs(values.mean(axis=1)) < blocks) < 0.17


def test_replicas_that_agree_leave_the_block_error_alone():
    assert replica_error(0.1, np.array([1.0, 1.1, 0.95])) == 0.1
    assert replica_error(0.1, np.array([1.0])) == 0.1
    assert np.isnan(replica_error(np.nan, np.array([1.0, 2.0])))
    widened = 1.3213 * np.std([1.0, 2.0, 3.0], ddof=1) / np.sqrt(3)
    assert replica_error(0.1, np.array([1.0, 2.0, 3.0])) == pytest.approx(widened, rel=1e-3)


def replica_set(out: Path, densities: list[float], n_frames: int) -> Path:
    """Synthetic replicas, each in the box of its own density."""
    for number, density in enumerate(densities, start=1):
        box_nm = 2.5 * (densities[0] / density) ** (1 / 3)
        SyntheticRun(
            n_frames=n_frames, seed=number, density=density, box_nm=box_nm, settings=SPEED | {"warnings": []}
        ).write(out / f"replica-{number}")
    (out / "replicas.json").write_text(json.dumps({"replicas": len(densities), "at_once": 2}))
    return out


def test_values_are_pooled_and_the_errors_shrink(tmp_path):
    together, singles = study_replicas(replica_set(tmp_path, [1.30, 1.30, 1.30], 250))
    for name in ("density", "self_diffusion_EC_box", "self_diffusion_Li_box", "conductivity_nernst_einstein"):
        p, own = together.properties[name], [one.properties[name] for one in singles]
        assert p.value == pytest.approx(np.mean([one.value for one in own]), rel=0.03)
        if p.details["error_from"] == "time blocks":
            assert p.error / np.mean([one.error for one in own]) == pytest.approx(3**-0.5, rel=0.3)
    for name, known in (("Li", 0.3), ("PF6", 0.5), ("EC", 0.8)):
        diffusion = together.properties[f"self_diffusion_{name}_box"]
        assert abs(diffusion.value - known) < 3.0 * diffusion.error < 0.2 * known
    assert together.run.name == singles[0].run.name
    found = together.results()
    assert found["provenance"]["replicas"] == {
        "number": 3,
        "seeds": [None] * 3,
        "each_ns_per_day": [7.2, 7.2, 7.2],
        "side_by_side": 2,
        "aggregate_ns_per_day": 14.4,
    }
    told = found["provenance"]["analysis"]["density"]
    assert len(told["replica_values"]) == 3 and told["error_from"] == "time blocks"
    assert any("sums over all of them" in warning for warning in found["provenance"]["warnings"])


WHYS = ("only 20 independent samples", "the liquid is no lower in energy than its vapour")


def test_replicas_that_disagree_widen_the_error_and_lose_the_verdict(tmp_path):
    alone = study(replica_set(tmp_path, [1.28, 1.30, 1.33], n_frames=60) / "replica-1")
    together, _ = study_replicas(tmp_path)
    density = together.properties["density"]
    assert alone.properties["density"].converged and not density.converged
    assert density.value == pytest.approx(1.303, abs=0.005)
    scatter = np.std([1.28, 1.30, 1.33], ddof=1) / np.sqrt(3)
    assert scatter < density.error < 3.0 * scatter
    n = sum(not p.converged for p in together.properties.values())
    assert sum("properties are not converged" in warning for warning in together.warnings) == 1
    assert any(w.startswith(f"{n} of {len(together.properties)} properties") for w in together.warnings)


def test_short_replicas_do_not_add_up_to_a_long_one():
    """Neighbours that outlast every replica are those it was packed with, however many replicas there are."""
    p = Property(4.0, 0.01, "", CONVERGED, {"residence_time_ps": 500.0})
    run = Run(Path(), {}, ())
    verdict = replicas._verdict("coordination_Li_O", p, {}, run, length_ps=100.0, replicas=20)
    assert verdict.startswith("not converged: neighbours stay about 0.5 ns, each replica is 0.1 ns")
    assert replicas._verdict("coordination_Li_O", p, {}, run, length_ps=1000.0, replicas=20) == CONVERGED


def test_samples_add_up_and_other_doubts_stay():
    few, loud = (Property(30.0, 0.1, "", not_converged(why), {"independent_samples": 20.0}) for why in WHYS)
    assert replicas._mean([few, few]).verdict == CONVERGED
    assert not replicas._mean([few]).converged
    assert replicas._mean([few, loud]).verdict == loud.verdict


def test_the_command_runs_replicas_and_writes_results_of_all_and_of_each(tmp_path, monkeypatch):
    settings = tiny(log_ps=0.01)
    settings = replace(settings, stages=tuple(replace(stage, ps=stage.ps / 2) for stage in settings.stages))
    about = md.About("some water", provenance={"command": "test"})

    def prepare(formulation, preset, out, platform, say, neural, spread_threshold, longer):
        return Simulation(StandIn(), tuple(COUNTS), DENSITY, settings.longer(longer), out, platform, about)

    monkeypatch.setattr(replicas, "prepare", prepare)
    out = tmp_path / "run"
    command = ["run", "water", "--out", str(out), "--platform", "CPU", "--replicas", "2"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "2 replicas," in result.stdout and "ns/day together" in result.stdout
    assert "the same command with --longer 2 goes on" in result.stdout
    found = json.loads((out / "results.json").read_text())
    each = [json.loads((out / f"replica-{k}" / "results.json").read_text()) for k in (1, 2)]
    densities = [one["properties"]["density"]["value"] for one in each]
    assert densities[0] != densities[1], "replicas have their own seeds"
    assert found["properties"]["density"]["value"] == pytest.approx(np.mean(densities))
    assert found["name"] == "some water" and found["composition"] == each[0]["composition"]
    assert found["provenance"]["replicas"]["seeds"] == [1, 2]
    assert found["provenance"]["replicas"]["aggregate_ns_per_day"] > 0.0
    assert "2 replicas together" in (out / "report.html").read_text()
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 0 and json.loads((out / "results.json").read_text()) == found
    for number in ("1", "3"):
        refused = CliRunner().invoke(app, [*command[:-1], number])
        assert refused.exit_code == 2 and f"{out} holds 2 replicas, not {number}" in refused.stderr
    assert json.loads((out / "results.json").read_text()) == found
    longer = CliRunner().invoke(app, [*command, "--longer", "5"])
    assert longer.exit_code == 0, longer.output
    for k in (1, 2):
        state = md.RunState.load(out / f"replica-{k}")
        assert state.status == "finished"
        assert state.stages[-1]["ps"] == state.settings["stages"][-1]["ps"] == 1.0


def test_impossible_numbers_of_replicas_are_refused_in_one_sentence(tmp_path):
    command = ["run", "EC", "--out", str(tmp_path), "--replicas"]
    for number in ("0", "-2"):
        refused = CliRunner().invoke(app, [*command, number])
        assert refused.exit_code == 2
        assert refused.stderr == f"replicas: {number} makes no sense; give a whole number from 1 up.\n"
    (tmp_path / "run.json").write_text("{}")
    refused = CliRunner().invoke(app, [*command, "2"])
    assert refused.exit_code == 2 and "holds a single run" in refused.stderr
