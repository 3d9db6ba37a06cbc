"""One budget over many workers: who may use how much of it, so that together they never hold more than there is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from typing import NamedTuple

_RESERVE = 50  # workers, to one part that is kept for those who join
_WORTH_TELLING = 0.02  # a share that would grow by less is left as it is: each change is a row written


class Holding(NamedTuple):
    """What a worker was granted last, and what it may still be using: more, until it has heard of a lower grant."""

    granted: float = 0.0
    using: float = 0.0


def shares(allowed: float, holdings: Mapping[str, Holding]) -> dict[str, float]:
    """The grants to change. Everybody is to have an equal part; who has more is lowered first, and what is not known
    to be free yet is given to nobody: the sum of what is used and granted stays within `allowed` all the time.

    Among many one part in fifty is nobody's, and nobody is lowered while what is free will do: a worker that joins a
    thousand others has its part at once, and they need not be told of it.
    """
    if not holdings:
        return {}
    if allowed == inf:
        return _told(dict.fromkeys(holdings, inf), holdings)
    fair = allowed / (len(holdings) + len(holdings) // _RESERVE)
    grants = {name: holding.granted for name, holding in holdings.items()}
    wanted = sum(max(0.0, fair - grant) for grant in grants.values())
    if wanted > _free(allowed, grants, holdings):
        grants = {name: min(fair, grant) for name, grant in grants.items()}
    return _told(_raised(fair, _free(allowed, grants, holdings), grants), holdings)


def _free(allowed: float, grants: Mapping[str, float], holdings: Mapping[str, Holding]) -> float:
    return allowed - sum(max(grants[name], holding.using) for name, holding in holdings.items())


def _raised(fair: float, free: float, grants: Mapping[str, float]) -> dict[str, float]:
    raised = dict(grants)
    for name in _neediest(grants):
        more = max(0.0, min(fair - grants[name], free))
        raised[name] += more
        free -= more
    return raised


def _neediest(grants: Mapping[str, float]) -> Sequence[str]:
    return sorted(grants, key=lambda name: (grants[name], name))


def _told(wanted: Mapping[str, float], holdings: Mapping[str, Holding]) -> dict[str, float]:
    return {name: grant for name, grant in wanted.items() if _is_news(grant, holdings[name].granted)}


def _is_news(grant: float, before: float) -> bool:
    return grant < before or grant > before * (1.0 + _WORTH_TELLING)
