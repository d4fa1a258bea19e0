"""The page on the library's physics: errors are the fit's, cancelling ones show, nothing is left out."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import standin_species
import torch
from library_species import at_contact, random_pose
from typer.testing import CliRunner

from phyff.cli import app
from phyff.errors import InputError
from phyff.fit.short_range import IN_LIQUIDS, fit_short_range, is_held_out
from phyff.fit.training import load_dimers
from phyff.model.cluster import PARTS, Cluster, interaction_energy
from phyff.model.parameters import ShortRange, species_tensors
from phyff.qm.store import RecordStore
from phyff.report.dimer_errors import COLUMNS, FITTED_PARTS, Errors, PairClass, stored_errors
from phyff.report.physics import Library, render, write_physics
from phyff.report.scans import scans
from phyff.species import library as species_library
from phyff.species.library import TRIAL_FILE
from phyff.species.parameters import SpeciesParameters, library_species

REPOSITORY = Path(__file__).parents[2]
SPECIES = standin_species.ALL
PAIRS = (("water", "water"), ("Li+", "water"), ("water", "Li+"), ("Cl-", "Li+"))
"""The second and the third are one pair, named either way round."""
SCANS, GAPS = 4, (0.20, 0.24, 0.30, 0.45)
NOISE = 0.5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library of stand-ins fitted to dimers that the stand-in model made, with noise."""
    folder, rng = tmp_path_factory.mktemp("library"), np.random.default_rng(3)
    tensors = {name: species_tensors(s, standin_species.SHORT_RANGE) for name, s in SPECIES.items()}
    store = RecordStore(folder / "records")
    for names in PAIRS:
        for scan in range(SCANS):
            first, second = (random_pose(SPECIES[name].xyz, rng) for name in names)
            for step, gap in enumerate(GAPS):
                moved = at_contact(first, second, gap, np.random.default_rng(scan))
                parts = interaction_energy(
                    Cluster.of([tensors[n] for n in names], [torch.tensor(x) for x in (first, moved)])
                )
                record = {part: parts[part].item() + NOISE * rng.normal() for part in PARTS}
                sides = [_side(SPECIES[n], x) for n, x in zip(names, (first, moved), strict=True)]
                spec = {"first": sides[0], "second": sides[1], "scan": scan, "step": step}
                store.put("dimer", spec, {**record, "total": sum(record.values())})
    for name, species in SPECIES.items():
        species.save(folder / f"{name}.json")
    points = load_dimers(store.root, SPECIES)
    made = standin_species.SHORT_RANGE
    model = fit_short_range(SPECIES, points, made.damping, made.damping_alpha, made.dispersion_widths, {})
    (folder / "short_range.json").write_text(model.model_dump_json())
    return folder


def _side(species: SpeciesParameters, xyz_nm: np.ndarray) -> dict:
    return {"smiles": species.mapped_smiles, "xyz_angstrom": (10 * xyz_nm).tolist()}


@pytest.fixture(scope="module")
def library(folder: Path) -> Library:
    return Library.load(folder)


@pytest.fixture(scope="module")
def pairs(library: Library) -> list[PairClass]:
    return library.pair_classes()


def test_every_dimer_belongs_to_one_pair_whichever_way_it_names_the_species(library, pairs) -> None:
    assert [pair.names for pair in pairs] == [("Li+", "water"), ("Li+", "Cl-"), ("water", "water")]
    assert [len(pair.points) for pair in pairs] == [2 * SCANS * len(GAPS), *[SCANS * len(GAPS)] * 2]
    assert [pair.kind for pair in pairs] == ["ion with neutral", "ion pair", "neutral"]
    assert sum(pair.held_out.sum() for pair in pairs) == len(PAIRS) * len(GAPS)  # scan 2 of 0 to 3


def test_errors_are_those_that_the_fit_stored(library: Library, pairs: list[PairClass]) -> None:
    seen, unseen = (
        stored_errors(library.short_range, subset, library.species)
        for subset in ("in_sample", "held_out_scans")
    )
    assert set(seen) == set(unseen) == {(pair.names, pair.in_liquids) for pair in pairs}
    for pair in pairs:
        key = pair.names, pair.in_liquids
        own, stored = (pair.in_sample(True), pair.on_held_out(True)), (seen[key], unseen[key])
        for errors, kept in zip(own, stored, strict=True):
            assert errors.points == kept.attractive > 0
            found = dict(zip(COLUMNS, errors.rms, strict=True))
            # the file's factors are rounded to six digits, and near cations large terms cancel
            assert {part: found[part] for part in FITTED_PARTS} == pytest.approx(kept.rms, rel=1e-3)
        assert seen[key].points == pair.in_sample(False).points == len(pair.points)
        assert unseen[key].points == pair.on_held_out(False).points == pair.held_out.sum()


