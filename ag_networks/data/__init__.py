"""Cases, volumes and pictures in: discovery, reading, datalists by subject, a dataset that survives bad cases."""

from ag_networks.data.body_layout import BodyLayout, judge_layout
from ag_networks.data.case_dataset import CaseDataset
from ag_networks.data.cases import CaseError, list_cases
from ag_networks.data.class_balance import class_balanced_weights
from ag_networks.data.ct_reader import CTReader
from ag_networks.data.datalist_part import check_classes, read_class_names, read_datalist_part
from ag_networks.data.duplicates import Copies, find_duplicates, leave_out_duplicates
from ag_networks.data.fetal_planes_db import BRAIN_PLANES, PLANES, find_fetal_planes_db, read_fetal_planes_db
from ag_networks.data.framing import Framing, check_framing
from ag_networks.data.idrid import EDEMA_RISKS, RETINOPATHY_GRADES, read_idrid
from ag_networks.data.label_map_ct import LabelledCT, make_ct_from_label_map
from ag_networks.data.phantom import Phantom, make_phantom
from ag_networks.data.phantom_files import write_dicom_series, write_nifti
from ag_networks.data.picture_datalist import read_picture_datalist
from ag_networks.data.picture_reader import PictureReader
from ag_networks.data.pictures import list_pictures, split_frame
from ag_networks.data.pixel_projection import PROJECTIONS, project_pixels, projection_pace
from ag_networks.data.pixel_stack import PixelStack
from ag_networks.data.sparse_volume import UNLABELLED, SparseVolume, make_sparse_volume
from ag_networks.data.subject_split import check_split, divide, split_by_subject

__all__ = [
    "BRAIN_PLANES",
    "EDEMA_RISKS",
    "PLANES",
    "PROJECTIONS",
    "RETINOPATHY_GRADES",
    "UNLABELLED",
    "BodyLayout",
    "CTReader",
    "CaseDataset",
    "CaseError",
    "Copies",
    "Framing",
    "LabelledCT",
    "Phantom",
    "PictureReader",
    "PixelStack",
    "SparseVolume",
    "check_classes",
    "check_framing",
    "check_split",
    "class_balanced_weights",
    "divide",
    "find_duplicates",
    "find_fetal_planes_db",
    "judge_layout",
    "leave_out_duplicates",
    "list_cases",
    "list_pictures",
    "make_ct_from_label_map",
    "make_phantom",
    "make_sparse_volume",
    "project_pixels",
    "projection_pace",
    "read_class_names",
    "read_datalist_part",
    "read_fetal_planes_db",
    "read_idrid",
    "read_picture_datalist",
    "split_by_subject",
    "split_frame",
    "write_dicom_series",
    "write_nifti",
]
