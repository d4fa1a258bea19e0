"""Benchmark suites: what is committed makes sense, scores are right, a suite runs and repeats nothing."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from neural_terms import untrained
from standin import COUNTS, DENSITY, StandIn, tiny
from standin_species import SHORT_RANGE
from typer.testing import CliRunner

from phyff import bench, md
from phyff.bench import newest, scores, table
from phyff.cli import app
from phyff.errors import InputError, SimulationError
from phyff.md import PRESETS
from phyff.measurements import Measurement, Suite, load_suite
from phyff.report.parity import LABEL_HEIGHT, apart
from phyff.side_by_side import Simulation
from phyff.species.library import NEURAL_FILE

SUITES = Path(__file__).parent.parent / "benchmarks" / "suites"
SMALL = """
preset: tiny
rows:
  - {system: brine, recipe: {temperature_K: 310, counts: {water: 130, Li+: 3, Cl-: 3}}, property: density,
     experiment: 1.05, unit: g/cm3, source: none}
"""


def row(value, experiment, verdict="converged"):
    common = {"system": "A", "temperature_K": 298.15, "property": "density", "unit": "g/cm3", "source": "b"}
    return {
        **common,
        "value": value,
        "error": 0.01,
        "experiment": experiment,
        "verdict": verdict,
        "date": "d",
        "preset": "short",
    }


@pytest.mark.parametrize("path", sorted(SUITES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_committed_row_is_a_formulation_with_a_source(path):
    suite = load_suite(path.stem, SUITES)
    assert suite.preset in PRESETS
    assert len({(r.system, r.property) for r in suite.rows}) == len(suite.rows)
    for measured in suite.rows:
        assert measured.formulation().box(PRESETS[suite.preset].atoms, cutoff_nm=0.7).n_atoms > 300
        assert measured.experiment > 0 and measured.source


def test_scores_of_known_rows():
    found = scores([row(1.1, 1.0), row(1.9, 2.0), row(3.3, 3.0, "not converged: short"), row(None, 1.0)])
    assert found["mean_absolute_error"] == pytest.approx(0.5 / 3)
    assert found["mean_absolute_percentage_error"] == pytest.approx(25 / 3)
    assert found["bias"] == pytest.approx(0.1)
    assert found["rank_correlation"] == pytest.approx(1.0)
    assert (found["rows"], found["converged"]) == (4, 3)


def test_the_table_shows_deviations_and_what_has_no_value():
    text = table([row(1.1, 1.0), row(None, 1.0, "not converged: short")])
    assert "+10.0 %" in text and "| - | 1 | - | not converged: short |" in text


def test_of_a_system_that_two_force_fields_have_run_the_last_counts():
    other = {**row(2.0, 2.0), "system": "B"}
    assert newest([row(1.1, 1.0), other, row(1.2, 1.0)]) == [row(1.2, 1.0), other]


def test_unknown_suites_and_broken_ones_are_refused(tmp_path):
    with pytest.raises(InputError, match="suite: 'densty' is unknown .* density"):
        load_suite("densty", SUITES)
    (tmp_path / "bad.yaml").write_text("preset: quick\nrows: [{system: A}]\n")
    with pytest.raises(InputError, match=r"rows\.0\.recipe"):
        load_suite("bad", tmp_path)


def test_a_suite_runs_and_writes_table_and_plot(standin_library, tmp_path, monkeypatch):
    settings = tiny(cutoff_nm=0.75)
    settings = replace(settings, stages=settings.stages[:4])
    monkeypatch.setattr(md, "preset", lambda name, **changes: replace(settings, preset=name, **changes))
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites" / "small.yaml").write_text(SMALL)
    command = ["bench", "small", "--benchmarks", str(tmp_path), "--runs", str(tmp_path / "runs")]
    for _ in range(2):  # the second time the simulation is found done, and its row replaced
        result = CliRunner().invoke(app, [*command, "--platform", "CPU"])
        assert result.exit_code == 0, result.output
        (found,) = json.loads((tmp_path / "results" / "small.json").read_text())
    assert found["temperature_K"] == 310 and found["unit"] == "g/cm3"
    assert 0.5 < found["value"] < 2.0
    assert "| brine | 310 |" in (tmp_path / "results" / "small.md").read_text()
    assert (tmp_path / "results" / "small.png").stat().st_size > 5000
    assert {r["preset"] for r in json.loads((tmp_path / "results" / "small.json").read_text())} == {"tiny"}
    again = CliRunner().invoke(app, [*command, "--preset", "short"])
    assert again.exit_code == 0, again.output
    found = json.loads((tmp_path / "results" / "small.json").read_text())
    assert [r["preset"] for r in found] == ["tiny", "short"]
    term = replace(untrained("radial"), metadata={"short_range": SHORT_RANGE.fingerprint})
    term.save(standin_library / NEURAL_FILE)
    corrected = CliRunner().invoke(app, [*command, "--neural"])
    assert corrected.exit_code == 0, corrected.output
    (with_term,) = json.loads((tmp_path / "results" / "small-neural.json").read_text())
    assert with_term["force_field"] != found[0]["force_field"]
    assert "| brine | 310 |" in (tmp_path / "results" / "small-neural.md").read_text()
    refused = CliRunner().invoke(app, [*command, "--only", "water"])
    assert refused.exit_code == 2 and "water is not in the suite" in refused.stderr


def test_a_viscosity_is_measured_by_driving_the_liquid_after_its_run(standin_library, tmp_path, monkeypatch):
    settings = tiny(cutoff_nm=0.75)
    monkeypatch.setattr(md, "preset", lambda name, **changes: replace(settings, preset=name, **changes))
    (tmp_path / "suites").mkdir()
    flowing = SMALL.replace("property: density", "property: viscosity").replace("g/cm3", "cP")
    (tmp_path / "suites" / "small.yaml").write_text("flow_ps: 0.6\n" + flowing)
    command = ["bench", "small", "--benchmarks", str(tmp_path), "--runs", str(tmp_path / "runs")]
    for _ in range(2):  # the second time all is found done
        result = CliRunner().invoke(app, [*command, "--platform", "CPU"])
        assert result.exit_code == 0, result.output
        (found,) = json.loads((tmp_path / "results" / "small.json").read_text())
    assert (found["property"], found["unit"]) == ("viscosity", "cP")
    # So soon; which of the two is chance.
    assert any(why in found["verdict"] for why in ("the flow does not show", "independent samples"))
    flows = sorted((tmp_path / "runs" / "small" / "brine").glob("viscosity-*.csv"))
    assert [len(flow.read_text().splitlines()) for flow in flows] == [31] * 3


def test_systems_run_side_by_side_and_a_failing_one_keeps_no_other_from_its_row(tmp_path, monkeypatch):
    settings = tiny()
    settings = replace(settings, stages=settings.stages[:4])

    def prepare(formulation, preset, out, platform, say, neural, flow_ps, longer):
        forcefield = StandIn(fragile=7) if out.name == "bad" else StandIn()
        return Simulation(forcefield, tuple(COUNTS), DENSITY, settings, out, "CPU", md.About(out.name))

    monkeypatch.setattr(bench, "prepare", prepare)
    common = {"recipe": "EC", "property": "density", "experiment": 1.0, "unit": "g/cm3", "source": "none"}
    rows = [Measurement(system=name, **common) for name in ("good", "bad", "too")]
    suite, folder = Suite(preset="tiny", rows=rows), tmp_path / "results"
    with pytest.raises(SimulationError, match=r"^bad: stage warmup failed"):
        bench.run_suite("small", suite, [], tmp_path / "runs", folder, None, 3, lambda line: None)
    found = json.loads((folder / "small.json").read_text())
    assert sorted(row["system"] for row in found) == ["good", "too"]
    page = (folder / "small.md").read_text()
    assert "| good |" in page and "| too |" in page and (folder / "small.png").is_file()


def test_a_preset_that_ends_before_what_a_suite_asks_for_is_refused_at_once(tmp_path):
    suite = load_suite("viscosity", SUITES).model_copy(update={"preset": "density"})
    with pytest.raises(InputError, match="gives no viscosity of DMC-EC-LiPF6-249-170-34; choose another"):
        bench.run_suite("viscosity", suite, [], tmp_path / "runs", tmp_path / "results", None, None, print)
    assert not list(tmp_path.iterdir())


def test_labels_beside_a_parity_plot_keep_their_order_and_do_not_overlap():
    close = np.array([0.1, 0.5, 0.501, 0.502, 0.99, 1.0])
    found = apart(close)
    assert np.diff(found).min() >= LABEL_HEIGHT - 1e-12
    assert found.max() <= 1.0 and found[0] == 0.1
