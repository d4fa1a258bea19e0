"""The training learns a known correction on unseen scans, repeats itself, and keeps its splits apart."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from library_species import at_contact, random_pose
from neural_terms import untrained
from standin_species import ALL, SHORT_RANGE

from phyff.errors import FitError, InputError
from phyff.fit import neural
from phyff.fit.labels import Label, Sample, cluster_of, rigid_part, split_of, with_physics
from phyff.fit.neural import errors_by_class, learning_point, left_out, make_neural
from phyff.fit.neural_training import FOLDS, Data, Schedule, energy_weight, folds_of, train_committee
from phyff.model.neural import VARIANTS, Architecture, NeuralTerm, predict
from phyff.model.parameters import species_tensors
from phyff.qm.store import RecordStore

TENSORS = {name: species_tensors(s, SHORT_RANGE) for name, s in ALL.items()}
TEACHER = untrained("radial", seed=8, members=1)
SMALL = Architecture(variant="radial", members=2, channels=3, hidden=8)
SHORT = Schedule(epochs=60, batch=32)
GROUPS = [("water", "water"), ("Li+", "water"), ("Cl-", "water"), ("water", "Li+", "water")]


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    """Clusters of the stand-ins in contact; what the physics leaves over is the teacher's energy."""
    rng, labels = np.random.default_rng(1), []
    for names in GROUPS:
        for scan in range(9):
            poses = [random_pose(ALL[n].xyz, rng) for n in names]
            for gap in (0.18, 0.22, 0.27, 0.34):
                xyz = [poses[0]]
                for pose in poses[1:]:
                    xyz.append(at_contact(np.vstack(xyz), pose, gap, np.random.default_rng(scan)))
                labels.append(Label(names, tuple(xyz), 0.0, f"{'+'.join(names)}#{scan}"))
    return [_taught(sample) for sample in with_physics([_asked(x) for x in labels], TENSORS)]


def _asked(label: Label) -> Label:
    """With forces where there are three molecules."""
    n = sum(len(x) for x in label.xyz)
    return replace(label, forces=np.zeros((n, 3))) if len(label.names) > 2 else label


def _taught(sample: Sample) -> Sample:
    found = predict(TEACHER, cluster_of(sample.label, TENSORS))
    label = replace(sample.label, total=sample.physics + found.energy)
    if sample.physics_forces is not None:
        label = replace(label, forces=sample.physics_forces + found.forces.numpy())
    return replace(sample, label=label)


def _split(samples: list[Sample], split: str) -> list[Sample]:
    return [s for s in samples if split_of(s.label.source) == split]


def _train(samples: list[Sample], schedule: Schedule = SHORT, **options) -> NeuralTerm:
    return train_committee(Data.of(_split(samples, "train"), TENSORS, "radial"), SMALL, schedule, **options)


@pytest.fixture(scope="module")
def trained(samples) -> NeuralTerm:
    return _train(samples)


def test_a_known_correction_is_learned_on_scans_that_were_never_seen(samples, trained) -> None:
    errors = errors_by_class(trained, _split(samples, "test"), TENSORS)
    assert errors["all"]["hybrid_weighted_rms"] < 0.5 * errors["all"]["physics_weighted_rms"]
    assert errors["3 molecules"]["hybrid_force_rms"] < 0.6 * errors["3 molecules"]["physics_force_rms"]


def test_errors_are_those_of_the_classes_that_are_asked_for(samples, trained) -> None:
    own = _split(samples, "test")
    first = [k for k, sample in enumerate(own) if len(sample.label.names) == 3]
    found = errors_by_class(trained, own, TENSORS, classes={"first": first, "all": range(len(own))})
    expected = errors_by_class(trained, own, TENSORS)
    assert found == {"first": expected["3 molecules"], "all": expected["all"]}
    totals = np.array([own[k].label.total for k in first])
    assert found["first"]["total_rms"] == pytest.approx(np.sqrt((totals[totals < 0.0] ** 2).mean()), abs=1e-4)


def test_a_training_repeats_itself(samples, trained) -> None:
    assert _train(samples) == trained


def _stopped(samples, checkpoint: Path, after: int) -> None:
    """A training that Ctrl-C ends."""

    def stop(epoch: int) -> None:
        if epoch == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _train(samples, checkpoint=checkpoint, progress=stop)


def test_a_stopped_training_goes_on_where_it_was(samples, trained, tmp_path: Path) -> None:
    checkpoint, epochs = tmp_path / "training.part", []
    _stopped(samples, checkpoint, after=30)
    resumed = _train(samples, checkpoint=checkpoint, progress=epochs.append)
    assert epochs[0] == 21
    assert resumed == trained
    epochs.clear()
    assert _train(samples, checkpoint=checkpoint, progress=epochs.append) == trained and not epochs


