"""The PyBaMM file stands on its own and interpolates what the simulations gave."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from phyff.cli import app
from phyff.errors import InputError
from phyff.pybamm_export import export, read_point

PF6 = "F[P-](F)(F)(F)(F)F"


def results(path, pairs: int, conductivity: float, temperature: float = 298.15, verdict: str = "converged"):  # type: ignore[no-untyped-def]
    """A results.json of so many ion pairs in 100 EC."""

    def entry(value: float | None, unit: str) -> dict[str, object]:
        return {"value": value, "error": 0.1, "unit": unit, "verdict": verdict}

    rows = [("[Li+]", pairs), (PF6, pairs), ("O=C1OCCO1", 100)]
    content = {
        "name": f'{pairs} "pairs"',
        "composition": [{"smiles": smiles, "count": count} for smiles, count in rows],
        "temperature_K": temperature,
        "pressure_bar": 1.0,
        "properties": {
            "density": entry(1.3, "g/cm3"),
            "conductivity": entry(conductivity, "mS/cm"),
            "salt_diffusion": entry(0.3, "1e-9 m2/s"),
            "transference_Li": entry(0.9, ""),
            "transference_Li_solvent_frame": entry(0.01 * pairs + 0.2, ""),
        },
        "provenance": {},
    }
    path.mkdir()
    (path / "results.json").write_text(json.dumps(content))
    return path


def stand_in() -> SimpleNamespace:
    """What the file needs of pybamm, on plain numbers."""
    return SimpleNamespace(
        Interpolant=lambda x, y, at: np.interp(at, x, y), maximum=np.maximum, minimum=np.minimum
    )


def test_the_file_interpolates_in_si_units(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    runs = [results(tmp_path / "b", 10, 12.0, verdict="not converged: why"), results(tmp_path / "a", 5, 8.0)]
    points = export(runs, tmp_path / "electrolyte.py")
    assert [point.name for point in points] == ['5 "pairs"', '10 "pairs"']
    monkeypatch.setitem(sys.modules, "pybamm", stand_in())
    module: dict = {}
    exec((tmp_path / "electrolyte.py").read_text(), module)
    values = module["get_parameter_values"]()
    low, high = module["CONCENTRATION"]
    by_hand = 10 / (10 * 151.905 + 100 * 88.062) * 1.3e6
    assert high == pytest.approx(by_hand, rel=1e-4)
    conductivity = values["Electrolyte conductivity [S.m-1]"]
    assert conductivity(low, 298.15) == pytest.approx(0.8)
    assert conductivity(0.5 * low, 298.15) == pytest.approx(0.4)
    assert values["Electrolyte diffusivity [m2.s-1]"](high, 298.15) == pytest.approx(3e-10)
    assert values["Cation transference number"](0.5 * (low + high), 298.15) == pytest.approx(0.275)
    assert values["Cation transference number"](2.0 * high, 298.15) == pytest.approx(0.3)
    assert "Not converged: 10 'pairs': conductivity" in module["__doc__"]


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"pairs": 5, "conductivity": 9.0}, "same salt concentration"),
        ({"pairs": 8, "conductivity": 9.0, "temperature": 313.15}, "temperatures run from"),
    ],
)
def test_a_scan_that_is_none_is_refused(tmp_path, second, message: str) -> None:  # type: ignore[no-untyped-def]
    runs = [results(tmp_path / "a", 5, 8.0), results(tmp_path / "b", **second)]
    with pytest.raises(InputError, match=message):
        export(runs, tmp_path / "electrolyte.py")
    assert not (tmp_path / "electrolyte.py").exists()


def test_a_missing_property_is_named(tmp_path) -> None:  # type: ignore[no-untyped-def]
    run = results(tmp_path / "a", 5, 8.0)
    content = json.loads((run / "results.json").read_text())
    content["properties"]["salt_diffusion"]["value"] = None
    (run / "results.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="has no salt_diffusion"):
        read_point(run)


def test_the_command_writes_the_file(tmp_path) -> None:  # type: ignore[no-untyped-def]
    runs = [str(results(tmp_path / "a", 5, 8.0)), str(results(tmp_path / "b", 10, 12.0))]
    called = CliRunner().invoke(app, ["export-pybamm", *runs, "--out", str(tmp_path / "e.py")])
    assert called.exit_code == 0, called.output
    compile((tmp_path / "e.py").read_text(), "e.py", "exec")
    alone = CliRunner().invoke(app, ["export-pybamm", runs[0], "--out", str(tmp_path / "f.py")])
    assert alone.exit_code == 2
