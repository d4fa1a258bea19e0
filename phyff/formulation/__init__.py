"""From a formulation as a chemist writes it (SMILES or names, and amounts) to species and counts in a box."""

from phyff.formulation.box import Box, CompositionRow
from phyff.formulation.components import Component
from phyff.formulation.formulation import Formulation
from phyff.formulation.volumes import estimated_molar_volume

__all__ = ["Box", "Component", "CompositionRow", "Formulation", "estimated_molar_volume"]