def test_a_checkpoint_of_other_settings_is_not_taken_up(samples, tmp_path: Path) -> None:
    checkpoint, epochs = tmp_path / "training.part", []
    _stopped(samples, checkpoint, after=25)
    _train(samples, replace(SHORT, epochs=2, seed=1), checkpoint=checkpoint, progress=epochs.append)
    assert epochs == [1, 2]


def test_no_source_is_in_two_splits_and_test_is_that_of_the_short_range() -> None:
    splits = {number: split_of(f"EC+DMC#{number}") for number in range(900)}
    assert [n for n, split in splits.items() if split == "test"] == [n for n in range(900) if n % 3 == 2]
    assert set(splits.values()) == {"train", "test"}


def test_parts_of_the_sources_are_of_equal_size_and_no_source_is_in_two() -> None:
    sources = [f"EC+DMC#{number}" for number in range(600) if number % 3 != 2]
    folds = folds_of([*sources, *sources])
    assert folds[: len(sources)] == folds[len(sources) :]
    assert max(map(folds.count, range(FOLDS))) - min(map(folds.count, range(FOLDS))) <= 2
    left_out = [source for source, fold in zip(2 * sources, folds, strict=True) if fold == 0]
    assert {int(source.split("#")[1]) % 9 for source in left_out} == {
        0,
        1,
        3,
        4,
        6,
        7,
    }  # not always the same approach


def test_what_a_member_leaves_out_does_not_touch_its_gradients(samples) -> None:
    train = _split(samples, "train")
    folds = folds_of([s.label.source for s in train])
    spoiled = [
        replace(s, label=replace(s.label, total=1e3)) if fold == 0 else s
        for s, fold in zip(train, folds, strict=True)
    ]
    short = replace(SHORT, epochs=1)
    one, other = (_train(own, short).weights["network.in"] for own in (train, spoiled))
    assert torch.equal(one[0], other[0])
    assert not torch.equal(one[1], other[1])


def test_test_labels_do_not_touch_the_weights(samples, trained) -> None:
    spoiled = [
        replace(s, label=replace(s.label, total=1e3)) if split_of(s.label.source) == "test" else s
        for s in samples
    ]
    assert _train(spoiled) == trained


def test_members_differ(samples, trained) -> None:
    energies = Data.of(_split(samples, "test"), TENSORS, "radial").energies(trained)
    assert energies.std(0, correction=0).max() > 1e-3


@pytest.mark.parametrize("variant", VARIANTS)
def test_energies_and_forces_of_the_batch_are_those_of_the_clusters(samples, variant: str) -> None:
    some, term = samples[::13], untrained(variant)
    found = Data.of(some, TENSORS, variant)
    expected = [predict(term, cluster_of(s.label, TENSORS)) for s in some]
    expected_energies = torch.tensor([p.energy for p in expected], dtype=torch.float64)
    assert expected_energies.abs().max() > 0.1
    torch.testing.assert_close(found.energies(term).mean(0), expected_energies)
    energies, forces = found.predict(term)
    torch.testing.assert_close(energies.mean(0), expected_energies)
    of_molecules = [
        torch.tensor(rigid_part(p.forces.numpy(), s.label)) * (s.label.forces is not None)
        for p, s in zip(expected, some, strict=True)
    ]
    torch.testing.assert_close(forces.mean(0), torch.cat(of_molecules), atol=1e-9, rtol=1e-7)
    assert any(s.label.forces is not None for s in some)


def test_net_forces_and_torques_are_all_that_a_training_sees_of_forces(samples, trained) -> None:
    sample = next(s for s in samples if s.label.forces is not None)
    forces = np.random.default_rng(3).normal(size=sample.label.forces.shape)
    rigid, start = rigid_part(forces, sample.label), 0
    for xyz in sample.label.xyz:
        own = slice(start, start + len(xyz))
        np.testing.assert_allclose(rigid[own].sum(0), forces[own].sum(0), atol=1e-12)
        torques = [np.cross(xyz - xyz.mean(0), f[own]).sum(0) for f in (rigid, forces)]
        np.testing.assert_allclose(*torques, atol=1e-12)
        start += len(xyz)
    np.testing.assert_allclose(rigid_part(rigid, sample.label), rigid, atol=1e-12)
    inner = forces - rigid
    strained = replace(sample, label=replace(sample.label, forces=sample.label.forces + 1e3 * inner))
    plain, altered = (Data.of([s], TENSORS, "radial") for s in (sample, strained))
    torch.testing.assert_close(altered.forces, plain.forces, atol=1e-8, rtol=0.0)
    network = predict(trained, cluster_of(sample.label, TENSORS)).forces.numpy()
    np.testing.assert_allclose(
        plain.predict(trained)[1].mean(0).numpy(), rigid_part(network, sample.label), atol=1e-9
    )


