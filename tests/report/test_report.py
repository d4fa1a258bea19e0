"""The page is complete, self-contained and honest; the figure is drawn."""

import base64
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from synthetic_run import EC, BrownianSpecies, SyntheticRun

from phyff.errors import InputError
from phyff.measurements import Measured
from phyff.properties import Property, study
from phyff.report import figure, write_report
from phyff.report.tables import flatten, headline, label, measured, with_error

FORCE_FIELD = {
    "species": [
        {
            "name": "EC",
            "smiles": "O=C1OCCO1",
            "quality": {"esp_relative_rms": {"rank_0": 0.108, "rank_2": 0.043}, "net_charge": 0.0},
            "provenance": {"level": "wB97M-V/def2-SVPD", "conformers": 1},
        },
        {"name": "Li", "smiles": "[Li+]", "quality": {}, "provenance": {}},
    ]
}
COMPOSITION = [{"component": "LiPF6", "requested": "1.0 M", "achieved": "1.02 M", "molecules": 30}]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory) -> Path:  # type: ignore[no-untyped-def]
    settings = {"composition_report": COMPOSITION, "name": "1 M LiPF6 <in> EC"}
    path = SyntheticRun(n_frames=150, shell=2, settings=settings).write(tmp_path_factory.mktemp("run"))
    (path / "forcefield.json").write_text(json.dumps(FORCE_FIELD))
    return path


@pytest.fixture(scope="module")
def page(run_dir: Path) -> str:
    return write_report(run_dir).read_text(encoding="utf-8")


def test_the_page_loads_nothing_from_elsewhere(page: str) -> None:
    assert not re.search(r'(src|href)="(?!#|data:text/csv;base64,)', page)
    assert "<script" not in page
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)


def test_the_page_shows_every_part(page: str) -> None:
    assert "1 M LiPF6 &lt;in&gt; EC" in page
    for expected in ("Density", "Conductivity (Einstein-Helfand)", "g/cm³", "1.02 M", "wB97M-V/def2-SVPD"):
        assert expected in page
    assert "esp relative rms, rank 0" in page
    assert "No quality figures are stored" in page
    assert "leans on a coarser atom class" in page
    assert "not converged: " in page


def test_there_is_one_plot_for_each_property(page: str) -> None:
    drawings = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    assert len(drawings) == 8
    identifiers = [i for drawing in drawings for i in set(re.findall(r' id="([^"]+)"', drawing))]
    assert len(identifiers) == len(set(identifiers))
    for drawing in drawings:
        ElementTree.fromstring(drawing)


def test_the_numbers_of_every_plot_can_be_downloaded_from_the_page(page: str, run_dir: Path) -> None:
    links = re.findall(r'href="data:text/csv;base64,([^"]+)" download="([^"]+)"', page)
    files = {name: base64.b64decode(data).decode().splitlines() for data, name in links}
    assert len(files) == len(links) == len(re.findall("<svg", page))
    result = study(run_dir)
    assert files["density.csv"][0] == "time_ps,density_g_cm3"
    times, densities = np.array([row.split(",") for row in files["density.csv"][1:]], dtype=float).T
    assert times == pytest.approx(result.npt_times) and densities == pytest.approx(result.npt_densities)
    assert files["displacement.csv"][0] == "lag_ps,Li_nm2,PF6_nm2,EC_nm2"
    assert len(files["displacement.csv"]) == len(result.displacements[0].lags) + 1
    assert any(name.startswith("distribution-Li-") for name in files)


def test_without_a_measured_value_the_page_has_no_column_for_one(page: str) -> None:
    assert "<th>measured</th>" not in page


def test_a_measured_value_of_the_same_liquid_stands_beside_the_simulated_one(tmp_path: Path) -> None:
    run_dir = SyntheticRun(
        species=(BrownianSpecies("EC", EC, 0, 60, 0.0008),), temperature=313.15, production=False
    ).write(tmp_path / "run")
    result = study(run_dir)
    density = result.properties["density"].value
    page = write_report(run_dir, result).read_text(encoding="utf-8")
    assert "<th>measured</th>" in page and "Xu, Chem. Rev. 104, 4303 (2004)" in page
    assert f"simulated {100 * (density / 1.321 - 1):+.1f} %" in page
    assert result.results()["provenance"]["measured"]["density"]["value"] == 1.321


def test_a_box_of_slightly_different_composition_says_so() -> None:
    known = Measured(1.30, "g/cm3", "somewhere", "LP30", "Li+", -0.077)
    cells = measured(Property(1.27, 0.01, "g/cm3", "converged"), known)
    assert cells == {"value": "1.3", "note": "simulated -2.3 %; somewhere; the box holds 8 % less Li+"}


def test_a_run_without_production_still_has_a_page(tmp_path: Path) -> None:
    page = write_report(SyntheticRun(production=False).write(tmp_path / "run")).read_text(encoding="utf-8")
    assert "no production trajectory" in page
    assert len(re.findall("<svg", page)) == 1


def test_the_figure_is_a_png(run_dir: Path, tmp_path: Path) -> None:
    figure(run_dir, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_a_broken_force_field_is_named(tmp_path: Path) -> None:
    run_dir = SyntheticRun(production=False).write(tmp_path / "run")
    (run_dir / "forcefield.json").write_text("{}")
    with pytest.raises(InputError, match="forcefield.json"):
        write_report(run_dir)


def test_values_carry_the_digits_their_error_allows() -> None:
    assert with_error(1.28731, 0.0041) == "1.287 ± 0.004"
    assert with_error(1.28731, 0.0014) == "1.2873 ± 0.0014"
    assert with_error(12.34, 3.2) == "12 ± 3"
    assert with_error(float("nan"), float("nan")) == "—"


def test_every_property_has_a_place_on_the_page(run_dir: Path) -> None:
    properties = study(run_dir).properties
    assert sum(len(rows) for _, rows in headline(properties, {})) == len(properties)


def test_labels_are_words() -> None:
    assert label("self_diffusion_Li_box") == "Self-diffusion of Li in the simulated box"
    assert label("coordination_Li_carbonyl_O") == "carbonyl O around Li"
    assert label("transference_Li_solvent_frame") == "Transference number of Li, relative to the solvent"
    assert label("onsager_Li_PF6") == "Onsager coefficient Li, PF6"
    assert label("residence_time_Li_EC") == "Residence time of EC at Li"


def test_nested_figures_become_rows() -> None:
    assert flatten({"a_b": {"c": 0.5}, "d": [1, 2.0]}) == [["a b, c", "0.5"], ["d", "1, 2"]]
