"""How sure the neural term was stands in results and report, and is said in a sentence."""

import json
from pathlib import Path

import numpy as np
import pytest
from synthetic_run import SyntheticRun

from phyff.errors import InputError
from phyff.properties import study
from phyff.properties.committee import joined, read_checks
from phyff.replicas import study_replicas
from phyff.report import write_report

HEADER = "time_ps,energy_spread_kJ_mol,force_spread_kJ_mol_nm,uncertain\n"
NPT = HEADER + "1.0000,0.5,40,\n2.0000,0.7,71.3,12:71.3 4:60.2\n3.0000,0.6,65,\n"
NVT = HEADER + "1.0000,0.5,90.1,7:90.1\n2.0000,0.5,30"
STAGES = [
    {"stage": "density", "log": "npt-spread.csv", "frames": "npt-uncertain.dcd"},
    {"stage": "transport", "log": "nvt-spread.csv", "frames": "nvt-uncertain.dcd"},
]


def watched(folder: Path, threshold: float, npt: str = NPT, nvt: str = NVT, **settings) -> Path:
    """A synthetic run of two stages that were watched, the second one killed within a row."""
    settings |= {"committee": {"threshold_kJ_mol_nm": threshold, "stages": STAGES}}
    SyntheticRun(n_frames=60, settings=settings).write(folder)
    (folder / "npt-spread.csv").write_text(npt)
    (folder / "nvt-spread.csv").write_text(nvt)
    return folder


def test_uncertain_frames_are_counted_and_the_reader_is_warned(tmp_path: Path) -> None:
    result = study(watched(tmp_path, 60.0))
    assert result.results()["provenance"]["committee"] == {
        "checks": 4,
        "energy_spread_kJ_mol_per_molecule": 0.575,
        "largest_force_spread_kJ_mol_nm": 90.1,
        "threshold_kJ_mol_nm": 60.0,
        "checks_above_threshold": 3,
        "saved_frames": 2,
    }
    (warning,) = [one for one in result.results()["provenance"]["warnings"] if "uncertain" in one]
    assert "in 3 of 4 checks" in warning and "at most by 90 kJ/mol/nm" in warning
    assert "2 frames are saved" in warning and f"phyff improve {tmp_path}" in warning
    page = write_report(tmp_path, result).read_text()
    assert "Disagreement of the neural networks" in page and "committee-spread.csv" in page
    assert page.count("2 frames are saved") == 2  # the warning, and under the plot


def test_networks_that_agree_are_no_warning_but_are_told(tmp_path: Path) -> None:
    result = study(watched(tmp_path, 100.0))
    assert not any("neural" in warning for warning in result.warnings)
    assert "agree: their forces on an atom differ by at most 90" in write_report(tmp_path, result).read_text()


@pytest.mark.parametrize(
    "settings", [{}, {"committee": {}}, {"committee": {"threshold_kJ_mol_nm": 60.0, "stages": STAGES}}]
)
def test_a_run_without_a_check_says_nothing_of_it(tmp_path: Path, settings: dict) -> None:
    SyntheticRun(n_frames=60, settings=settings).write(tmp_path)
    for stage in settings.get("committee", {}).get("stages", []):
        (tmp_path / stage["log"]).write_text(HEADER)
    result = study(tmp_path)
    assert result.committee is None and "committee" not in result.results()["provenance"]
    assert "neural" not in write_report(tmp_path, result).read_text()


def test_stages_and_replicas_follow_one_another(tmp_path: Path) -> None:
    parts = [
        read_checks(watched(tmp_path, 60.0) / name, 60.0) for name in ("npt-spread.csv", "nvt-spread.csv")
    ]
    whole = joined(parts)
    assert whole is not None
    np.testing.assert_allclose(whole.times, [1.0, 2.0, 3.0, 4.0])
    assert whole.uncertain == ({11: 71.3, 3: 60.2}, {6: 90.1})


def test_replicas_are_told_of_together(tmp_path: Path) -> None:
    stages = [{"name": "density", "ps": 300.0, "wall_s": 3600.0}]
    for number in (1, 2):
        watched(tmp_path / f"replica-{number}", 60.0, stages=stages)
    (tmp_path / "replicas.json").write_text(json.dumps({"replicas": 2, "at_once": 1}))
    together, _ = study_replicas(tmp_path)
    assert together.results()["provenance"]["committee"]["checks_above_threshold"] == 6
    (warning,) = [one for one in together.warnings if "uncertain" in one]
    assert "4 frames are saved" in warning and f"phyff improve {tmp_path}'" in warning


def test_what_is_no_log_of_a_committee_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="npt-spread.csv is not what phyff run writes"):
        study(watched(tmp_path, 60.0, npt=HEADER + "1.0,x,3,\n"))
