"""Extensions, found by entry point: built-ins come through the same door as an outsider's package."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from lifechart.core.errors import PlugError

GROUPS = {
    "lifechart.sources": "a file format to read records from",
    "lifechart.encoders": "a modality that the model reads",
    "lifechart.capabilities": "something Lifechart may do for someone",
    "lifechart.surfaces": "an outlet: a page, an API, a card",
}
"""Every group of plugs, and what one of it is."""


def load(group: str, contract: type) -> dict[str, object]:
    """Load every plug of `group`, by name.

    `contract` is a runtime-checkable protocol that each plug must satisfy. Raises PlugError for a group that does not
    exist, a name that is taken twice, a plug that cannot be imported, or one that breaks the contract.
    """
    if group not in GROUPS:
        raise PlugError(f"plug group: got {group!r}, expected one of {sorted(GROUPS)}")
    plugs: dict[str, object] = {}
    for point in sorted(_distinct(group), key=lambda point: point.name):
        if point.name in plugs:
            raise PlugError(f"{group}: {point.name!r} is registered twice, expected one; second is {point.value}")
        try:
            plug = point.load()
        except (ImportError, AttributeError) as error:
            raise PlugError(f"{group}: {point.name!r} ({point.value}) cannot be imported: {error}") from error
        if not isinstance(plug, contract):
            raise PlugError(f"{group}: {point.name!r} ({point.value}) does not keep the contract {contract.__name__}")
        plugs[point.name] = plug
    return plugs


def _distinct(group: str) -> set[EntryPoint]:
    # One distribution can be on the path twice (an editable install beside a checkout); the same line counts once.
    return set(entry_points(group=group))
