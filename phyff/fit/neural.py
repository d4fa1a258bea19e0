"""The neural term of a library: made from its records, studied, and judged on labels it has not seen.

It learns what quantum chemistry leaves over after the physics (phyff/fit/neural_training.py), and nothing of
the test set enters a gradient. No experimental number enters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from phyff.errors import InputError
from phyff.fit.labels import (
    SPLITS,
    Sample,
    cluster_of,
    load_labels,
    load_library,
    rigid_part,
    split_of,
    with_physics,
)
from phyff.fit.neural_training import FOLDS, Data, Schedule, train_with_bar
from phyff.fit.short_range import IN_LIQUIDS, pair_title
from phyff.model.neural import (
    Architecture,
    NeuralTerm,
    predict,
)
from phyff.model.parameters import SpeciesTensors, species_tensors
from phyff.species.library import NEURAL_FILE

LEFT_OUT = "left out"
"""Errors of training labels by the members that have not seen them."""
ALL = "all"
BARE_SATURATION = 400.0
"""kJ/mol; bound of the networks that have no physics to lean on."""
LEARNING_FRACTIONS = (0.25, 0.5, 1.0)
LEAVE_OUT = ("EMC", "PC", "DME", "FSI-")
"""Species whose transfer is studied: one training each."""


def make_neural(
    folder: Path,
    architecture: Architecture,
    schedule: Schedule,
    studies: bool = True,
    leave_out: Sequence[str] = LEAVE_OUT,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train the neural term of the library in `folder` (molecules/) on its records, write NEURAL_FILE there,
    and return the summary: errors by split and pair, and with `studies` also the learning curve with and
    without the physics, and the errors for the species `leave_out`, each left out of a training of its own.
    Stopped, it goes on where it was.

    Raises:
        FitError: there are no data. InputError: the library cannot be read, or knows no such species.
    """
    model, species = load_library(folder)
    labels = load_labels(folder / "records", species)
    used = sorted({name for label in labels for name in label.names})
    unknown = [name for name in leave_out if name not in species]
    if studies and unknown:
        raise InputError(f"leave-out: {', '.join(unknown)} is not in {folder}; see 'phyff info'.")
    tensors = {name: species_tensors(species[name], model) for name in used}
    say(f"physics of {len(labels)} labels")
    samples = with_physics(labels, tensors)
    parts = {split: [s for s in samples if split_of(s.label.source) == split] for split in SPLITS}
    say(", ".join(f"{split}: {len(own)} labels" for split, own in parts.items()))

    path = folder / NEURAL_FILE
    checkpoints: list[Path] = []

    def fit(title: str, train: Sequence[Sample], baseline: bool = True) -> NeuralTerm:
        checkpoints.append(path.with_suffix(f".{title.replace(' ', '-').replace(',', '')}.part"))
        shape = architecture if baseline else replace(architecture, saturation=BARE_SATURATION)
        seen = Data.of(train, tensors, shape.variant, baseline)
        return train_with_bar(title, seen, shape, schedule, checkpoints[-1])

    term = fit("neural term", parts["train"])
    errors = {split: errors_by_class(term, own, tensors) for split, own in parts.items()}
    errors[LEFT_OUT] = errors_by_class(term, parts["train"], tensors, by_left_out=True)
    summary: dict[str, Any] = {
        "architecture": asdict(architecture),
        "schedule": asdict(schedule),
        "labels": {split: len(own) for split, own in parts.items()},
        "errors": errors,
    }
    metadata = {
        **term.metadata,
        "command": "phyff train-neural",
        "date": datetime.now(UTC).date().isoformat(),
        "short_range": model.fingerprint,
        "species": used,
        "labels": summary["labels"],
        "test": summary["errors"]["test"][ALL],
    }
    NeuralTerm(term.architecture, term.weights, metadata).save(path)
    say(f"neural term: written to {path}")
    if studies:
        summary["learning_curve"] = [
            learning_point(fraction, parts, tensors, fit) for fraction in LEARNING_FRACTIONS
        ]
        without = {name: left_out(name, samples, tensors, fit) for name in leave_out if name in used}
        summary["left_out"] = {name: found for name, found in without.items() if found is not None}
    for checkpoint in checkpoints:  # kept so long, so that a killed study repeats no training
        checkpoint.unlink(missing_ok=True)
    return summary


def learning_point(
    fraction: float,
    parts: Mapping[str, Sequence[Sample]],
    tensors: Mapping[str, SpeciesTensors],
    fit: Callable[..., NeuralTerm],
) -> dict[str, Any]:
    """Test errors after training on a share of the sources, with the physics and without."""
    sources = sorted({s.label.source for s in parts["train"]})
    order = np.random.default_rng(0).permutation(len(sources))[: max(FOLDS, round(fraction * len(sources)))]
    kept = {sources[k] for k in order}
    train = [s for s in parts["train"] if s.label.source in kept]
    row: dict[str, Any] = {"labels": len(train)}
    for name, baseline in (("hybrid", True), ("without_physics", False)):
        term = fit(f"{len(train)} labels, {name}", train, baseline)
        errors = errors_by_class(term, parts["test"], tensors, baseline)[ALL]
        if baseline:
            row["physics"] = {key: errors[f"physics_{key}"] for key in ("rms", "weighted_rms")}
        row[name] = {key: errors[f"hybrid_{key}"] for key in ("rms", "weighted_rms")}
    return row


