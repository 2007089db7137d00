"""Ignite handlers, metrics and engines for the bundles' workflows."""

from ag_networks.handlers.case_evaluator import CaseEvaluator
from ag_networks.handlers.case_scores import CaseScoresMetric
from ag_networks.handlers.case_writer import CaseWriter
from ag_networks.handlers.classification_scores import ClassificationScores
from ag_networks.handlers.clip_writer import ClipWriter
from ag_networks.handlers.distillation import TeacherTargets
from ag_networks.handlers.freeze import freeze
from ag_networks.handlers.picture_evaluator import PictureEvaluator, RunEvents
from ag_networks.handlers.prediction_writer import PredictionWriter
from ag_networks.handlers.resume import ResumableTraining
from ag_networks.handlers.user_input import or_exit, switch, writable_folder
from ag_networks.handlers.warm_start import warm_start
from ag_networks.handlers.weights import file_digest, load_weights

__all__ = [
    "CaseEvaluator",
    "CaseScoresMetric",
    "CaseWriter",
    "ClassificationScores",
    "ClipWriter",
    "PictureEvaluator",
    "PredictionWriter",
    "ResumableTraining",
    "RunEvents",
    "TeacherTargets",
    "file_digest",
    "freeze",
    "load_weights",
    "or_exit",
    "switch",
    "warm_start",
    "writable_folder",
]
