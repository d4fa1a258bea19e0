"""The short-range fit recovers a known model, stays behind its walls and keeps test scans apart."""

import numpy as np
import pytest
import torch
from library_species import SHORT_RANGE, at_contact, load, random_pose
from standin_species import ALL

from phyff.errors import FitError
from phyff.fit import short_range as fitting
from phyff.fit.short_range import CLASS_LEVEL, DimerPoint, fit_short_range
from phyff.model.cluster import PARTS, Cluster, interaction_energy
from phyff.model.pairs import COMPONENTS, TAIL_SHARE
from phyff.model.parameters import ShortRange, ShortRangeClass, species_tensors

LABELS = {e: ALL[n].atom_classes[i][CLASS_LEVEL] for n, i, e in (("water", 0, "O"), ("water", 1, "H"))}
DAMPING = {"H": 4e-4, "Li": 8e-4}
TRUTH = ShortRange(
    classes={
        LABELS["O"]: ShortRangeClass(
            exchange=0.6, penetration=0.25, charge_transfer=0.2, width=1.04, attraction_width=0.88
        ),
        LABELS["H"]: ShortRangeClass(
            exchange=0.3, penetration=0.12, charge_transfer=0.1, width=0.97, attraction_width=0.88
        ),
        "Cl-": ShortRangeClass(
            exchange=0.8, penetration=0.4, charge_transfer=0.3, width=0.94, attraction_width=0.88
        ),
        "Li+": ShortRangeClass(
            exchange=0.25,
            penetration=-0.2,
            charge_transfer=-0.2,
            width=1.02,
            attraction_width=0.9,
            transfer_width=0.7,
        ),
    },
    cation_contacts={"*": ShortRangeClass(exchange=1.0, penetration=0.5, charge_transfer=0.3)},
    damping=2.6,
    damping_alpha=DAMPING,
    dispersion_widths={"*": 0.8, "O": 0.9, "H": 0.7, "Cl": 0.8, "Li": 0.8},
)
PAIRS = [("water", "water"), ("Li+", "water"), ("Cl-", "water"), ("Cl-", "Li+")]


def _points(model: ShortRange, scans: int, seed: int) -> list[DimerPoint]:
    """Dimers of the stand-in species at random orientations, decomposed by the model itself."""
    rng, points = np.random.default_rng(seed), []
    tensors = {name: species_tensors(s, model) for name, s in ALL.items()}
    for names in PAIRS:
        for scan in range(scans):
            first, second = (random_pose(ALL[n].xyz, rng) for n in names)
            for gap in (0.19, 0.23, 0.28, 0.35):
                moved = at_contact(first, second, gap, np.random.default_rng(scan))
                cluster = Cluster.of([tensors[n] for n in names], [torch.tensor(x) for x in (first, moved)])
                parts = {k: v.item() for k, v in interaction_energy(cluster).items()}
                points.append(DimerPoint(names, (first, moved), parts, f"{'+'.join(names)}#{scan}"))
    return points


@pytest.fixture(scope="module")
def points() -> list[DimerPoint]:
    return _points(TRUTH, 9, seed=1)


@pytest.fixture(scope="module")
def fitted(points: list[DimerPoint]) -> ShortRange:
    return _fit(points)


def _fit(points: list[DimerPoint]) -> ShortRange:
    return fit_short_range(ALL, points, TRUTH.damping, DAMPING, TRUTH.dispersion_widths, {"command": "test"})


def test_the_stand_ins_carry_the_classes_of_the_known_model() -> None:
    labels = {s.atom_classes[i][CLASS_LEVEL] for s in ALL.values() for i in range(s.n_atoms)}
    assert labels == set(TRUTH.classes)


