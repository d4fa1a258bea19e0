"""The choice of a level of theory: its dimers are what they say, and one is what the package still gives."""

import json

import numpy as np
import pytest
from pyscf.data.elements import charge as nuclear_charge

from benchmarks.level_of_theory import (
    BASES,
    DATA,
    FUNCTIONALS,
    GROUPS,
    PAGE,
    Level,
    Results,
    energy_job_of,
    load_dimers,
    reference,
)

DIMERS = load_dimers()
CHARGES = {"neutral": [0, 0], "anion": [-1, 0], "cation": [0, 1], "ion pair": [-1, 1]}


def named(name):
    return next(dimer for dimer in DIMERS if dimer["name"] == name)


def test_there_are_twenty_published_dimers_and_ten_ionic_ones_and_no_name_twice():
    published = [dimer for dimer in DIMERS if dimer["set"] != "phyff"]
    assert len(published) >= 20
    assert sum(dimer["group"] != "neutral" for dimer in published) >= 10
    assert len({dimer["name"] for dimer in DIMERS}) == len(DIMERS)


def test_every_source_names_paper_method_and_file():
    sources = json.loads(DATA.read_text())["sources"]
    assert {dimer["set"] for dimer in DIMERS} == set(sources)
    for source in sources.values():
        assert all(len(source[field]) > 5 for field in ("paper", "method", "file"))


@pytest.mark.parametrize("dimer", DIMERS, ids=lambda dimer: dimer["name"])
def test_a_dimer_is_two_closed_shells_at_contact_that_bind(dimer):
    monomers = dimer["monomers"]
    assert len(monomers) == 2
    assert dimer["group"] in GROUPS
    if dimer["group"] in CHARGES:
        assert sorted(monomer["charge"] for monomer in monomers) == sorted(CHARGES[dimer["group"]])
    positions = []
    for monomer in monomers:
        xyz = np.array(monomer["xyz_angstrom"])
        assert xyz.shape == (len(monomer["elements"]), 3)
        electrons = sum(nuclear_charge(e) for e in monomer["elements"]) - monomer["charge"]
        assert electrons % 2 == 0 and electrons > 0
        if len(xyz) > 1:
            apart = np.linalg.norm(xyz[:, None] - xyz[None], axis=2) + 9.0 * np.eye(len(xyz))
            assert apart.min(axis=1).min() > 0.9 and apart.min(axis=1).max() < 1.9
        positions.append(xyz)
    closest = np.linalg.norm(positions[0][:, None] - positions[1][None], axis=2).min()
    assert 1.3 < closest < 3.2
    assert -200.0 < dimer["reference_kcal_mol"] < -1.0


def test_every_dimer_is_on_the_page_with_the_projects_level_and_twenty_with_every_candidate():
    results, text, complete = Results.load(), PAGE.read_text(), 0
    levels = [Level(functional, BASES[0], functional.dispersion[0]) for functional in FUNCTIONALS]
    for dimer in DIMERS:
        energies = [level.energy(dimer, results) for level in levels]
        assert dimer["name"] in text
        assert energies[0] == pytest.approx(reference(dimer), rel=0.05, abs=1.0)
        complete += dimer["set"] != "phyff" and None not in energies
    assert complete >= 20


@pytest.mark.parametrize("functional", FUNCTIONALS, ids=lambda functional: functional.name)
def test_lithium_and_water_come_out_as_committed(functional):
    job = energy_job_of(named("Li+ + water"), functional, BASES[0])
    committed = Results.load().get(job)
    assert job.function(job.spec)["energy"] == pytest.approx(committed["energy"], abs=0.02)
