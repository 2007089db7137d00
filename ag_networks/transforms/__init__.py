"""Array and dictionary transforms that MONAI lacks."""

from ag_networks.transforms.ct import CheckCT, CheckCTd, CheckLabel, CheckLabeld
from ag_networks.transforms.largest_component import LargestComponent, LargestComponentd
from ag_networks.transforms.split_attention import SplitAttentiond

__all__ = [
    "CheckCT",
    "CheckCTd",
    "CheckLabel",
    "CheckLabeld",
    "LargestComponent",
    "LargestComponentd",
    "SplitAttentiond",
]
