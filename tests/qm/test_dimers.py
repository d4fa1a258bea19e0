"""The dimers of the training set: chosen once, kept as a record, the same on every machine."""

import json
from pathlib import Path

import numpy as np
import pytest
from tblite.exceptions import TBLiteRuntimeError

from phyff.errors import FitError
from phyff.qm import dimers
from phyff.qm.dimers import (
    FAR_ANGSTROM,
    Partner,
    approach_job,
    approach_job_of,
    decomposition_key,
    scan_jobs,
)
from phyff.qm.level import PHYFF_2026A
from phyff.qm.store import RecordStore, read_record, record_key
from phyff.species.molecule import Molecule

RECORDS = Path(__file__).parents[2] / "molecules" / "records"


@pytest.fixture(scope="module")
def lithium_and_water() -> tuple[Partner, Partner]:
    water = np.array([[0.0, 0.0, 0.117], [0.0, 0.757, -0.469], [0.0, -0.757, -0.469]])
    return (
        Partner(Molecule.from_smiles("[Li+]"), (np.zeros((1, 3)),)),
        Partner(Molecule.from_smiles("O"), (water,)),
    )


def test_two_atoms_are_scanned_in_distance_only() -> None:
    ion = Partner(Molecule.from_smiles("[Li+]"), (np.zeros((1, 3)),))
    scans = approach_job(approach_job_of(ion, ion).content)["scans"]
    distances = [np.linalg.norm(np.subtract(xyz[0], s["first"][0])) for s in scans for xyz in s["seconds"]]
    assert len(np.unique(np.round(distances, 3))) >= 40
    assert min(distances) < 1.0 and max(distances) >= FAR_ANGSTROM


def test_a_scan_moves_the_second_molecule_rigidly_away_from_contact(lithium_and_water) -> None:
    scans = approach_job(approach_job_of(*lithium_and_water).content)["scans"]
    assert len(scans) == 7
    for scan in scans:
        first, seconds = np.array(scan["first"]), np.array(scan["seconds"])
        shapes = [np.linalg.norm(x[:, None] - x[None], axis=2) for x in seconds]
        assert np.allclose(shapes, shapes[0], atol=5e-5)
        assert np.all(np.diff(np.linalg.norm(seconds.mean(1) - first.mean(0), axis=1)) > 0)


def test_orientations_that_gfn2_cannot_rank_are_drawn_again(lithium_and_water, monkeypatch) -> None:
    spec, rank, asked = approach_job_of(*lithium_and_water).content, dimers._Approach.binding_rank, []

    def failing_now_and_then(approach: dimers._Approach) -> float:
        asked.append(approach)
        if len(asked) % 3 == 0:
            raise TBLiteRuntimeError("SCF not converged in 250 cycles")
        return rank(approach)

    monkeypatch.setattr(dimers._Approach, "binding_rank", failing_now_and_then)
    assert len(approach_job(spec)["scans"]) == 7
    assert len(asked) - len(asked) // 3 == dimers.ORIENTATIONS

    def never(approach: dimers._Approach) -> float:
        raise TBLiteRuntimeError("SCF not converged in 250 cycles")

    monkeypatch.setattr(dimers._Approach, "binding_rank", never)
    with pytest.raises(FitError, match=r"\[Li\+\] \+ O.*leave this pair out"):
        approach_job(spec)


def test_dimers_follow_from_the_record_alone(lithium_and_water) -> None:
    approaches = approach_job_of(*lithium_and_water)
    record = {"scans": [{"first": [[0.0] * 3], "seconds": [[[0.0, 0.0, z]] * 3 for z in (2.0, 3.0)]}]}
    jobs = scan_jobs(approaches, record, PHYFF_2026A)
    assert [(job.spec["scan"], job.spec["step"]) for job in jobs] == [(0, 0), (0, 1)]
    assert jobs[1].spec["second"]["xyz_angstrom"] == [[0.0, 0.0, 3.0]] * 3


def test_the_committed_dimers_are_those_of_the_committed_approaches() -> None:
    store, wanted = RecordStore(RECORDS), set()
    for path in sorted((RECORDS / "approach").glob("*.json")):
        content = read_record(path)
        for scan, geometries in enumerate(content["record"]["scans"]):
            for step, xyz in enumerate(geometries["seconds"]):
                wanted.add((scan, step, json.dumps(xyz)))
    assert len(wanted) > 400
    specs = [read_record(path)["spec"] for path in sorted((store.root / "dimer").glob("*.json"))]
    known = [(s["scan"], s["step"], json.dumps(s["second"]["xyz_angstrom"])) in wanted for s in specs]
    # six of the first EC + PF6- dimers name the molecules in the other order
    assert known.count(False) <= 6


@pytest.mark.parametrize("kind", ["dimer", "liquid_dimer", "unseen_dimer", "distant_dimer"])
def test_every_committed_decomposition_is_found_under_the_key_of_the_level(kind: str) -> None:
    paths = sorted((RECORDS / kind).glob("*.json"))
    assert paths
    for path in paths:
        spec = {**read_record(path)["spec"], "level": decomposition_key(PHYFF_2026A)}
        assert record_key(kind, spec) == path.stem
