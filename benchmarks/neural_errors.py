"""The neural term against the labels it is tested on, by kind: scans, neighbours in liquids, clusters.

    python benchmarks/neural_errors.py                        of molecules/neural.safetensors
    python benchmarks/neural_errors.py TERM                   of another one for the same library
    python benchmarks/neural_errors.py --pairs                every pair of species too
    python benchmarks/neural_errors.py OUT --without SPECIES  of one that has seen no label of SPECIES, on all
                                                              of these; where there is no OUT, trained first

Without training a minute or two of one core, with it 25 to 50; stopped, the same command goes on. Energies of
labels with a total below zero, in kJ/mol and, of ions, as a share of their totals' own root mean square;
forces are an atom's share of a molecule's net force and torque, kJ/mol/nm.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from phyff.fit.labels import Label, Sample, load_labels, load_library, split_of, with_physics
from phyff.fit.neural import ALL, errors_by_class
from phyff.fit.neural_training import Data, Schedule, train_with_bar
from phyff.fit.short_range import IN_LIQUIDS, pair_title
from phyff.model.neural import NeuralTerm
from phyff.model.parameters import SpeciesTensors, species_tensors
from phyff.species.library import NEURAL_FILE
from phyff.species.parameters import SpeciesParameters

LIBRARY = Path(__file__).parents[1] / "molecules"
HEADER = ("test labels", "number", "physics", "with the term", "weighted", "with", "spread", "force", "with")


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("term", nargs="?", type=Path, default=LIBRARY / NEURAL_FILE)
    asked.add_argument("--pairs", action="store_true", help="every pair of species too")
    asked.add_argument(
        "--without", metavar="SPECIES", help="judge on the labels of it, which TERM has not seen"
    )
    options = asked.parse_args()
    model, species = load_library(LIBRARY)
    if options.without and options.without not in species:
        raise SystemExit(f"{options.without} is not in the library.")
    shipped = NeuralTerm.load(LIBRARY / NEURAL_FILE)
    labels = load_labels(LIBRARY / "records", species)
    used = sorted({name for label in labels for name in label.names})
    tensors = {name: species_tensors(species[name], model) for name in used}
    if options.without:
        unseen = [label for label in labels if options.without in label.names]
        others = [label for label in labels if options.without not in label.names]
        seen = [label for label in others if split_of(label.source) == "train"]
        term = trained(seen, tensors, shipped, model.fingerprint, options.without, options.term)
    else:
        unseen = [label for label in labels if split_of(label.source) == "test"]
        term = NeuralTerm.load(options.term)
    if term.metadata["short_range"] != model.fingerprint:
        raise SystemExit(f"{options.term} belongs to another short range; run 'phyff train-neural'.")
    samples = with_physics(unseen, tensors)
    groups: dict[str, list[int]] = {}
    for k, sample in enumerate(samples):
        for name in groups_of(sample, species, options.pairs):
            groups.setdefault(name, []).append(k)
    errors = errors_by_class(term, samples, tensors, classes={name: groups[name] for name in sorted(groups)})
    print("| " + " | ".join(HEADER) + " |\n" + "|---" * len(HEADER) + "|")
    for name, row in errors.items():
        print("| " + " | ".join([name, *cells(row, relative="ion" in name)]) + " |")


def trained(
    labels: Sequence[Label],
    tensors: Mapping[str, SpeciesTensors],
    shipped: NeuralTerm,
    short_range: str,
    without: str,
    path: Path,
) -> NeuralTerm:
    """The term at `path`, or one of the shipped architecture that has learnt these labels."""
    if path.is_file():
        term = NeuralTerm.load(path)
        if term.metadata.get("without") != without:
            raise SystemExit(f"{path} was not trained without {without}; give another file.")
        return term
    data = Data.of(with_physics(labels, tensors), tensors, shipped.architecture.variant)
    title, part = f"{len(labels)} labels without {without}", path.with_suffix(".part")
    term = train_with_bar(title, data, shipped.architecture, Schedule(), part)
    term = NeuralTerm(
        term.architecture, term.weights, {**term.metadata, "short_range": short_range, "without": without}
    )
    term.save(path)
    part.unlink(missing_ok=True)
    return term


def groups_of(sample: Sample, species: Mapping[str, SpeciesParameters], pairs: bool) -> Sequence[str]:
    """Under which rows a sample counts."""
    names = sorted(sample.label.names)
    if len(names) > 2:
        clusters = f"{len(names)} molecules"
        return [ALL, clusters, *(f"{clusters}, with {name}" for name in set(names) if name != "Li+")]
    in_liquids = IN_LIQUIDS in sample.label.source
    charges = sorted(species[name].charge for name in names)
    found = [ALL, _kind(charges, any(species[name].is_bare_cation for name in names), in_liquids)]
    return [*found, f"pair {pair_title(names, in_liquids)}"] if pairs else found


def _kind(charges: Sequence[int], bare_cation: bool, in_liquids: bool) -> str:
    where = "in liquids" if in_liquids else "scans and pairs of clusters"
    if not any(charges):
        return f"solvents, {where}"
    if charges[0] * charges[1] > 0:
        return "ions of like charge"
    if 0 not in charges:
        return f"cations + anions, {where}"
    return f"{'cations + solvents' if bare_cation else 'anions + solvents'}, {where}"


def cells(row: Mapping[str, float], relative: bool) -> list[str]:
    """Of one row of the table."""

    def energy(kind: str) -> str:
        if f"{kind}_rms" not in row:
            return "-"
        share = f" ({row[f'{kind}_rms'] / row['total_rms']:.1%})".replace("%", " %") if relative else ""
        return f"{row[f'{kind}_rms']:.2f}{share}"

    def force(kind: str) -> str:
        return f"{row[f'{kind}_force_rms']:.0f}" if f"{kind}_force_rms" in row else "-"

    return [
        f"{row['labels']:.0f}",
        energy("physics"),
        energy("hybrid"),
        f"{row['physics_weighted_rms']:.2f}",
        f"{row['hybrid_weighted_rms']:.2f}",
        f"{row['spread']:.1f}",
        force("physics"),
        force("hybrid"),
    ]


if __name__ == "__main__":
    main()
