"""Committed quantum data of two species, for the tests of the fits."""

import library_species
import pytest

from phyff.qm.monomer import MonomerData


@pytest.fixture(scope="module")
def ec() -> MonomerData:
    """Ethylene carbonate."""
    return library_species.quantum_data("O=C1OCCO1")


@pytest.fixture(scope="module")
def dmc() -> MonomerData:
    """Dimethyl carbonate."""
    return library_species.quantum_data("COC(=O)OC")
