"""Sets that share their framing, and sets that do not."""

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from ag_networks.data import CaseError, PictureReader, check_framing

SCENE = ndimage.gaussian_filter(np.random.default_rng(7).normal(size=(40, 48)), 5) * 500 + 100


def same_scene(count: int = 12, noise: float = 10.0) -> list[tuple[str, np.ndarray]]:
    """Pictures of one scene in other light, with noise; three channels."""
    random = np.random.default_rng(0)
    return [
        (f"{n:02d}.png", random.uniform(0.5, 1.5) * SCENE + random.normal(0, noise, (3, *SCENE.shape)))
        for n in range(count)
    ]


def other_scene(name: str, seed: int) -> tuple[str, np.ndarray]:
    noise = np.random.default_rng(seed).normal(size=SCENE.shape)
    return name, (ndimage.gaussian_filter(noise, 5) * 500 + 100)[None]


def test_pictures_of_one_scene_are_like_their_mean() -> None:
    framing = check_framing(same_scene(), sizes=[(400, 480)] * 12)
    assert min(framing.likeness) > 0.95
    assert framing.warnings == ()
    assert str(framing).startswith("12 pictures, each like the mean of the others by")
    assert str(framing).endswith("height by width 0.83 to 0.83")


def test_the_likeness_is_the_correlation_with_the_mean_of_the_others() -> None:
    pictures = [(str(n), np.random.default_rng(n).normal(size=(1, 16, 16)) + SCENE[:16, :16] / 20) for n in range(4)]
    framing = check_framing(pictures)
    standardized = np.stack([(a.ravel() - a.mean()) / a.std() for _, a in pictures])
    for index in range(4):
        others = np.delete(standardized, index, axis=0).mean(axis=0)
        expected = np.corrcoef(standardized[index], others)[0, 1]
        assert framing.likeness[index] == pytest.approx(expected, abs=1e-5)


def test_brightness_and_contrast_do_not_matter_but_inversion_does() -> None:
    pictures = [("a", SCENE[None]), ("b", 3 * SCENE[None] + 50), ("c", SCENE[None] / 9), ("d", SCENE[None])]
    assert check_framing(pictures).likeness == pytest.approx((1, 1, 1, 1), abs=1e-4)
    assert check_framing([*pictures, ("inverted", -SCENE[None])]).likeness[-1] == pytest.approx(-1, abs=1e-4)


def test_a_picture_of_something_else_is_named() -> None:
    framing = check_framing([*same_scene(), other_scene("stranger.png", 3), ("empty.png", np.ones((1, 9, 9)))])
    assert len(framing.warnings) == 1
    assert framing.warnings[0].startswith("unlike the other pictures, whose median correlation is 1.00: stranger.png (")
    assert "empty.png (0.00)" in framing.warnings[0]
    assert "00.png" not in framing.warnings[0]


def test_many_strangers_are_counted() -> None:
    strangers = [other_scene(f"other{n}.png", 20 + n) for n in range(8)]
    (warning,) = check_framing([*same_scene(40), *strangers]).warnings
    assert warning.count("other") == 6, "five names, and 'the other pictures'"
    assert warning.endswith(" more")


def test_a_set_without_structure_is_refused() -> None:
    with pytest.raises(CaseError, match=r"the 30 pictures have nothing in common \(median correlation .* at least 0.2"):
        check_framing(other_scene(str(n), n) for n in range(30))


def test_a_weak_structure_is_warned_of() -> None:
    framing = check_framing(same_scene(40, noise=700))
    assert 0.2 < framing.median < 0.5
    assert any(text.startswith("the pictures have little in common") for text in framing.warnings)


def test_a_few_pictures_are_not_refused() -> None:
    assert check_framing(other_scene(str(n), n) for n in range(3)).warnings


def test_another_aspect_is_named() -> None:
    framing = check_framing(same_scene(), sizes=[(100, 120)] * 10 + [(120, 100), (100, 118)])
    assert framing.warnings == ("of another aspect than the others, whose height by width is 0.83: 10.png (1.20)",)


def test_a_mixture_of_framings_is_refused() -> None:
    with pytest.raises(CaseError, match=r"4 of 12 pictures are framed differently \(height by width 0.50 to 1.00\)"):
        check_framing(same_scene(), sizes=[(100, 100)] * 8 + [(100, 200)] * 4)


def test_one_picture_is_no_set() -> None:
    with pytest.raises(CaseError, match="1 pictures; expected a set of at least 2"):
        check_framing(same_scene(1))


def test_sizes_belong_to_pictures() -> None:
    with pytest.raises(ValueError, match="expected a size for each of 12 pictures, got 3"):
        check_framing(same_scene(), sizes=[(10, 10)] * 3)


@pytest.mark.data
def test_fundus_photographs_are_structured_and_fetal_frames_are_not(data_root: Path) -> None:
    read = PictureReader(channels=3)
    with (data_root / "fundus_idrid" / "labels.csv").open(newline="") as file:
        names = [row["image"] for row in csv.DictReader(file)][::20]
    photographs = [(name, read.get_data([str(data_root / "fundus_idrid" / name)])[0]) for name in names]
    assert check_framing(photographs).warnings == ()
    paths = sorted((data_root / "fetal_planes" / "fetal_planes_db").glob("*.png"))[:5]
    frames = [(path.name, read.get_data([str(path)])[0]) for path in paths]
    (warning,) = check_framing([*photographs, *frames]).warnings
    assert all(name in warning for name, _ in frames)
