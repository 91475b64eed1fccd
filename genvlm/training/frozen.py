"""What no step may change: compared before and after, bit for bit."""

from collections.abc import Mapping

from genvlm.errors import TrainingError


def check_frozen(after: Mapping[str, str], before: Mapping[str, str]) -> None:
    """Compare fingerprints of weights, by the name of each frozen part.

    Raises:
        TrainingError: the weights of a part are not bit for bit what they were.
    """
    for name, fingerprint in after.items():
        if fingerprint != before[name]:
            raise TrainingError(
                f"the frozen weights of the {name} changed in training (sha256 {fingerprint[:12]}, "
                f"before {before[name][:12]}), so that no model is saved: only what is trained "
                "may have requires_grad"
            )
