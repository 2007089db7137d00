"""Array and dictionary transforms that MONAI lacks."""

from ag_networks.transforms.confidence import MeanConfidence, MeanConfidenced
from ag_networks.transforms.ct import CheckCT, CheckCTd, CheckLabel, CheckLabeld
from ag_networks.transforms.frame_check import FRAME_FACTS, CheckFrame, CheckFramed, measure_frame
from ag_networks.transforms.frame_grid import BoxOnFramed, box_on_frame, map_on_frame
from ag_networks.transforms.fundus import (
    FlipRightEye,
    FlipRightEyed,
    FundusCrop,
    FundusCropd,
    OpticDisc,
    find_field,
    find_optic_disc,
)
from ag_networks.transforms.largest_component import LargestComponent, LargestComponentd
from ag_networks.transforms.locate import LocateObject, LocateObjectd, Location, mean_attention, resize_map
from ag_networks.transforms.random_view import RandomView
from ag_networks.transforms.split_attention import SplitAttentiond
from ag_networks.transforms.ultrasound import FindSector, FindSectord

__all__ = [
    "FRAME_FACTS",
    "BoxOnFramed",
    "CheckCT",
    "CheckCTd",
    "CheckFrame",
    "CheckFramed",
    "CheckLabel",
    "CheckLabeld",
    "FindSector",
    "FindSectord",
    "FlipRightEye",
    "FlipRightEyed",
    "FundusCrop",
    "FundusCropd",
    "LargestComponent",
    "LargestComponentd",
    "LocateObject",
    "LocateObjectd",
    "Location",
    "MeanConfidence",
    "MeanConfidenced",
    "OpticDisc",
    "RandomView",
    "SplitAttentiond",
    "box_on_frame",
    "find_field",
    "find_optic_disc",
    "map_on_frame",
    "mean_attention",
    "measure_frame",
    "resize_map",
]
