"""Prints how far the worst case within batches is from that over the whole forget set: the table in docs/method.md.

Usage: python -m tests.scope_bias
"""

from baldro_ext.losses import NPO

from .test_adversary import NAMES, WEIGHTINGS, Method, full_set_gradient, gradients

SIZES = (1, 2, 3, 8, 13)

print("| micro-batch | " + " | ".join(NAMES) + " |")
print("|---|" + "---|" * len(NAMES))
for size in SIZES:
    errors = []
    for weighting in WEIGHTINGS:
        robust = Method(NPO(), weighting)
        exact = full_set_gradient(robust)
        errors.append(((gradients(robust, "batch", size, 1)[0] - exact).norm() / exact.norm()).item())
    print(f"| {size} | " + " | ".join(f"{error:.3f}" if error > 1e-9 else "0" for error in errors) + " |")
