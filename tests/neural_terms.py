"""Untrained committees with outputs as large as those of trained ones."""

from phyff.model.neural import Architecture, NeuralTerm, initial_weights


def untrained(variant: str = "angular", seed: int = 3, members: int = 3) -> NeuralTerm:
    architecture = Architecture(variant=variant, members=members, channels=4, hidden=12)
    weights = initial_weights(architecture, seed)
    for name in ("pair.in", "network.out"):
        if name in weights:
            weights[name] = 30.0 * weights[name]
    return NeuralTerm(architecture, weights, {"command": "test"})