def test_neighbours_in_liquids_are_judged_apart_from_scans_and_not_drawn(
    library: Library, pairs: list[PairClass], tmp_path: Path
) -> None:
    water = next(pair for pair in pairs if pair.names == ("water", "water"))
    cut = [replace(p, scan=f"water+water{IN_LIQUIDS}#{k}") for k, p in enumerate(water.points)]
    both = Library(library.species, library.short_range, [*library.points, *cut])
    found = [pair for pair in both.pair_classes() if pair.names == water.names]
    assert [pair.title for pair in found] == ["water + water", "water + water in liquids"]
    assert found[1].held_out.sum() == len([k for k in range(len(cut)) if k % 3 == 2])
    assert found[1].in_sample(False).rms == pytest.approx(found[0].in_sample(False).rms)
    text = write_physics(both, tmp_path).read_text()
    assert len(re.findall(r"^\| water \+ water in liquids \|", text, flags=re.M)) == 3
    assert len(list(tmp_path.rglob("*.png"))) == 3


def test_the_trial_fit_does_not_see_the_held_out_scans(library: Library, pairs: list[PairClass]) -> None:
    altered = [
        replace(point, components={part: value - 9.0 for part, value in point.components.items()})
        if is_held_out(point.scan)
        else point
        for point in library.points
    ]
    again = Library(library.species, library.short_range, altered).pair_classes()
    for pair, other in zip(pairs, again, strict=True):
        np.testing.assert_allclose(other.trial, pair.trial, rtol=1e-9, atol=1e-9)
        assert np.abs(pair.trial - pair.library).max() > 1e-3
        assert other.on_held_out(False).rms != pytest.approx(pair.on_held_out(False).rms, abs=1.0)


def test_a_stored_trial_fit_serves_its_own_short_range_alone(folder: Path, library: Library) -> None:
    kept = library.fitted_trial()
    assert library.trial is None
    file = folder / TRIAL_FILE
    try:
        file.write_text(kept.model_dump_json())
        assert Library.load(folder).trial == kept
        assert set(library_species(folder)) == set(SPECIES)
        file.write_text(kept.model_copy(update={"provenance": {"trial_of": "another"}}).model_dump_json())
        assert Library.load(folder).trial is None
    finally:
        file.unlink()


def test_the_error_of_the_total_follows_from_component_errors_and_their_correlations() -> None:
    rng = np.random.default_rng(0)
    quantum, miss = rng.normal(size=(2, 30, 4))
    errors = Errors.of(*(np.column_stack([x, x.sum(1)]) for x in (quantum + miss, quantum)))
    rms = errors.rms[:4]
    assert errors.rms[4] ** 2 == pytest.approx(rms @ errors.correlation @ rms)
    assert errors.independent == pytest.approx(np.sqrt((rms**2).sum()))
    np.testing.assert_allclose(np.diag(errors.correlation), 1.0)


def test_errors_that_cancel_show_as_a_correlation_of_minus_one_though_the_total_is_right() -> None:
    quantum = np.full((6, 5), -10.0)
    model = quantum + [3.0, -3.0, 0.0, 0.0, 0.0]
    errors = Errors.of(model, quantum)
    assert errors.correlation[0, 1] == pytest.approx(-1.0)
    assert errors.rms[4] == 0.0 and errors.independent == pytest.approx(3 * np.sqrt(2))


@pytest.mark.parametrize(
    ("kind", "miss", "met"),
    [
        ("neutral", [0.5, 0.0, 0.0, 0.0], True),
        ("neutral", [1.5, 0.0, 0.0, 0.0], False),
        ("neutral", [2.5, -2.5, 0.0, 0.0], False),
        ("ion with neutral", [2.9, 0.0, 0.0, 0.0], True),
        ("ion with neutral", [3.1, 0.0, 0.0, 0.0], False),
        ("ion pair", [0.7, 0.0, 0.0, 0.0], True),
        ("ion pair", [0.9, 0.0, 0.0, 0.0], False),
        ("like charges", [0.0, 0.0, 0.0, 0.0], None),
    ],
)
def test_each_kind_of_pair_is_held_to_its_goal(
    pairs: list[PairClass], kind: str, miss: list[float], met: bool | None
) -> None:
    quantum = np.tile([-40.0, 5.0, -3.0, -2.0, -40.0], (4, 1))
    model = quantum + [*miss, sum(miss)]
    pair = PairClass(
        names=("a", "b"),
        in_liquids=False,
        kind=kind,
        points=pairs[0].points[:4],
        quantum=quantum,
        library=quantum,
        trial=model,
        held_out=np.ones(4, dtype=bool),
    )
    assert pair.goal_met() is met


