"""The names of a classifier's classes, however a bundle's metadata holds them."""

from collections.abc import Mapping, Sequence

__all__ = ["names_in_order"]


def names_in_order(class_names: Sequence[str] | Mapping[str, str] | Mapping[int, str]) -> list[str]:
    """Return the names of the classes by index, given as a list or as ``channel_def`` has them.

    Raises:
        ValueError: if the indices are not 0, 1, ...; or a single text is given.

    Example:
        >>> names_in_order({"1": "femur", "0": "brain"})
        ['brain', 'femur']
    """
    if not isinstance(class_names, Mapping):
        if isinstance(class_names, str):
            raise ValueError(f"expected the names of the classes, got the text {class_names!r}")
        return list(class_names)
    by_index = {int(index): name for index, name in class_names.items()}
    if sorted(by_index) != list(range(len(by_index))):
        raise ValueError(f"expected names of the classes 0 to {len(by_index) - 1}, got {sorted(by_index)}")
    return [by_index[index] for index in range(len(by_index))]
