"""Ignite handlers, metrics and engines for the bundles' workflows."""

from ag_networks.handlers.case_evaluator import CaseEvaluator
from ag_networks.handlers.case_scores import CaseScoresMetric
from ag_networks.handlers.case_writer import CaseWriter
from ag_networks.handlers.classification_scores import ClassificationScores
from ag_networks.handlers.clip_writer import ClipWriter
from ag_networks.handlers.distillation import TeacherTargets
from ag_networks.handlers.epoch_table import EpochTable, read_epochs
from ag_networks.handlers.freeze import freeze
from ag_networks.handlers.global_map import MAP_SOURCES, GlobalMapSchedule, map_source
from ag_networks.handlers.picture_check import check_pictures
from ag_networks.handlers.picture_evaluator import PictureEvaluator, RunEvents
from ag_networks.handlers.prediction_writer import PredictionWriter
from ag_networks.handlers.resume import ResumableTraining
from ag_networks.handlers.user_input import or_exit, switch, writable_folder
from ag_networks.handlers.warm_start import warm_start
from ag_networks.handlers.weights import file_digest, load_imagenet, load_weights

__all__ = [
    "MAP_SOURCES",
    "CaseEvaluator",
    "CaseScoresMetric",
    "CaseWriter",
    "ClassificationScores",
    "ClipWriter",
    "EpochTable",
    "GlobalMapSchedule",
    "PictureEvaluator",
    "PredictionWriter",
    "ResumableTraining",
    "RunEvents",
    "TeacherTargets",
    "check_pictures",
    "file_digest",
    "freeze",
    "load_imagenet",
    "load_weights",
    "map_source",
    "or_exit",
    "read_epochs",
    "switch",
    "warm_start",
    "writable_folder",
]
