"""What if oscillators carried the charge that flows, and all molecules felt it? A study.

    python benchmarks/flow_by_oscillators.py [EVERY]     every EVERYth label (default 1, five minutes)

Today bare cations alone feel the charge that has flowed along bonds (phyff/model/charge_flow.py). Here each
bond's dipole, charge times length, is shared by the oscillators of its ends: the rests of their springs move
so that in the molecule alone, where oscillators feel one another, they have these dipoles. The energy between
molecules is that of the cluster less that of each molecule alone. Either all of today's flow goes there, or
what a flow of lengths and angles fitted to free molecules has, which is nothing at the minima, and bare
cations go on to feel the rest on the atoms. Charges, short range and today's flow are the library's. Labelled
clusters, pairs around Li+ and neighbours in liquids; quantum chemistry less model, kJ/mol.
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from phyff.fit.charge_flow import fit_charge_flow
from phyff.fit.labels import Label, cluster_of, load_clusters, load_library, split_of
from phyff.fit.species import CHARGE_TEMPERATURE, boltzmann_weights
from phyff.fit.training import load_dimers
from phyff.model.charge_flow import flow_energy
from phyff.model.cluster import (
    MAX_ITERATIONS,
    Cluster,
    interaction_energy,
    oscillator_energy,
    relaxed_displacements,
)
from phyff.model.parameters import DRUDE_FORCE_CONSTANT, SpeciesTensors, species_tensors
from phyff.qm import clusters
from phyff.qm.level import PHYFF_2026A
from phyff.qm.monomer import monomer_records
from phyff.qm.store import RecordStore
from phyff.species.parameters import ChargeFlow, SpeciesParameters

LIBRARY = Path(__file__).parents[1] / "molecules"
TOLERANCE = 1e-8
"""nm."""


def main() -> None:
    every = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    model, species = load_library(LIBRARY)
    tensors = {name: species_tensors(s, model) for name, s in species.items()}
    records = LIBRARY / "records"
    labels = load_clusters(records / clusters.KIND, species)
    labels += [
        Label(p.names, p.xyz, p.components["total"], p.scan)
        for p in load_dimers(records, species)
        if p.in_liquids
    ]
    store = RecordStore(records)
    near = {
        name: species_tensors(s.model_copy(update={"charge_flow": near_flows(s, store)}), model)
        for name, s in track(species.items(), "flows of free molecules")
    }
    errors = [errors_of(label, tensors, near) for label in track(labels[::every], "labels")]
    kinds = kinds_of(set(species))
    print("| labels | number | no flow | today | all carried by oscillators | near flow carried | its mean |")
    print("|---|---|---|---|---|---|---|")
    for title, belongs in kinds.items():
        own = np.array([e for label, e in zip(labels[::every], errors, strict=True) if belongs(label)])
        if len(own):
            rms = " | ".join(f"{value:.2f}" for value in np.sqrt((own**2).mean(0)))
            print(f"| {title} | {len(own)} | {rms} | {own[:, 3].mean():+.2f} |")


def kinds_of(names: set[str]) -> dict[str, Callable[[Label], bool]]:
    """Which labels count in a row of the table."""

    def trimer(label: Label) -> bool:
        return len(label.names) > 2 and label.total < 0.0

    def pair(label: Label) -> bool:
        return len(label.names) == 2 and label.total < 0.0

    def ionic(label: Label) -> bool:
        return any(name[-1] in "+-" for name in label.names)

    anions = {name for name in names if name.endswith("-")}
    found: dict[str, Callable[[Label], bool]] = {
        "clusters of three or more": trimer,
        "those kept for tests": lambda one: trimer(one) and split_of(one.source) == "test",
        "without anions": lambda one: trimer(one) and not anions & set(one.names),
    }
    for name in ("PF6-", "FSI-", "EC", "DMC", "DME"):
        found[f"with {name}"] = lambda one, name=name: trimer(one) and name in one.names  # type: ignore[misc]
    found |= {
        "pairs of Li+ and a solvent": lambda one: (
            pair(one) and "Li+" in one.names and not anions & set(one.names)
        ),
        "of Li+ and DME": lambda one: pair(one) and {"Li+", "DME"} == set(one.names),
        "of Li+ and an anion": lambda one: pair(one) and "Li+" in one.names and bool(anions & set(one.names)),
        "solvents in liquids": lambda one: pair(one) and not ionic(one),
    }
    for name in ("EC", "DMC", "FEC", "VC", "GBL", "EA", "MA", "DME", "DOL", "PC"):
        found[f"{name} in liquids"] = lambda one, name=name: pair(one) and set(one.names) == {name}  # type: ignore[misc]
    return found


def near_flows(species: SpeciesParameters, store: RecordStore) -> tuple[ChargeFlow, ...]:
    """Fitted to potentials of shapes of the molecule alone: of its lengths and angles, zero at the minima."""
    if species.n_atoms == 1:
        return ()
    data = monomer_records(species.molecule, PHYFF_2026A, store, workers=1)
    weights = boltzmann_weights(data.energies, CHARGE_TEMPERATURE)
    fit = fit_charge_flow(species.molecule, data.densities, weights, data.shapes, species.drude_charges)
    return fit.flows


def errors_of(
    label: Label, tensors: Mapping[str, SpeciesTensors], near: Mapping[str, SpeciesTensors]
) -> tuple[float, float, float, float]:
    """Of the model without flow, of today's, with all flow that oscillators carry, and with the near one."""
    cluster = cluster_of(label, tensors)
    today = interaction_energy(cluster)["total"].item()
    on_atoms, near_on_atoms = (
        float(flow_energy(one.atoms, one.species, one.offsets)) for one in (cluster, cluster_of(label, near))
    )
    induction = oscillator_energy(cluster, relaxed_displacements(cluster)).item()
    carried = today - on_atoms - induction + _carried_energy(label, tensors)
    near_carried = today - near_on_atoms - induction + _carried_energy(label, near)
    models = (today - on_atoms, today, carried, near_carried)
    return tuple(label.total - energy for energy in models)  # type: ignore[return-value]


