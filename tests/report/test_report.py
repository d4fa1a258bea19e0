"""The page is complete, self-contained and honest; the figure is drawn."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from synthetic_run import SyntheticRun

from phyff.errors import InputError
from phyff.properties import study
from phyff.report import figure, write_report
from phyff.report.tables import flatten, headline, label, with_error

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
    assert not re.search(r'(src|href)="(?!#)', page)
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
    assert sum(len(rows) for _, rows in headline(properties)) == len(properties)


def test_labels_are_words() -> None:
    assert label("self_diffusion_Li_box") == "Self-diffusion of Li in the simulated box"
    assert label("coordination_Li_carbonyl_O") == "carbonyl O around Li"
    assert label("transference_Li_solvent_frame") == "Transference number of Li, relative to the solvent"
    assert label("onsager_Li_PF6") == "Onsager coefficient Li, PF6"
    assert label("residence_time_Li_EC") == "Residence time of EC at Li"


def test_nested_figures_become_rows() -> None:
    assert flatten({"a_b": {"c": 0.5}, "d": [1, 2.0]}) == [["a b, c", "0.5"], ["d", "1, 2"]]
