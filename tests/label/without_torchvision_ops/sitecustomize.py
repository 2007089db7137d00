"""For the tests of `make test-label` only: let a CUDA build of torchvision be imported beside a CPU build of torch.

MONAI Label imports torchvision. Package indexes hold builds for CUDA, whose compiled operators do not load beside a
torch without CUDA, and `import torchvision` then ends in "operator torchvision::nms does not exist". This declares two
operators that raise when called; neither MONAI Label nor our bundles call them. Python imports a module of this name
at its start if the folder is on PYTHONPATH. Outside the tests install torch and torchvision of the same build instead.
"""

import contextlib
import sys

with contextlib.suppress(ImportError):
    import torch

    try:
        import torchvision  # noqa: F401
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        operators = torch.library.Library("torchvision", "DEF")
        operators.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        operators.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