def test_components_of_a_known_model_are_recovered_on_new_dimers(fitted: ShortRange) -> None:
    fresh = _points(TRUTH, 3, seed=2)
    tensors = {name: species_tensors(s, fitted) for name, s in ALL.items()}
    found, expected = [], []
    for point in fresh:
        cluster = Cluster.of([tensors[n] for n in point.names], [torch.tensor(x) for x in point.xyz])
        parts = interaction_energy(cluster)
        found.append([parts[name].item() for name in PARTS])
        expected.append([point.components[name] for name in PARTS])
    error = np.sqrt(np.mean((np.array(found) - expected) ** 2, axis=0))
    size = np.sqrt(np.mean(np.array(expected) ** 2, axis=0))
    assert dict(zip(PARTS, error / size, strict=True)) == pytest.approx(dict.fromkeys(PARTS, 0.0), abs=0.03)


def test_how_much_farther_than_exchange_the_attraction_reaches_is_recovered(fitted: ShortRange) -> None:
    for name in ("attraction_width", "transfer_width"):
        found = {label: getattr(fitted.classes[label], name) for label in TRUTH.classes}
        assert found == pytest.approx({k: getattr(c, name) for k, c in TRUTH.classes.items()}, abs=0.04), name


def test_a_bare_cation_gets_negative_factors_where_it_repels(fitted: ShortRange) -> None:
    assert fitted.classes["Li+"].exchange > 0
    assert fitted.classes["Li+"].penetration < 0
    assert fitted.classes["Li+"].charge_transfer < 0
    others = [c for label, c in fitted.classes.items() if label != "Li+"]
    assert all(min(getattr(c, name) for name in COMPONENTS) > 0 for c in others)


def test_charge_transfer_of_a_cation_attracts_where_the_fit_is_told_so() -> None:
    truth = TRUTH.classes["Li+"].model_copy(update={"charge_transfer": 0.2})
    classes = {**TRUTH.classes, "Li+": truth}
    points = _points(TRUTH.model_copy(update={"classes": classes}), 9, seed=1)
    model = fit_short_range(ALL, points, TRUTH.damping, DAMPING, TRUTH.dispersion_widths, {}, ["Li+"])
    assert model.classes["Li+"].penetration < 0 < model.classes["Li+"].charge_transfer
    assert model.classes["Li+"].transfer_width == pytest.approx(truth.transfer_width, abs=0.03)


def _with_contacts(model: ShortRange) -> ShortRange:
    """The model with oxygens that show a bare cation another face."""
    face = ShortRangeClass(exchange=1.3, penetration=0.4, charge_transfer=0.8, width=0.93)
    return model.model_copy(update={"cation_contacts": {LABELS["O"]: face}})


def test_what_atoms_are_towards_a_bare_cation_is_recovered() -> None:
    truth = _with_contacts(TRUTH)
    model = _fit(_points(truth, 9, seed=1))
    assert {LABELS["O"], LABELS["H"], "Cl-"} <= set(model.cation_contacts)
    assert "Li+" not in model.cation_contacts
    blind = model.model_copy(update={"cation_contacts": {}})
    errors = {}
    for name, own in (("with", model), ("without", blind)):
        tensors = {n: species_tensors(s, own) for n, s in ALL.items()}
        off = []
        for point in (p for p in _points(truth, 3, seed=2) if "Li+" in p.names):
            cluster = Cluster.of([tensors[n] for n in point.names], [torch.tensor(x) for x in point.xyz])
            off.append(interaction_energy(cluster)["total"].item() - point.components["total"])
        errors[name] = np.sqrt(np.mean(np.square(off)))
    assert errors["with"] < 0.02 * errors["without"], errors


