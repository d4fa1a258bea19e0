"""The vapour: a molecule of known vibrations has the energy of equipartition; what has none is refused."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from standin import StandIn

from phyff.errors import InputError
from phyff.md.driven import Driving
from phyff.md.vapour import vapour_of_run
from phyff.properties.density import series_mean
from phyff.properties.response import read_series
from phyff.properties.trajectory import Run
from phyff.units import GAS_CONSTANT


def run_dir(folder: Path, name: str = "WATER", charge: int = 0) -> Path:
    density = {"name": "density", "timestep_fs": 1.0, "friction": 5.0, "drude_friction": 20.0}
    settings = {"temperature_K": 150.0, "seed": 1, "stages": [density]}
    stages = [{"name": "density", "thermostat_K": 300.0}]  # far from the target, to tell which one holds
    (folder / "run.json").write_text(json.dumps({"settings": settings, "stages": stages}))
    rows = [{"name": name, "count": 36, "charge": charge}]
    (folder / "composition.json").write_text(json.dumps(rows))
    return folder


def driving(ps: float) -> Driving:
    return Driving(ps, (1.0,), 1.0, "Reference", Console(file=io.StringIO()))


def test_a_molecule_of_three_vibrations_has_three_halves_of_rt(tmp_path: Path) -> None:
    # Flexible SWM4 water has two harmonic bonds and one harmonic angle; alone, its oscillator feels no field.
    vapour_of_run(StandIn(), run_dir(tmp_path), driving(60.0))
    about = json.loads((tmp_path / "vapour.json").read_text())
    assert about["oscillators"] == 1
    (series,) = read_series(Run(tmp_path, {}, ()), about).values()
    found = series_mean(series.values, cut_start=False)
    assert found.error < 0.4
    assert abs(found.mean - 1.5 * GAS_CONSTANT * 300.0) < 3.0 * found.error


def test_mixtures_ions_and_missing_runs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"run\.json is missing"):
        vapour_of_run(StandIn(), tmp_path, driving(3.0))
    run_dir(tmp_path, charge=1)
    with pytest.raises(InputError, match="one neutral species"):
        vapour_of_run(StandIn(), tmp_path, driving(3.0))
