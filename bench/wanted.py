"""What is wanted of a figure, and whether it is reached: shown beside it and listed at the end, never asserted. How fast a
machine is that others use says nothing of the program.

A wish is a line such as "≥ 6 ×", of the ratio to the other side, or "≤ 200", of our own figure in its unit.
"""

import re

# What was not reached, in the order of measuring.
missed: list[str] = []


def reached(what: str, wanted: str, ours: float | None, ratio: float | None = None) -> str:
    """"yes", "no", or "–" where nothing is wanted or nothing was measured. `what` is remembered if it is not reached."""
    if not wanted:
        return "–"
    sign, bound, times = re.fullmatch(r"([≥≤]) ([\d,.]+)( ×)?", wanted).groups()
    value, bound = (ratio if times else ours), float(bound.replace(",", ""))
    if value is None:
        return "–"
    if value >= bound if sign == "≥" else value <= bound:
        return "yes"
    missed.append(f"{what}: {value:,.2f}{times or ''}, wanted {wanted}")
    return "no"


def tell() -> None:
    """Prints what is not reached."""
    print("\n".join(["not reached:", *missed]) if missed else "all that is wanted is reached", flush=True)