def test_a_held_model_keeps_its_molecules_and_learns_the_cation() -> None:
    earlier = TRUTH.model_copy(
        update={
            "classes": {k: c for k, c in TRUTH.classes.items() if k != "Cl-"}
            | {"O": ShortRangeClass(exchange=9.0, penetration=9.0, charge_transfer=9.0)}
        }
    )
    wrong = earlier.classes["Li+"].model_copy(update={"exchange": 0.7})
    earlier = earlier.model_copy(update={"classes": {**earlier.classes, "Li+": wrong}})
    points = _points(_with_contacts(TRUTH), 9, seed=1)
    model = fit_short_range(
        ALL, points, TRUTH.damping, DAMPING, TRUTH.dispersion_widths, {}, trial=False, held=earlier
    )
    for label in (LABELS["O"], LABELS["H"], "O"):
        assert model.classes[label] == earlier.classes[label]
    assert model.classes["Li+"].exchange != wrong.exchange
    assert "Cl-" in model.classes
    tensors = {n: species_tensors(s, model) for n, s in ALL.items()}
    off = []
    for point in points:
        cluster = Cluster.of([tensors[n] for n in point.names], [torch.tensor(x) for x in point.xyz])
        off.append(interaction_energy(cluster)["total"].item() - point.components["total"])
    size = np.sqrt(np.mean([p.components["total"] ** 2 for p in points]))
    assert np.sqrt(np.mean(np.square(off))) < 0.02 * size


def test_coarser_labels_fall_back_on_means_of_the_fitted_classes(fitted: ShortRange) -> None:
    for name, species in ALL.items():
        for labels in species.atom_classes:
            assert fitted.class_of(labels[CLASS_LEVEL + 1 :]) != "*" or name == "Li+"
    oxygen = fitted.classes[LABELS["O"]]
    assert fitted.classes["O"].exchange == pytest.approx(oxygen.exchange, rel=1e-12)


@pytest.mark.parametrize("name, part", [("penetration", "electrostatics"), ("charge_transfer", "induction")])
def test_attraction_stays_behind_its_wall_whatever_the_data_ask_for(name: str, part: str) -> None:
    greedy = []
    steep = {
        k: c.model_copy(update={"attraction_width": 1.0, "transfer_width": 1.0})
        for k, c in TRUTH.classes.items()
    }
    for point in _points(TRUTH.model_copy(update={"classes": steep}), 9, seed=1):
        parts = {**point.components, part: point.components[part] - 0.9 * point.components["exchange"]}
        greedy.append(DimerPoint(point.names, point.xyz, parts, point.scan))
    limit = fitting.WALL_SHARES[COMPONENTS.index(name)]
    shares = [abs(getattr(c, name)) / c.exchange for c in _fit(greedy).classes.values()]
    assert limit - 0.1 < max(shares) <= limit + 0.02  # the data do push against the wall


def test_no_two_classes_at_their_walls_attract_at_contact() -> None:
    assert sum(share**2 for share in fitting.WALL_SHARES.values()) + TAIL_SHARE < 1.0


def test_derivatives_of_the_prediction_are_those_of_finite_differences(points: list[DimerPoint]) -> None:
    labels = sorted(TRUTH.classes)
    tensors = {name: species_tensors(s, fitting._blank(labels, 2.6, DAMPING, {})) for name, s in ALL.items()}
    index = {
        name: np.array([labels.index(own[CLASS_LEVEL]) for own in s.atom_classes]) for name, s in ALL.items()
    }
    oxygen = (labels.index(LABELS["O"]),)
    shape = fitting._Shape(len(labels), (labels.index("Li+"),), oxygen)
    towards = {name: shape.contact_classes(own) for name, own in index.items()}
    signs = dict.fromkeys(ALL, np.ones(3)) | {"Li+": np.array([1.0, -1.0, 1.0])}
    rows = [
        fitting._row(point, fitting.residual_targets(point, tensors), ALL, tensors, index, towards, signs)
        for point in points[::7]
    ]
    pairs = fitting._Pairs.of(rows)
    parameters = np.random.default_rng(0).normal(scale=0.2, size=shape.size)
    values, derivatives = pairs.predict(parameters, shape)
    step = 1e-5
    for k in range(len(parameters)):
        shift = np.zeros_like(parameters)
        shift[k] = step
        up, down = (pairs.predict(moved, shape)[0] for moved in (parameters + shift, parameters - shift))
        np.testing.assert_allclose(
            derivatives[:, :, k], (up - down) / (2 * step), rtol=1e-6, atol=1e-7 * np.abs(values).max()
        )


