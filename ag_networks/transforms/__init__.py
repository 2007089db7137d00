"""Array and dictionary transforms that MONAI lacks."""

from ag_networks.transforms.confidence import MeanConfidence, MeanConfidenced
from ag_networks.transforms.ct import CheckCT, CheckCTd, CheckLabel, CheckLabeld
from ag_networks.transforms.largest_component import LargestComponent, LargestComponentd
from ag_networks.transforms.locate import LocateObject, LocateObjectd, Location, mean_attention, resize_map
from ag_networks.transforms.split_attention import SplitAttentiond
from ag_networks.transforms.ultrasound import FindSector, FindSectord

__all__ = [
    "CheckCT",
    "CheckCTd",
    "CheckLabel",
    "CheckLabeld",
    "FindSector",
    "FindSectord",
    "LargestComponent",
    "LargestComponentd",
    "LocateObject",
    "LocateObjectd",
    "Location",
    "MeanConfidence",
    "MeanConfidenced",
    "SplitAttentiond",
    "mean_attention",
    "resize_map",
]