def left_out(
    name: str,
    samples: Sequence[Sample],
    tensors: Mapping[str, SpeciesTensors],
    fit: Callable[..., NeuralTerm],
) -> dict[str, Any] | None:
    """Errors on all labels with a species after training without any of them; None when no others are
    left."""
    train = [s for s in samples if name not in s.label.names and split_of(s.label.source) == "train"]
    if not train:
        return None
    term = fit(f"without {name}", train)
    return errors_by_class(term, [s for s in samples if name in s.label.names], tensors)


def errors_by_class(
    term: NeuralTerm,
    samples: Sequence[Sample],
    tensors: Mapping[str, SpeciesTensors],
    baseline: bool = True,
    by_left_out: bool = False,
    classes: Mapping[str, Sequence[int]] | None = None,
) -> dict[str, dict[str, float]]:
    """Root mean square errors of physics and of the hybrid, by pair of species, number of molecules, and ALL,
    or by `classes`, which say what samples by number belong to each. by_left_out: the samples are those that
    the committee was trained on, and each is judged only by the members that left it out.

    "rms" is over labels with a total below zero, kJ/mol, and "total_rms" that of these totals; "weighted_rms"
    over all, weighted as in the training; "force_rms" of an atom's share of net force and torque, kJ/mol/nm;
    "spread" the committee's mean standard deviation.
    """
    if not samples:
        return {}
    data = Data.of(samples, tensors, term.architecture.variant, baseline)
    energies, forces = data.predict(term)
    judges = torch.ones_like(energies)
    if by_left_out:
        judges = 1.0 - data.training_masks(len(energies)).to(judges)
    judges = judges / judges.sum(0)
    errors = {
        "physics": np.array([s.residual for s in samples]) if baseline else data.targets.numpy(),
        "hybrid": (data.targets - (judges * energies).sum(0)).numpy(),
    }
    totals, weights = np.array([s.label.total for s in samples]), data.weights.numpy()
    attractive = totals < 0.0
    spread = energies.std(0, correction=0).numpy()
    forces = (judges[:, data.owner, None] * forces).sum(0)
    rows = {}
    for name, own in sorted(_classes(samples).items()) if classes is None else classes.items():
        mask = np.zeros(len(samples), dtype=bool)
        mask[list(own)] = True
        row = {"labels": float(len(own)), "attractive": float((mask & attractive).sum())}
        row["total_rms"] = _rms(totals[mask & attractive])
        for kind, error in errors.items():
            row[f"{kind}_rms"] = _rms(error[mask & attractive])
            row[f"{kind}_weighted_rms"] = _rms((error * weights)[mask])
        row["spread"] = float(spread[mask].mean())
        atoms = torch.tensor(mask)[data.owner] & (data.force_weights > 0)
        if baseline and atoms.any():
            row["physics_force_rms"] = _rms(data.forces[atoms].norm(dim=1).numpy())
            row["hybrid_force_rms"] = _rms((data.forces - forces)[atoms].norm(dim=1).numpy())
        rows[name] = {key: round(value, 4) for key, value in row.items() if np.isfinite(value)}
    return rows


@dataclass(frozen=True)
class Judgement:
    """How a committee does on some labelled clusters: means over clusters, kJ/mol and kJ/mol/nm.

    Attributes:
        clusters: how many.
        energy_error: root mean square of the hybrid's; energy_spread: mean of the committee's.
        force_error: root mean square of an atom's share of net force and torque, NaN without labelled forces;
            force_spread: mean of the largest of each cluster, of whole forces.
    """

    clusters: int
    energy_error: float
    energy_spread: float
    force_error: float
    force_spread: float


def judged(term: NeuralTerm, samples: Sequence[Sample], tensors: Mapping[str, SpeciesTensors]) -> Judgement:
    """Errors and spreads of the hybrid on samples, at least one."""
    found = [predict(term, cluster_of(s.label, tensors)) for s in samples]
    forces = [
        np.linalg.norm(rigid_part(s.label.forces - s.physics_forces - p.forces.numpy(), s.label), axis=1)
        for s, p in zip(samples, found, strict=True)
        if s.label.forces is not None and s.physics_forces is not None
    ]
    return Judgement(
        len(samples),
        _rms(np.array([s.residual - p.energy for s, p in zip(samples, found, strict=True)])),
        float(np.mean([p.energy_spread for p in found])),
        _rms(np.concatenate([np.empty(0), *forces])),
        float(np.mean([p.forces_spread.max().item() for p in found])),
    )


def _classes(samples: Sequence[Sample]) -> dict[str, list[int]]:
    """Which samples belong to a pair of species, to a number of molecules above two, and to ALL."""
    found: dict[str, list[int]] = {}
    for k, sample in enumerate(samples):
        names = sample.label.names
        pair = pair_title(sorted(names), IN_LIQUIDS in sample.label.source)
        own = pair if len(names) == 2 else f"{len(names)} molecules"
        for label in (own, ALL):
            found.setdefault(label, []).append(k)
    return found


def _rms(errors: np.ndarray) -> float:
    return float(np.sqrt(np.mean(errors**2))) if errors.size else np.nan
