"""Ignite handlers, metrics and engines for the bundles' workflows."""

from ag_networks.handlers.case_evaluator import CaseEvaluator
from ag_networks.handlers.case_scores import CaseScoresMetric
from ag_networks.handlers.case_writer import CaseWriter
from ag_networks.handlers.resume import ResumableTraining
from ag_networks.handlers.user_input import or_exit, switch, writable_folder
from ag_networks.handlers.weights import file_digest, load_weights

__all__ = [
    "CaseEvaluator",
    "CaseScoresMetric",
    "CaseWriter",
    "ResumableTraining",
    "file_digest",
    "load_weights",
    "or_exit",
    "switch",
    "writable_folder",
]
