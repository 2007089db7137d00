"""The implicit shapes behind the phantom against closed forms."""

import numpy as np
import pytest

from ag_networks.data.anatomy.shapes import (
    Both,
    Ellipsoid,
    Field,
    Grown,
    Joined,
    Oval,
    Points,
    Pose,
    Shape,
    Tube,
    Without,
    curve,
    volume_ml,
)

AXIS = np.arange(-30.4, 31.0, 1.5)
BALL = Ellipsoid(np.zeros(3), np.full(3, 20.0))
ROD = Tube(np.array([[-10.0, 0, 0], [0.0, 0, 0], [10.0, 0, 0]]), np.full(3, 9.0))


def still() -> Pose:
    """Return a pose that moves nothing."""
    nothing = Field(np.zeros((4, 4, 4), np.float32), 50.0)
    return Pose(np.eye(3), np.zeros(3), (nothing, nothing, nothing), 0.0)


@pytest.fixture
def points() -> Points:
    """Return a cube of points whose body coordinates are the scanner's."""
    return Points.on_grid((AXIS, AXIS, AXIS), still())


def inside_ml(shape: Shape, points: Points) -> float:
    """Return the volume inside by counting."""
    return float((shape.distance(points) < 0).sum() * 1.5**3 / 1000)


BALL_ML = 4 / 3 * np.pi * 20**3 / 1000
ROD_ML = (np.pi * 81 * 20 + 4 / 3 * np.pi * 729) / 1000


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (BALL, BALL_ML),
        (Ellipsoid(np.zeros(3), np.array([24.0, 12, 18])), 4 / 3 * np.pi * 24 * 12 * 18 / 1000),
        (ROD, ROD_ML),
        (Tube(ROD.vertices, ROD.radii, (1.0, 1.0, 1.5)), 1.5 * ROD_ML),
        (Grown(BALL, 4.0), BALL_ML * 1.2**3),
        (Both(BALL, Grown(BALL, -5.0)), BALL_ML * 0.75**3),
        (Without(BALL, Grown(BALL, -5.0)), BALL_ML * (1 - 0.75**3)),
        (Joined(BALL, Ellipsoid(np.zeros(3), np.full(3, 5.0)), 4.0), BALL_ML),
        (Oval(np.zeros(2), np.array([20.0, 14]), corner=0.0), np.pi * 20 * 14 * len(AXIS) * 1.5 / 1000),
    ],
    ids=["ball", "ellipsoid", "rod", "tall rod", "grown", "both", "without", "joined", "oval"],
)
def test_volumes_match_closed_forms(shape: Shape, expected: float, points: Points) -> None:
    assert inside_ml(shape, points) == pytest.approx(expected, rel=0.03)


def test_distances_near_the_surface_are_millimeters(points: Points) -> None:
    radius = np.sqrt(sum(p**2 for p in points.coordinates))
    near = np.abs(radius - 20) < 4
    np.testing.assert_allclose(BALL.distance(points)[near], (radius - 20)[near], atol=1e-3)


def test_the_shape_lies_within_its_bounds(points: Points) -> None:
    turned = Ellipsoid(
        np.array([3.0, -2, 1]), np.array([22.0, 8, 14]), np.linalg.qr(np.arange(9).reshape(3, 3) ** 2)[0]
    )
    for shape in (BALL, ROD, turned, Joined(ROD, turned, 9.0)):
        lo, hi = shape.bounds()
        inside = np.stack([p[shape.distance(points) < 0] for p in points.coordinates], axis=1)
        assert (inside >= lo - 1e-3).all()
        assert (inside <= hi + 1e-3).all()


def test_the_box_of_a_warped_pose_holds_the_shape() -> None:
    rng = np.random.default_rng(0)
    warp = tuple(Field(rng.uniform(-6, 6, (6, 6, 6)).astype(np.float32), 20.0) for _ in range(3))
    turn = np.linalg.qr(np.eye(3) + 0.2 * rng.normal(size=(3, 3)))[0]
    points = Points.on_grid((AXIS, AXIS, AXIS), Pose(turn, np.array([2.0, -3, 4]), warp, 6.0))
    small = Ellipsoid(np.array([4.0, 2, -5]), np.array([9.0, 6, 7]))
    inside = small.distance(points) < 0
    box = points.box(small.bounds())
    assert inside.sum() > 0
    assert inside[box].sum() == inside.sum()
    assert inside[box].size < inside.size / 3


def test_a_field_is_smooth_periodic_and_reproduces_a_constant() -> None:
    constant = Field(np.full((4, 4, 4), 2.5, np.float32), 7.0)
    np.testing.assert_allclose(constant((AXIS, AXIS, AXIS[:3])), 2.5, rtol=1e-6)
    wild = Field(np.random.default_rng(0).normal(size=(8, 8, 8)).astype(np.float32), 10.0)
    fine = np.arange(0.0, 80.0, 0.1)
    line = wild((fine, np.zeros(1), np.zeros(1))).ravel()
    np.testing.assert_allclose(wild((fine + 80, np.zeros(1), np.zeros(1))).ravel(), line, atol=1e-5)
    assert np.abs(np.diff(line)).max() < 0.05


def test_a_field_does_not_depend_on_the_block_it_is_asked_for() -> None:
    wild = Field(np.random.default_rng(0).normal(size=(8, 8, 8)).astype(np.float32), 10.0)
    whole = wild((AXIS, AXIS, AXIS))
    np.testing.assert_array_equal(wild((AXIS, AXIS, AXIS[10:14])), whole[:, :, 10:14])


def test_a_curve_passes_its_ends_in_even_steps() -> None:
    path = curve(np.array([[0.0, 0, 0, 5], [30, 0, 0, 8], [30, 40, 0, 3]]), step=7.0)
    np.testing.assert_allclose(path[[0, -1]], [[0, 0, 0, 5], [30, 40, 0, 3]], atol=1e-9)
    assert len(path) == 11


def test_the_volume_of_a_tube_is_that_of_its_closed_form() -> None:
    assert volume_ml(ROD) == pytest.approx(ROD_ML)
