"""The record store: content addresses, atomic writes, damaged files, read-only roots."""

import json

import numpy as np
import pytest

from phyff.errors import StoreError
from phyff.qm.store import RecordStore, read_record, record_key, rounded_geometry

SPEC = {"mapped_smiles": "[Li+:1]", "xyz_bohr": [[0.0, 0.0, 0.0]]}


def test_a_record_comes_back_as_it_was_put(tmp_path):
    store = RecordStore(tmp_path)
    store.put("density", SPEC, {"charges_e": np.array([1.0]), "name": "Li+"})
    assert store.get("density", SPEC) == {"charges_e": [1.0], "name": "Li+"}


def test_a_missing_record_is_none(tmp_path):
    assert RecordStore(tmp_path).get("density", SPEC) is None


def test_the_key_depends_on_kind_and_specification_but_not_on_the_order_of_fields():
    turned = dict(reversed(list(SPEC.items())))
    assert record_key("density", SPEC) == record_key("density", turned)
    assert record_key("density", SPEC) != record_key("gradient", SPEC)
    assert record_key("density", SPEC) != record_key("density", {**SPEC, "charge": 1})


def test_geometries_that_agree_to_a_micro_bohr_have_one_key():
    near, far = rounded_geometry([[0.0, 1e-8, -1e-9]]), rounded_geometry([[0.0, 1e-5, 0.0]])
    key = record_key("density", {**SPEC, "xyz_bohr": near})
    assert key == record_key("density", SPEC)
    assert key != record_key("density", {**SPEC, "xyz_bohr": far})


@pytest.mark.parametrize("damage", ["cut", "changed", "empty"])
def test_a_damaged_record_warns_and_counts_as_missing(tmp_path, damage):
    store = RecordStore(tmp_path)
    path = store.put("density", SPEC, {"energy_hartree": -7.2791})
    text = path.read_text()
    path.write_text({"cut": text[:40], "changed": text.replace("7.2791", "7.2792"), "empty": ""}[damage])
    with pytest.warns(UserWarning, match="computed again"):
        assert store.get("density", SPEC) is None
    with pytest.raises(StoreError, match="delete it"):
        read_record(path)
    store.put("density", SPEC, {"energy_hartree": -7.2791})
    assert store.get("density", SPEC) == {"energy_hartree": -7.2791}


def test_a_number_that_is_not_finite_is_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(StoreError, match="not finite"):
        RecordStore(tmp_path).put("density", SPEC, {"energy_hartree": float("nan")})
    assert not list(tmp_path.rglob("*.json"))


def test_read_only_roots_are_read_and_never_written(tmp_path):
    RecordStore(tmp_path / "committed").put("density", SPEC, {"energy_hartree": 1.5})
    store = RecordStore(tmp_path / "own", [tmp_path / "committed"])
    assert store.get("density", SPEC) == {"energy_hartree": 1.5}
    path = store.put("density", {**SPEC, "charge": 1}, {"energy_hartree": 2.5})
    assert (tmp_path / "own") in path.parents
    assert len(list((tmp_path / "committed").rglob("*.json"))) == 1


def test_a_record_file_is_readable_json_with_its_specification(tmp_path):
    path = RecordStore(tmp_path).put("density", SPEC, {"energy_hartree": 1.0})
    content = json.loads(path.read_text())
    assert content["spec"] == SPEC and content["kind"] == "density" and content["key"] == path.stem
