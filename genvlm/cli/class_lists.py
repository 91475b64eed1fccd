"""What `genvlm classify` prints: classes by probability, and how many are right."""

import math


def print_ranked(results: list[dict], top: int) -> None:
    """The most probable classes of each picture."""
    for result in results:
        print(result["image"])
        for entry in result["classes"][:top]:
            print(f"  {100 * math.exp(entry['log_posterior']):6.2f} %  {entry['class']}")


def print_accuracy(described: dict) -> None:
    """Accuracy and what else was measured, each with its interval."""

    def said(share: dict) -> str:
        low, high = share["interval"]
        return (
            f"{share['value']:.1f} % ({share['right']} of {share['n']}; 95 % interval {low:.1f} "
            f"to {high:.1f} %)"
        )

    print(f"right: {said(described['accuracy'])}")
    if "top_k" in described:
        print(f"among the best {described['top_k']['k']}: {said(described['top_k'])}")
    if "calibration" in described:
        c = described["calibration"]
        after = (
            "no temperature" if c["temperature"] is None else f"temperature {c['temperature']:.2f}"
        )
        ends = "" if c["ece_after"] is None else f", after {100 * c['ece_after']:.1f} %"
        print(
            f"calibration error of {c['num_reported']} pictures: {100 * c['ece_before']:.1f} %"
            f"{ends} ({after}, fitted on the other {c['num_fitted']})"
        )
