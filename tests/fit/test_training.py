"""Which dimers are computed: the records there are belong to the scans that are asked for."""

from collections import Counter
from itertools import combinations_with_replacement

from library_species import RECORDS, SHORT_RANGE, load

from phyff.fit.training import CORE, FURTHER_PAIRS, LIBRARY, _alike, dimer_jobs, training_pairs
from phyff.model.parameters import ShortRangeClass
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
