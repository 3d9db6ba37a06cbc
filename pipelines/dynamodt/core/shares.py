"""One budget over many workers: who may use how much of it, so that together they never hold more than there is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from typing import NamedTuple

_WORTH_TELLING = 0.02  # a share that would grow by less is left as it is: each change is a row written


class Holding(NamedTuple):
    """What a worker was granted last, and what it may still be using: more, until it has heard of a lower grant."""

    granted: float = 0.0
    using: float = 0.0


def shares(allowed: float, holdings: Mapping[str, Holding]) -> dict[str, float]:
    """The grants to change. Everybody is to have an equal part; who has more is lowered first, and what is not known
    to be free yet is given to nobody: the sum of what is used and granted stays within `allowed` all the time."""
    if not holdings:
        return {}
    fair = inf if allowed == inf else allowed / len(holdings)
    lowered = {name: min(fair, holding.granted) for name, holding in holdings.items()}
    if fair == inf:
        return _told(dict.fromkeys(holdings, inf), holdings)
    free = allowed - sum(max(lowered[name], holding.using) for name, holding in holdings.items())
    raised = dict(lowered)
    for name in _neediest(lowered):
        more = max(0.0, min(fair - lowered[name], free))
        raised[name] += more
        free -= more
    return _told(raised, holdings)


def _neediest(grants: Mapping[str, float]) -> Sequence[str]:
    return sorted(grants, key=lambda name: (grants[name], name))


def _told(wanted: Mapping[str, float], holdings: Mapping[str, Holding]) -> dict[str, float]:
    return {name: grant for name, grant in wanted.items() if _is_news(grant, holdings[name].granted)}


def _is_news(grant: float, before: float) -> bool:
    return grant < before or grant > before * (1.0 + _WORTH_TELLING)
