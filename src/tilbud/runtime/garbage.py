"""Python's collections of garbage, kept short in a process that serves.

What holds: what was loaded before the first call is not gone through again. It does not give memory back to
the machine: memory.py does.
"""

from __future__ import annotations

import gc

from tilbud.domain.limits import Limits


def freeze_objects(limits: Limits) -> None:
    """Leave what was loaded by now, which stays, out of the collections of garbage.

    A full collection walks every object there is: without those it is short, where it would stall every
    call.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(limits.young_objects_max)
