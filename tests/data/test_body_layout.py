"""The layout of generated abdomens, right, turned, mirrored and upside down."""

import numpy as np
import pytest

from ag_networks.data import BodyLayout, Phantom, judge_layout, make_phantom


@pytest.fixture(scope="module")
def bodies() -> list[Phantom]:
    return [make_phantom(seed, spacing=(4, 4, 5)) for seed in (0, 1, 3, 4, 5)]


def test_a_right_header_is_not_blamed(bodies: list[Phantom]) -> None:
    for body in bodies:
        assert judge_layout(body.image, body.spacing).warnings == []


FORMS = [
    ((-1, -1, 1), "turned about the body's axis"),
    ((1, -1, 1), "mirrored: the spine lies in front"),
    ((-1, 1, 1), "mirrored: the liver lies on the left"),
]


@pytest.mark.parametrize(("steps", "message"), FORMS, ids=[form[1] for form in FORMS])
def test_a_wrong_header_is_found(steps: tuple[int, int, int], message: str, bodies: list[Phantom]) -> None:
    for body in bodies:
        wrong = body.image[:: steps[0], :: steps[1], :: steps[2]]
        layout = judge_layout(wrong, body.spacing)
        assert any(line.startswith(message) for line in layout.warnings), (body.seed, layout)
        assert layout.turned == (message == FORMS[0][1])


def test_flips_change_the_sign_only(bodies: list[Phantom]) -> None:
    one = judge_layout(bodies[0].image, bodies[0].spacing)
    other = judge_layout(bodies[0].image[::-1, ::-1, ::-1], bodies[0].spacing)
    np.testing.assert_allclose(one, -np.array(other), atol=0.03)


def test_lungs_below_are_upside_down() -> None:
    body = np.full((60, 50, 40), -1000, np.int16)
    body[5:55, 5:45] = 50
    body[10:50, 10:40, :10] = -800
    assert judge_layout(body, (5, 5, 5)).warnings == ["upside down: lungs or air below"]
    assert judge_layout(body[:, :, ::-1], (5, 5, 5)).warnings == []


@pytest.mark.parametrize("value", [-1000, 0, 3000])
def test_nothing_is_said_of_an_image_without_marks(value: int) -> None:
    image = np.full((20, 20, 20), value, np.int16)
    assert judge_layout(image, (2, 2, 2)) == BodyLayout(0.0, 0.0, 0.0)


def test_weak_evidence_is_no_reason_to_warn() -> None:
    assert BodyLayout(-0.04, -0.04, -0.1).warnings == []
    assert BodyLayout(-0.09, -0.02, 0.0).turned
