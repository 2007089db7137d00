"""Losses that MONAI lacks."""

from ag_networks.losses.map_penalty import MapPenaltyLoss
from ag_networks.losses.sparse_label import SparseLabelLoss

__all__ = ["MapPenaltyLoss", "SparseLabelLoss"]
