"""The commands parse, call and print; the real work behind them has its own tests."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from neural_terms import untrained
from standin import tiny
from standin_species import SHORT_RANGE
from typer.main import get_command
from typer.testing import CliRunner

import phyff
from phyff import md
from phyff.cli import app, reports_errors
from phyff.side_by_side import Simulation

SALTY_WATER = "water=130, Li+=3, Cl-=3"


def invoke(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


COMMANDS = sorted(get_command(app).commands)


def test_the_readme_explains_every_command_and_no_other():
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    table = readme[readme.index("| command | what it does |") :].split("\n\n")[0]
    assert sorted(set(re.findall(r"^\| `phyff ([a-z-]+)", table, flags=re.M))) == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_says_in_its_help_what_it_does(command):
    shown = invoke(command, "--help")
    assert shown.exit_code == 0
    sentence = get_command(app).commands[command].help.split(".")[0].split()[:4]
    assert " ".join(sentence) in " ".join(shown.output.split())


def test_a_disk_that_is_full_is_a_sentence_and_not_a_traceback(capsys):
    def command() -> None:
        raise OSError(28, "No space left on device", "runs/lp30/npt.csv")

    with pytest.raises(typer.Exit) as ended:
        reports_errors(command)()
    assert ended.value.exit_code == 2
    assert capsys.readouterr().err.startswith("runs/lp30/npt.csv: No space left on device; mend that")


@pytest.mark.parametrize(
    "command", [("train-neural", "--summary"), ("export-pybamm", "run-1", "run-2", "--out")], ids=" ".join
)
def test_a_file_without_a_folder_to_stand_in_is_refused_before_the_work(command, tmp_path):
    refused = invoke(*command, tmp_path / "nowhere" / "file")
    assert refused.exit_code == 2 and "there is no folder" in refused.stderr


def test_the_version_is_the_packages():
    assert invoke("--version").stdout.strip() == phyff.__version__


def test_a_run_writes_results_and_report_and_the_same_command_finds_them_done(
    standin_library, tmp_path, monkeypatch
):
    settings = tiny(cutoff_nm=0.75)
    settings = replace(settings, stages=tuple(replace(s, ps=s.ps / 4) for s in settings.stages))

    def preset(name, **changes):
        return replace(settings, preset=name, **changes)

    monkeypatch.setattr(md, "preset", preset)
    out = tmp_path / "run"
    command = ("run", SALTY_WATER, "--out", out, "--platform", "CPU")
    result = invoke(*command)
    assert result.exit_code == 0, result.output
    assert "Density" in result.stdout and "Conductivity" in result.stdout
    results = json.loads((out / "results.json").read_text())
    assert results["composition"] == [
        {"smiles": "O", "count": 130},
        {"smiles": "[Li+]", "count": 3},
        {"smiles": "[Cl-]", "count": 3},
    ]
    assert results["temperature_K"] == 298.15 and results["pressure_bar"] == 1.0
    assert results["properties"]["density"]["unit"] == "g/cm3"
    assert results["provenance"]["level_of_theory"] == "by hand"
    assert results["provenance"]["simulation"]["platform"] == "CPU"
    warnings = " ".join(results["provenance"]["warnings"])
    assert "Li+: no dimer data" in warnings and "Molar volumes" in warnings
    page = (out / "report.html").read_text()
    assert "mole fraction requested" in page
    again = invoke(*command)
    assert again.exit_code == 0
    assert json.loads((out / "results.json").read_text()) == results


def test_build_of_a_species_writes_its_force_field_only(standin_library, tmp_path):
    out = tmp_path / "water"
    result = invoke("build", "water", "--out", out)
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in out.iterdir()) == ["forcefield.json"]
    assert [s.name for s in phyff.ForceField.load(out / "forcefield.json").species] == ["water"]


def test_build_of_a_recipe_writes_a_system_too(standin_library, tmp_path):
    out = tmp_path / "brine"
    result = invoke("build", "water=200, Li+=2, Cl-=2", "--out", out)
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in out.iterdir()) == ["forcefield.json", "system.xml", "topology.pdb"]


def test_energy_prints_json(standin_library, tmp_path):
    cluster = tmp_path / "pair.json"
    ions = [("[Li+:1]", "Li", 0.0), ("[Cl-:1]", "Cl", 4.0)]
    monomers = [{"smiles": s, "elements": [e], "xyz": [[x, 0.0, 0.0]]} for s, e, x in ions]
    cluster.write_text(json.dumps({"monomers": monomers}))
    values = {
        engine: json.loads(invoke("energy", cluster, "--engine", engine).stdout)
        for engine in ("torch", "drude", "multipole")
    }
    assert values["torch"]["electrostatics"] == pytest.approx(-347.3, abs=1.0)
    assert values["drude"] == pytest.approx(values["torch"], abs=0.02)
    assert values["multipole"] == pytest.approx(values["torch"], rel=0.05, abs=0.02)


def test_speed_prints_a_row_for_every_engine(standin_library, monkeypatch):
    from phyff.openmm import speed

    monkeypatch.setattr(speed, "ROUNDS", 2)
    monkeypatch.setattr(speed, "ROUND_SECONDS", 0.05)
    monkeypatch.setattr(speed, "WARM_UP_STEPS", 5)
    monkeypatch.setattr(speed, "shortest_cutoff", lambda species: 0.85)  # as if a molecule were so long
    result = invoke("speed", "water", "--atoms", 600, "--platform", "CPU")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert answer["platform"] == "CPU" and answer["device"] and abs(answer["atoms"] - 600) < 30
    assert [row["name"] for row in answer["rows"]] == ["fixed_charge", "drude", "multipole"]
    assert [row["cutoff_nm"] for row in answer["rows"]] == [0.8, 0.8, 0.85]
    for row in answer["rows"]:
        assert row["ns_per_day"] == pytest.approx(86.4 * row["timestep_fs"] / row["ms_per_step"], rel=0.01)
        assert {"valence", "permanent", "mesh", "rest"} <= set(row["terms"])
    assert "short range" in answer["rows"][1]["terms"]
    assert "multipoles" in answer["rows"][2]["terms"]


@pytest.fixture
def neural_library(standin_library):
    """The stand-in library with an untrained neural term."""
    path = standin_library / "neural.safetensors"
    replace(untrained("radial"), metadata={"short_range": SHORT_RANGE.fingerprint}).save(path)
    return path


def test_energy_has_the_neural_term_when_asked(neural_library, tmp_path):
    cluster = tmp_path / "pair.json"
    ions = [("[Li+:1]", "Li", 0.0), ("[Cl-:1]", "Cl", 2.5)]
    monomers = [{"smiles": s, "elements": [e], "xyz": [[x, 0.0, 0.0]]} for s, e, x in ions]
    cluster.write_text(json.dumps({"monomers": monomers}))
    plain, with_term, drude = (
        json.loads(invoke("energy", cluster, *options).stdout)
        for options in ((), ("--neural",), ("--neural", "--engine", "drude"))
    )
    assert plain["neural"] == 0.0 != with_term["neural"]
    assert with_term["total"] == pytest.approx(plain["total"] + with_term["neural"])
    assert drude["neural"] == pytest.approx(with_term["neural"], rel=1e-5)


def test_speed_has_a_row_for_the_neural_term_when_asked(neural_library, monkeypatch):
    from phyff.openmm import speed

    monkeypatch.setattr(speed, "ROUNDS", 1)
    monkeypatch.setattr(speed, "ROUND_SECONDS", 0.05)
    monkeypatch.setattr(speed, "WARM_UP_STEPS", 2)
    result = invoke("speed", "water", "--atoms", 600, "--platform", "CPU", "--neural")
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["rows"]
    assert [row["name"] for row in rows] == ["fixed_charge", "drude", "drude+neural", "multipole"]
    assert rows[2]["terms"]["neural"] > 0
    assert not any("neural" in rows[k]["terms"] for k in (0, 1, 3))


def test_a_run_with_the_neural_term_says_so(neural_library, tmp_path, monkeypatch):
    prepared = []
    monkeypatch.setattr(Simulation, "run", lambda simulation: prepared.append(simulation))
    invoke("run", "water=140", "--out", tmp_path / "run", "--platform", "CPU", "--neural")
    (simulation,) = prepared
    assert simulation.forcefield.neural is not None
    assert simulation.about.provenance["engine"] == "drude+neural"
    assert simulation.settings.committee == md.CommitteeCheck()
    assert any("neural term" in warning for warning in simulation.about.warnings)


def test_a_neural_term_that_is_missing_or_of_another_short_range_is_refused(standin_library, tmp_path):
    command = ("run", "water=200", "--out", tmp_path / "out", "--neural")
    missing = invoke(*command)
    assert missing.exit_code == 2 and "phyff train-neural" in missing.stderr
    untrained("radial").save(standin_library / "neural.safetensors")
    other = invoke(*command)
    assert other.exit_code == 2 and "another short-range model" in other.stderr


def test_info_lists_the_library_and_shows_one_species(standin_library):
    listing = invoke("info")
    assert listing.exit_code == 0, listing.output
    assert "water" in listing.stdout and "Li+" in listing.stdout
    shown = invoke("info", "O")
    assert "esp relative rms" in shown.stdout and "by hand" in shown.stdout
    missing = invoke("info", "EC")
    assert missing.exit_code == 2 and "phyff build" in missing.stderr


def test_a_file_in_place_of_the_output_folder_is_refused(standin_library, tmp_path):
    (tmp_path / "file").write_text("mine")
    for command in ("run", "build"):
        result = invoke(command, "water=200", "--out", tmp_path / "file")
        assert result.exit_code == 2 and "give a folder" in result.stderr
    assert (tmp_path / "file").read_text() == "mine"


def test_a_platform_that_is_not_there_is_refused_before_anything_is_written(
    standin_library, tmp_path, monkeypatch
):
    from phyff import simulation
    from phyff.errors import SimulationError

    def missing(name):
        raise SimulationError(f"platform: {name!r} is not available here; choose one of CPU.")

    monkeypatch.setattr(simulation, "platform_named", missing)
    result = invoke("run", "water=200", "--out", tmp_path / "out", "--platform", "CUDA")
    assert result.exit_code == 2 and "not available" in result.stderr
    assert not (tmp_path / "out").exists()
