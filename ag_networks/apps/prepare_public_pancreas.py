"""Training set of the pancreas bundle from the public sets: Medical Segmentation Decathlon Task07, NIH Pancreas-CT."""

import argparse
import json
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from monai.data import partition_dataset, select_cross_validation_folds
from tqdm import tqdm

from ag_networks.atomic import atomic_path
from ag_networks.data import CaseError
from ag_networks.data.public_pancreas import DOUBTFUL, PublicCase, list_decathlon, list_tcia, read_public_case

__all__ = ["main", "prepare", "split_patients"]

FOLDS = 5
TESTED = {"decathlon": 56, "tcia": 21}  # a fifth of 281 as the papers' 30 of 150; the papers' 21 of 82

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--set", choices=TESTED, required=True, help="which of the two")
    parser.add_argument("--root", type=Path, required=True, help="folder of the downloaded files")
    parser.add_argument("--output", type=Path, required=True, help="dataset folder to write")
    parser.add_argument("--download", action="store_true", help="fetch into --root what is not there")
    parser.add_argument("--url", help="mirror: of the archive (decathlon) or of the service (tcia)")
    parser.add_argument("--md5", help="decathlon: of the mirror's archive, if it is another one")
    parser.add_argument("--labels_url", help="tcia: of the zip file of labels")
    parser.add_argument("--fold", type=int, choices=range(FOLDS), help=f"test on this fold of {FOLDS}")
    parser.add_argument("--test", type=int, help=f"how many cases test, without --fold (default: {TESTED})")
    parser.add_argument("--validation", type=int, default=6, help="cases of the training part that choose the weights")
    parser.add_argument("--seed", type=int, default=0, help="of the split")
    parser.add_argument("--keep_repeated", action="store_true", help="tcia: keep the repeated scans 25 and 70")
    parser.add_argument("--keep_doubtful", action="store_true", help="keep cases whose image contradicts the header")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    mirror = {"download": options.download, "url": options.url}
    try:
        if options.set == "decathlon":
            cases = list_decathlon(options.root, md5=options.md5, **mirror)
        else:
            cases = list_tcia(options.root, labels_url=options.labels_url, **mirror)
            cases = [case for case in cases if options.keep_repeated or case.name == case.patient]
        kept, left_out = prepare(cases, options.output, keep_doubtful=options.keep_doubtful)
        test = TESTED[options.set] if options.test is None else options.test
        parts = split_patients(kept, test=test, fold=options.fold, validation=options.validation, seed=options.seed)
        _write_datalists(options.output, parts, left_out, options.fold)
    except (ValueError, OSError) as error:
        parser.exit(2, f"error: {' '.join(str(error).split())}\n")
    print(", ".join(f"{len(names)} {part}" for part, names in parts.items()), f"; {len(left_out)} left out")


def prepare(
    cases: Sequence[PublicCase], output: Path, *, keep_doubtful: bool = False
) -> tuple[dict[str, str], dict[str, str]]:
    """Write ``images/`` and ``labels/`` of the cases; finished ones are not done again, bad ones left out.

    Returns:
        patient by name of the cases that were kept, and the reason by name of those that were not.
    """
    kept, left_out = {}, {}
    for case in tqdm(cases, desc="cases"):
        paths = [output / kind / f"{case.name}.nii.gz" for kind in ("images", "labels")]
        if not all(path.is_file() for path in paths):
            try:
                *volumes, faults = read_public_case(case)
            except CaseError as error:
                left_out[case.name] = str(error).removeprefix(f"{case.name}: ")
                logger.warning("%s: left out, %s", case.name, left_out[case.name])
                continue
            for fault in faults:
                logger.warning("%s: %s", case.name, fault)
            doubts = [fault for fault in faults if fault.endswith(DOUBTFUL)]
            if doubts and not keep_doubtful:
                left_out[case.name] = "; ".join(doubts)
                continue
            for path, volume in zip(paths, volumes, strict=True):
                with atomic_path(path) as temporary:
                    nib.save(volume, temporary)
        kept[case.name] = case.patient
    return kept, left_out


def split_patients(
    patient_of: Mapping[str, str], *, test: int, fold: int | None = None, validation: int = 6, seed: int = 0
) -> dict[str, list[str]]:
    """Split cases by patient into ``training``, ``validation`` and ``test``.

    The papers train on 61 and test on 21 scans of NIH Pancreas-CT, or in five folds. They name no validation cases;
    here a few of the training part choose the weights, so that the test part does not.

    Args:
        patient_of: patient by case.
        test: how many cases test, where `fold` is None; patients of several cases train.
        fold: 0 to 4, which fifth of the patients tests.
        validation: how many cases of the training part validate.
        seed: of the order of the patients.

    Raises:
        ValueError: if a part would be empty.

    Example:
        >>> parts = split_patients({f"case_{i:02d}": f"case_{i:02d}" for i in range(82)}, test=21)
        >>> {part: len(names) for part, names in parts.items()}
        {'training': 55, 'validation': 6, 'test': 21}
    """
    cases_of = defaultdict(list)
    for case, patient in sorted(patient_of.items()):
        cases_of[patient].append(case)
    patients = [str(patient) for patient in np.random.default_rng(seed).permutation(sorted(cases_of))]
    single = [patient for patient in patients if len(cases_of[patient]) == 1]
    if fold is None:
        tested = single[:test]
    else:
        folds = partition_dataset(sorted(cases_of), num_partitions=FOLDS, shuffle=True, seed=seed)
        tested = select_cross_validation_folds(folds, fold)
    validated = [patient for patient in single if patient not in tested][:validation]
    trained = [patient for patient in patients if patient not in tested and patient not in validated]
    parts = {"training": trained, "validation": validated, "test": tested}
    sizes = {part: sum(len(cases_of[patient]) for patient in chosen) for part, chosen in parts.items()}
    if not all(sizes.values()) or (fold is None and sizes["test"] < test):
        raise ValueError(f"{len(patient_of)} cases make the parts {sizes}; expected some in each, and {test} that test")
    return {part: sorted(case for patient in chosen for case in cases_of[patient]) for part, chosen in parts.items()}


def _write_datalists(
    output: Path, parts: Mapping[str, Sequence[str]], left_out: Mapping[str, str], fold: int | None
) -> None:
    """Write datalist.json, and datalist_test.json, which evaluate.json scores: there the test cases validate."""
    name = "datalist" if fold is None else f"datalist_fold{fold}"
    lists = {
        part: [{"image": f"images/{case}.nii.gz", "label": f"labels/{case}.nii.gz"} for case in cases]
        for part, cases in parts.items()
    }
    for file, content in (
        (f"{name}.json", {**lists, "left_out": dict(left_out)}),
        (f"{name}_test.json", {"training": lists["training"], "validation": lists["test"]}),
    ):
        with atomic_path(output / file) as path:
            path.write_text(json.dumps(content, indent=4) + "\n")


if __name__ == "__main__":
    main()
