"""What gateways that ended have left in their spools, in words."""

from __future__ import annotations

from collections.abc import Mapping

from deploy.gateway.orphans import LOOK_S
from deploy.state import GATEWAY, State


def abandoned_sentence(spools: Mapping[str, int], state: State) -> str:
    """How many records wait in which spool (-1: it can't be read), and what sends them."""
    broken = [name for name, records in spools.items() if records < 0]
    said = [f"{records:,} records in {name}" for name, records in spools.items() if records >= 0]
    wrong = [f"{name} can't be read: is it a spool of this version?" for name in broken]
    if not said:
        return "; ".join(wrong)
    if state.played(GATEWAY):
        then = f"a gateway that runs sends them within {LOOK_S:g} s, or its log says why not (spool_not_taken_over)"
    else:
        then = "no gateway runs that sends them: start one (`trimtab up` or `trimtab gateway`), and stop it when they are gone"
    return "; ".join([f"{', '.join(said)} that gateways left which have ended; {then}", *wrong])