def test_every_third_scan_is_kept_out_of_the_trial_fit(
    points: list[DimerPoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, solve = [], fitting._solve

    def watched(rows, *others):
        seen.append(np.sort([row.targets[0] for row in rows]))
        return solve(rows, *others)

    monkeypatch.setattr(fitting, "_solve", watched)
    model = _fit(points)
    kept = [p.components["exchange"] for p in points if int(p.scan.split("#")[1]) % 3 != 2]
    np.testing.assert_array_equal(seen[0], np.sort([p.components["exchange"] for p in points]))
    np.testing.assert_array_equal(seen[1], np.sort(kept))
    held_out = model.quality["held_out_scans"]
    assert sum(report["points"] for report in held_out.values()) == len(points) - len(kept)


def test_the_distance_from_kin_is_that_from_the_mean_weighted_by_dimers() -> None:
    species = {name: load(name) for name in ("EC", "PC", "Li+")}
    labels = sorted({own[CLASS_LEVEL] for s in species.values() for own in s.atom_classes})
    counts = [3 * k + 1 for k in range(len(labels))]
    kinship = fitting._kinship(labels, species, counts)
    assert kinship.sum(axis=1) == pytest.approx(np.zeros(len(kinship)), abs=1e-12)
    assert not kinship[:, labels.index("Li+")].any()
    factors = np.random.default_rng(4).normal(size=len(labels))
    hydrogens = [k for k, label in enumerate(labels) if label.startswith("H1")]
    apart = factors[hydrogens] - np.average(factors[hydrogens], weights=np.array(counts)[hydrogens])
    found = kinship @ factors
    assert all(np.isclose(found, distance).any() for distance in apart)


def test_a_class_that_one_dimer_holds_stays_near_its_kin(monkeypatch: pytest.MonkeyPatch) -> None:
    species, rng, points = {name: load(name) for name in ("EC", "PC")}, np.random.default_rng(6), []
    tensors = {name: species_tensors(s, SHORT_RANGE) for name, s in species.items()}
    for name, scan in [*(("EC", k) for k in range(8)), ("PC", 0)]:
        xyz = np.array(species[name].conformers[0].xyz_nm)
        first = random_pose(xyz, rng)
        moved = at_contact(first, random_pose(xyz, rng), 0.22, rng)
        cluster = Cluster.of([tensors[name]] * 2, [torch.tensor(x) for x in (first, moved)])
        parts = {k: v.item() for k, v in interaction_energy(cluster).items()}
        parts["exchange"] *= 3.0 if name == "PC" else 1.0
        points.append(DimerPoint((name, name), (first, moved), parts, f"{name}#{scan}"))

    def farthest() -> float:
        """How far the exchange of the hydrogens that PC alone has is from that of EC's, logarithm."""
        model = fit_short_range(
            species, points, SHORT_RANGE.damping, {}, SHORT_RANGE.dispersion_widths, {}, trial=False
        )
        common = {own[CLASS_LEVEL] for own in species["EC"].atom_classes}
        hydrogens = {own[CLASS_LEVEL] for own in species["PC"].atom_classes if own[-1] == "H"} - common
        (kin,) = {label for label in common if label.startswith("H")}
        return max(abs(np.log(model.classes[h].exchange / model.classes[kin].exchange)) for h in hydrogens)

    near = farthest()
    monkeypatch.setattr(fitting, "KIN_RIDGE", 0.0)
    far = farthest()
    assert near < 0.2 * far, (near, far)


def test_a_fit_without_dimers_is_an_error() -> None:
    with pytest.raises(FitError, match="no dimer data"):
        _fit([])