def test_curves_of_a_scan_go_through_the_model_at_its_dimers(
    library: Library, pairs: list[PairClass]
) -> None:
    tensors = {name: species_tensors(s, library.short_range) for name, s in library.species.items()}
    drawn = scans(pairs[0], library.species, tensors)
    assert len(drawn) == 2 * SCANS
    assert [scan.title.split(":")[0] for scan in drawn[:6]] == [
        "0",
        "0",
        "1",
        "1",
        "2, held out",
        "2, held out",
    ]
    for scan in drawn:
        assert scan.distances == pytest.approx(10 * np.array(GAPS), abs=0.06)
        nodes = [int(np.abs(scan.path - distance).argmin()) for distance in scan.distances]
        assert len(scan.path) > 2 * len(nodes)
        np.testing.assert_allclose(scan.path_model[nodes], scan.model, atol=1e-6)


def test_the_page_shows_every_species_pair_and_figure(library: Library, tmp_path: Path) -> None:
    stale = tmp_path / "figures" / "scans" / "EC_EC.png"
    stale.parent.mkdir(parents=True)
    stale.write_text("of another library")
    text = write_physics(library, tmp_path).read_text()
    linked = re.findall(r"!\[.*?\]\((.*?)\)", text)
    assert sorted(linked) == sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.png"))
    assert len(linked) == 3 and not stale.exists()
    for name in SPECIES:
        assert re.search(rf"^\| {re.escape(name)} \|", text, flags=re.M)
    for pair in ("Li+ + water", "Li+ + Cl-", "water + water"):
        assert len(re.findall(rf"^\| {re.escape(pair)} \|", text, flags=re.M)) == 3
    assert not re.search(r"\bnan\b", text)


def test_the_page_says_when_dimers_came_after_the_fit(library: Library, pairs: list[PairClass]) -> None:
    assert "The records hold" not in render(library, pairs)
    older = library.short_range.model_copy(update={"quality": {**library.short_range.quality, "points": 7}})
    text = render(Library(library.species, older, library.points), pairs)
    assert "fitted to 7 rigid dimers" in text and f"The records hold {len(library.points)} now" in text


def test_a_library_without_records_or_pair_is_refused(library: Library) -> None:
    with pytest.raises(InputError, match="no dimer records"):
        Library(library.species, library.short_range, []).pair_classes()
    with pytest.raises(InputError, match="no dimers of Cl- and water"):
        library.pair_classes(("Cl-", "water"))


def test_info_shows_the_pairs_of_a_species_and_the_dimers_of_a_pair(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(species_library, "library_directory", lambda: folder)
    monkeypatch.setenv("COLUMNS", "80")

    def shown(*names: str) -> str:
        result = CliRunner().invoke(app, ["info", *names])
        assert result.exit_code == 0, result.output
        return result.stdout

    of_chloride = shown("Cl-")
    assert "Li+ + Cl-" in of_chloride and "water + water" not in of_chloride
    for names in (("Li+", "water"), ("water", "lithium")):
        text = shown(*names)
        assert "Li+ + water" in text and "3 kJ/mol or 3 %" in text and "…" not in text
        assert len(re.findall(r"^ \d", text, flags=re.M)) == 2 * SCANS * len(GAPS)
    refused = CliRunner().invoke(app, ["info", "Cl-", "water"])
    assert refused.exit_code == 2 and "no dimers of Cl- and water" in refused.stderr


def test_the_committed_page_is_of_the_committed_library() -> None:
    text = (REPOSITORY / "benchmarks" / "physics.md").read_text()
    model = ShortRange.load(REPOSITORY / "molecules" / "short_range.json")
    assert f"fingerprint {model.fingerprint}." in text, "run: python benchmarks/physics.py"
    assert Library.load(REPOSITORY / "molecules").trial is not None, "run: python benchmarks/physics.py"