def test_high_contacts_count_less_and_bare_cations_are_given_more_room(samples) -> None:
    water = next(s for s in samples if s.label.names == ("water", "water"))
    ion = replace(water, label=replace(water.label, names=("Li+", "water")))
    low, high = (energy_weight(replace(water, exchange=exchange), TENSORS) for exchange in (10.0, 200.0))
    assert high < 0.2 * low
    assert energy_weight(ion, TENSORS) < energy_weight(water, TENSORS)


def test_studies_train_without_the_physics_and_without_a_molecule(samples) -> None:
    seen = []

    def fit(title, train, baseline=True) -> NeuralTerm:
        seen.append((title, [s.label.names for s in train]))
        return untrained("radial")

    parts = {split: _split(samples, split) for split in ("train", "test")}
    row = learning_point(0.5, parts, TENSORS, fit)
    assert 0 < row["labels"] < len(parts["train"])
    assert set(row) == {"labels", "physics", "hybrid", "without_physics"}
    alone = errors_by_class(untrained("radial"), parts["test"], TENSORS)["all"]
    assert row["physics"] == {key: alone[f"physics_{key}"] for key in ("rms", "weighted_rms")}
    left_out("Cl-", samples, TENSORS, fit)
    assert not any("Cl-" in names for names in seen[-1][1])


@pytest.fixture
def library(samples, tmp_path: Path) -> Path:
    """Species, short range and dimer records of the stand-ins."""
    for species in ALL.values():
        species.save(tmp_path / f"{species.name}.json")
    (tmp_path / "short_range.json").write_text(SHORT_RANGE.model_dump_json())
    store = RecordStore(tmp_path / "records")
    for sample in samples:
        label = sample.label
        if len(label.names) == 2:
            sides = [
                {"smiles": ALL[name].mapped_smiles, "xyz_angstrom": 10.0 * xyz}
                for name, xyz in zip(label.names, label.xyz, strict=True)
            ]
            spec = {"first": sides[0], "second": sides[1], "scan": int(label.source.rsplit("#", 1)[1])}
            parts = dict.fromkeys(("electrostatics", "exchange", "induction", "dispersion"), 0.0)
            store.put("dimer", spec, {**parts, "total": label.total})
    return tmp_path


def test_one_call_makes_the_neural_term_of_a_library(library: Path) -> None:
    said: list[str] = []
    summary = make_neural(
        library, SMALL, replace(SHORT, epochs=3), leave_out=["water", "Li+"], say=said.append
    )
    term = NeuralTerm.load(library / "neural.safetensors")
    assert term.metadata["short_range"] == SHORT_RANGE.fingerprint
    assert term.metadata["labels"] == summary["labels"] == {"train": 72, "test": 36}
    assert set(summary["errors"]["test"]) == {"all", "water + water", "Li+ + water", "Cl- + water"}
    assert [row["labels"] for row in summary["learning_curve"]] == [24, 36, 72]
    assert set(summary["left_out"]) == {"Li+"}  # water is in every label
    with pytest.raises(InputError, match="Mg"):
        make_neural(library, SMALL, SHORT, leave_out=["Mg"])
    assert not list(library.glob("*.part"))


def test_studies_that_were_stopped_repeat_no_training(library: Path, monkeypatch) -> None:
    def studied() -> dict[str, Any]:
        return make_neural(library, SMALL, replace(SHORT, epochs=3), leave_out=["Li+"], say=lambda line: None)

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(neural, "left_out", stop)
        with pytest.raises(KeyboardInterrupt):
            studied()
    trained: list[float] = []
    monkeypatch.setattr(Schedule, "rate_at", lambda self, epoch: trained.append(epoch) or self.rate)
    studied()
    assert trained == [0, 1, 2], "only the training without Li+ was still to be done"
    assert not list(library.glob("*.part"))


def test_a_training_with_too_little_data_is_an_error(samples) -> None:
    with pytest.raises(FitError, match="no labels to learn from"):
        _train(_split(samples, "test"))
    with pytest.raises(FitError, match="6 scans or cluster centres"):
        _train([s for s in samples if s.label.names == GROUPS[0]][:20])
