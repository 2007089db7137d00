"""The scripts' own modules, and the tiny bundle that the bundle's tests are made with, can be imported here."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

for folder in (ROOT / "benchmarks", ROOT / "tests" / "bundles"):
    sys.path.append(str(folder))
