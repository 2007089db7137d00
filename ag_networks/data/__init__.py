"""Cases and volumes in: discovery, CT reading, a dataset that survives bad cases."""

from ag_networks.data.case_dataset import CaseDataset
from ag_networks.data.cases import CaseError, list_cases
from ag_networks.data.ct_reader import CTReader
from ag_networks.data.label_map_ct import LabelledCT, make_ct_from_label_map
from ag_networks.data.phantom import Phantom, make_phantom
from ag_networks.data.phantom_files import write_dicom_series, write_nifti
from ag_networks.data.sparse_volume import UNLABELLED, SparseVolume, make_sparse_volume

__all__ = [
    "UNLABELLED",
    "CTReader",
    "CaseDataset",
    "CaseError",
    "LabelledCT",
    "Phantom",
    "SparseVolume",
    "list_cases",
    "make_ct_from_label_map",
    "make_phantom",
    "make_sparse_volume",
    "write_dicom_series",
    "write_nifti",
]
