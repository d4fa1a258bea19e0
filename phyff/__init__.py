"""PhyFF: polarizable force fields for electrolytes, derived from quantum chemistry, run in stock OpenMM.

>>> import phyff
>>> force_field = phyff.build("O=C1OCCO1")
>>> system = force_field.create_system(force_field.topology([("EC", 120)], box_nm=2.4))
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from phyff.builder import build as build
    from phyff.formulation import Formulation as Formulation
    from phyff.openmm.forcefield import ForceField as ForceField

__version__ = "0.1.0"
__all__ = ["ForceField", "Formulation", "__version__", "build"]

_HOME = {
    "ForceField": "phyff.openmm.forcefield",
    "Formulation": "phyff.formulation",
    "build": "phyff.builder",
}
"""Public name -> module it is imported from on first use, so that `import phyff` stays instant."""


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'phyff' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
