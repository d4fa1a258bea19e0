"""results.json has the stable layout, and verdicts read as sentences."""

import json

import pytest
from synthetic_run import EC, BrownianSpecies, SyntheticRun

from phyff.properties import analyse, write_results
from phyff.properties.result import duration, not_converged


def test_results_have_the_stable_layout(tmp_path) -> None:  # type: ignore[no-untyped-def]
    run_dir = SyntheticRun(n_frames=120).write(tmp_path / "run")
    written = json.loads(write_results(run_dir).read_text())
    assert written == json.loads(json.dumps(analyse(run_dir)))
    assert set(written) == {
        "name",
        "composition",
        "temperature_K",
        "pressure_bar",
        "properties",
        "provenance",
    }
    assert written["composition"][0] == {"smiles": "[Li+]", "count": 30}
    for found in written["properties"].values():
        assert set(found) == {"value", "error", "unit", "verdict"}
        assert found["verdict"] == "converged" or found["verdict"].startswith("not converged: ")
    assert {"density", "conductivity", "conductivity_nernst_einstein", "self_diffusion_Li"} <= set(
        written["properties"]
    )
    assert written["properties"]["density"]["unit"] == "g/cm3"
    assert written["provenance"]["analysis"]["density"]["window_ps"][1] == pytest.approx(300.0)


def test_analysing_writes_nothing(tmp_path) -> None:  # type: ignore[no-untyped-def]
    run_dir = SyntheticRun(n_frames=60).write(tmp_path / "run")
    before = {path.name: path.stat().st_mtime_ns for path in run_dir.iterdir()}
    analyse(run_dir)
    assert {path.name: path.stat().st_mtime_ns for path in run_dir.iterdir()} == before


def test_without_production_only_the_density_is_reported_and_it_is_said(tmp_path) -> None:  # type: ignore[no-untyped-def]
    found = analyse(SyntheticRun(production=False).write(tmp_path / "run"))
    assert list(found["properties"]) == ["density", "compressibility", "thermal_expansion"]
    assert any("no production trajectory" in warning for warning in found["provenance"]["warnings"])


def test_a_pure_solvent_has_no_conductivity(tmp_path) -> None:  # type: ignore[no-untyped-def]
    solvent = (BrownianSpecies("EC", EC, 0, 40, 0.0008),)
    found = analyse(SyntheticRun(species=solvent, n_frames=100).write(tmp_path / "run"))
    of_density = {"density", "compressibility", "thermal_expansion"}
    assert set(found["properties"]) == of_density | {"self_diffusion_EC", "self_diffusion_EC_box"}


def test_durations_have_the_digits_of_an_estimate() -> None:
    assert duration(8123.0) == "8 ns"
    assert duration(81.0) == "0.08 ns"
    assert duration(123456.0) == "120 ns"
    assert not_converged("error 30 %", 8123.0) == "not converged: error 30 % (needs about 8 ns)"
