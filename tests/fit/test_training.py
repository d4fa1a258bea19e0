"""Which dimers are computed: the records there are belong to the scans that are asked for. Which flows of
charge a library keeps: those that dimers with cations confirm."""

from collections import Counter
from itertools import combinations_with_replacement
from pathlib import Path

import numpy as np
import pytest
import standin_species
import torch
from library_species import NAMES, RECORDS, SHORT_RANGE, load, random_pose, with_random_flows

from phyff.errors import FitError, InputError
from phyff.fit.short_range import IN_LIQUIDS, DimerPoint, beside_penetration, is_held_out
from phyff.fit.training import (
    CORE,
    FEWEST_NEIGHBOURS,
    FURTHER_PAIRS,
    LIBRARY,
    _alike,
    _with_contacts_of,
    dimer_jobs,
    load_dimers,
    make_library,
    training_pairs,
    with_tested_flow,
    without_own_classes,
)
from phyff.model.cluster import PARTS, Cluster
from phyff.model.parameters import ShortRange, ShortRangeClass, species_tensors
from phyff.qm.level import PHYFF_2026A
from phyff.qm.store import RecordStore


def test_every_pair_is_of_the_library_and_named_once() -> None:
    pairs = [tuple(sorted(pair)) for pair in training_pairs()]
    assert max(Counter(pairs).values()) == 1
    assert {name for pair in FURTHER_PAIRS for name in pair} <= set(LIBRARY)


def test_most_scans_of_the_core_are_computed() -> None:
    store = RecordStore(RECORDS)
    pairs = [(load(a), load(b)) for a, b in combinations_with_replacement(CORE, 2)]
    first, *later = dimer_jobs(pairs, PHYFF_2026A, store, 1)
    assert all(store.get(job.kind, job.spec) is not None for job in first)
    jobs = [*first, *(job for own in later for job in own)]
    assert sum(store.get(job.kind, job.spec) is not None for job in jobs) > 0.85 * len(jobs)


def test_a_model_that_differs_towards_cations_only_leaves_the_files_of_species_alone() -> None:
    species = load("DME")
    (oxygen,) = {own[0] for own in species.atom_classes if own[-1] == "O"}
    contact = ShortRangeClass(exchange=1.1, penetration=0.5, charge_transfer=1.0)
    contacts = SHORT_RANGE.model_copy(update={"cation_contacts": {oxygen: contact}})
    assert _alike(species, SHORT_RANGE, contacts)
    other = SHORT_RANGE.classes["*"].model_copy(update={"exchange": 0.36})
    classes = SHORT_RANGE.model_copy(update={"classes": {**SHORT_RANGE.classes, oxygen: other}})
    assert not _alike(species, SHORT_RANGE, classes)


def test_what_is_renewed_of_an_earlier_model_is_what_no_other_species_has() -> None:
    species = {name: load(name) for name in NAMES}
    labels = {name: {label for own in s.atom_classes for label in own} for name, s in species.items()}
    every = dict.fromkeys(set().union(*labels.values()), SHORT_RANGE.classes["*"])
    model = SHORT_RANGE.model_copy(update={"classes": {**every, **SHORT_RANGE.classes}})
    assert without_own_classes(model, species, ()) == model
    gone = set(model.classes) - set(without_own_classes(model, species, ["VC"]).classes)
    others = set().union(*(own for name, own in labels.items() if name != "VC"))
    assert {"C3(C3,H1,O2)", "H1(C3)"} < gone == labels["VC"] - others


@pytest.mark.parametrize(
    ("extend", "renew", "message"), [(False, ["VC"], "--extend"), (True, ["water"], "no such molecule")]
)
def test_what_cannot_be_renewed_is_refused(tmp_path, extend, renew, message) -> None:
    with pytest.raises(InputError, match=message):
        make_library(tmp_path, PHYFF_2026A, 1, True, extend, renew)


LITHIUM = load("Li+")
FLOWING = with_random_flows(load("EC"), np.random.default_rng(2)).model_copy(
    update={"quality": {"charge_flow": {}}}
)


