"""Committed quantum data of two species, for the tests of the fits."""

import library_species
import pytest

from phyff.qm import executor
from phyff.qm.level import PHYFF_2026A
from phyff.qm.monomer import MonomerData, monomer_records
from phyff.qm.store import RecordStore
from phyff.species.molecule import Molecule


@pytest.fixture(scope="module")
def ec(tmp_path_factory: pytest.TempPathFactory) -> MonomerData:
    """Ethylene carbonate."""
    return _committed("O=C1OCCO1", tmp_path_factory)


@pytest.fixture(scope="module")
def dmc(tmp_path_factory: pytest.TempPathFactory) -> MonomerData:
    """Dimethyl carbonate."""
    return _committed("COC(=O)OC", tmp_path_factory)


def _committed(smiles: str, tmp_path_factory: pytest.TempPathFactory) -> MonomerData:
    """The records that come with the repository; a job that would have to run fails the test."""

    def no_jobs(*_: object) -> None:
        raise AssertionError(f"a committed record of {smiles} is missing")

    store = RecordStore(tmp_path_factory.mktemp("empty"), (library_species.RECORDS,))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(executor, "worker_pool", no_jobs)
        return monomer_records(Molecule.from_smiles(smiles), PHYFF_2026A, store)