def _carried_energy(label: Label, tensors: Mapping[str, SpeciesTensors]) -> float:
    """Energy of the oscillators of a cluster whose rests have moved, less that of each molecule alone."""
    at_rest, alone, moved = 0.0, [], []
    for name, xyz in zip(label.names, label.xyz, strict=True):
        if not len(tensors[name].oscillators):
            continue
        one = Cluster.of([tensors[name]], [torch.tensor(xyz)])
        dipoles = flow_dipoles(tensors[name], one.atoms)
        wanted = dipoles[tensors[name].oscillators] / tensors[name].oscillator_charges[:, None]
        pull = _gradient(one, wanted, torch.zeros_like(wanted)) - DRUDE_FORCE_CONSTANT * wanted
        rest = wanted + pull / DRUDE_FORCE_CONSTANT
        at_rest += _energy(one, wanted, rest).item()
        alone.append(wanted)
        moved.append(rest)
    cluster = cluster_of(label, tensors)
    rest, displaced = torch.cat(moved), torch.cat(alone)
    for _ in range(MAX_ITERATIONS):
        step = -_gradient(cluster, displaced, rest) / DRUDE_FORCE_CONSTANT
        if not len(step) or float(step.abs().max()) < TOLERANCE:
            return _energy(cluster, displaced, rest).item() - at_rest
        displaced = displaced + 0.8 * step
    raise SystemExit(f"The induced dipoles of {label.source} do not converge.")


def flow_dipoles(species: SpeciesTensors, xyz: Tensor) -> Tensor:
    """(n, 3) e nm, of the atoms of a molecule at xyz (n, 3): half of each bond's at either end, all of it
    where the other end has no oscillator."""
    i, j, _ = species.flows.atoms.T
    bonds = species.flows.charges(xyz)[:, None] * (xyz[i] - xyz[j])
    carries = torch.zeros(len(xyz), dtype=xyz.dtype)
    carries[species.oscillators] = 1.0
    shares = (carries[i] + carries[j]).clamp(min=1.0)
    total = torch.zeros_like(xyz).index_add(0, i, (carries[i] / shares)[:, None] * bonds)
    return total.index_add(0, j, (carries[j] / shares)[:, None] * bonds)


def _energy(cluster: Cluster, displaced: Tensor, rest: Tensor) -> Tensor:
    """Of oscillators displaced (K, 3) whose springs are at rest elsewhere."""
    springs = 0.5 * DRUDE_FORCE_CONSTANT * ((displaced - rest) ** 2 - displaced**2).sum()
    return oscillator_energy(cluster, displaced) + springs


def _gradient(cluster: Cluster, displaced: Tensor, rest: Tensor) -> Tensor:
    trial = displaced.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(_energy(cluster, trial, rest), trial)
    return gradient


if __name__ == "__main__":
    main()