def _neighbours(truth: tuple, offset: float = 0.0, held_out: bool = False) -> list[DimerPoint]:
    """Li+ next to moving EC in liquids, whose electrostatics is that of charges with the flows `truth`, all
    held out or none."""
    rng, known = np.random.default_rng(5), FLOWING.model_copy(update={"charge_flow": truth})
    tensors = [species_tensors(s, ShortRange.charges_only()) for s in (LITHIUM, known)]
    points: list[DimerPoint] = []
    number = 0
    while len(points) < FEWEST_NEIGHBOURS + 3:
        number += 1
        scan = f"Li+ + EC{IN_LIQUIDS}#{number}"
        if is_held_out(scan) != held_out:
            continue
        xyz = random_pose(FLOWING.xyz + rng.normal(scale=0.004, size=FLOWING.xyz.shape), rng)
        places = (np.array([[0.0, 0.0, 0.36]]), xyz)
        energy = beside_penetration(Cluster.of(tensors, [torch.tensor(x) for x in places])).item()
        points.append(DimerPoint(("Li+", "EC"), places, {"electrostatics": energy + offset}, scan))
    return points


def _tested(points: list[DimerPoint]) -> tuple[bool, dict]:
    """Whether the flow is kept, and its quality figures."""
    still = FLOWING.model_copy(update={"charge_flow": ()})
    found = with_tested_flow(FLOWING, {"Li+": LITHIUM, "EC": FLOWING}, points, still)
    return bool(found.charge_flow), found.quality["charge_flow"]


def test_a_flow_that_dimers_with_cations_confirm_is_kept_whatever_the_mean_error() -> None:
    kept, quality = _tested(_neighbours(FLOWING.charge_flow, offset=-5.0))
    assert kept
    assert quality["electrostatics_spread_flow_kJ_mol"] == pytest.approx(0.0, abs=1e-9)
    assert quality["electrostatics_spread_kJ_mol"] > 1.0


def test_a_flow_that_they_contradict_is_taken_away_and_the_figures_say_so() -> None:
    kept, quality = _tested(_neighbours(()))
    assert not kept
    assert quality["electrostatics_spread_kJ_mol"] == pytest.approx(0.0, abs=1e-9)
    assert quality["electrostatics_spread_flow_kJ_mol"] > 1.0


def test_held_out_dimers_and_few_ones_do_not_decide() -> None:
    for points in (_neighbours((), held_out=True), _neighbours(())[: FEWEST_NEIGHBOURS - 1]):
        assert _tested(points) == (True, {})


def test_an_extended_library_takes_what_cations_feel_and_nothing_else() -> None:
    flow = tuple(f.model_copy(update={"at_rest": f.at_rest + 0.1}) for f in FLOWING.charge_flow)
    near = tuple(atom.model_copy(update={"density": 1.1 * atom.density}) for atom in FLOWING.near_field)
    figures = {"charge_flow": {"contacts": 40}, "near_field": {"density_rms_percent": 3.0}}
    new = FLOWING.model_copy(
        update={"charge_flow": flow, "near_field": near, "polarizability": None, "quality": figures}
    )
    found = _with_contacts_of(FLOWING, new)
    assert found.charge_flow == flow != FLOWING.charge_flow
    assert found.near_field == near != FLOWING.near_field
    assert found.quality == {**FLOWING.quality, **figures}
    assert found.provenance["charge_flow_date"] == new.provenance["date"]
    rest = {"charge_flow", "near_field", "quality", "provenance"}
    assert found.model_dump(exclude=rest) == FLOWING.model_dump(exclude=rest)


def test_two_dimers_that_are_the_same_step_of_a_scan_are_refused(tmp_path: Path) -> None:
    species = {name: standin_species.ALL[name] for name in ("water", "Li+")}
    store = RecordStore(tmp_path)
    energies = dict.fromkeys((*PARTS, "total"), 0.0)
    for far in (2.0, 2.1):
        sides = [
            {"smiles": species["water"].mapped_smiles, "xyz_angstrom": (10 * species["water"].xyz).tolist()},
            {"smiles": species["Li+"].mapped_smiles, "xyz_angstrom": [[far, 0.0, 0.0]]},
        ]
        spec = {"first": sides[0], "second": sides[1], "scan": 3, "step": 1}
        store.put("dimer", spec, energies)
        if far == 2.0:
            assert len(load_dimers(tmp_path, species)) == 1
    with pytest.raises(FitError, match=r"the same step of water\+Li\+#3, chosen twice"):
        load_dimers(tmp_path, species)
