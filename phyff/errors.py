"""Errors that a chemist reads: one sentence that names what is wrong and how to mend it."""


class PhyffError(Exception):
    """Base of every error PhyFF raises on purpose; the command line prints it and exits with code 2."""


class InputError(PhyffError):
    """A recipe, SMILES, cluster or option cannot be used as given."""


class StoreError(PhyffError):
    """A quantum record is missing, half-written or does not match its key."""


class FitError(PhyffError):
    """A fit cannot reach parameters that make sense."""


class SimulationError(PhyffError):
    """A simulation went wrong (not-a-number, runaway density, box smaller than the cut-off)."""
