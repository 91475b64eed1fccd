"""Damaged samples: counted, named, and no more of them than the user allows.

Which samples are skipped depends on the files and their order alone, so that a run that is repeated
or resumed skips the same ones.
"""

from dataclasses import dataclass, field

from genvlm.errors import DataError

_GRACE = 1000
"""Samples before which the share is taken of this many: the first one damaged is no 100 %."""
_NUM_EXAMPLES = 10


@dataclass(frozen=True)
class SkippedSample:
    """A sample that was left out."""

    id: str
    reason: str


@dataclass
class SkipBudget:
    """Counts samples, good and damaged; one object for a pass over sources.

    Args:
        max_share: most of all samples that may be damaged; 0: the first damaged one is an error.
    """

    max_share: float = 0.0
    num_good: int = 0
    num_skipped: int = 0
    examples: list[SkippedSample] = field(default_factory=list)
    """The first ones that were skipped."""
    hint: str = ""
    """Behind the reason where none may be damaged: how to allow some."""

    def keep(self) -> None:
        """Count a good sample."""
        self.num_good += 1

    def skip(self, sample_id: str, reason: str) -> None:
        """Count a damaged sample.

        Args:
            reason: a sentence that names the file and the fault, such as the text of a DataError.

        Raises:
            DataError: with `max_share` 0 the reason, else how many are damaged and which.
        """
        if self.max_share == 0:
            raise DataError(f"{reason}; {self.hint}" if self.hint else reason)
        self.num_skipped += 1
        if len(self.examples) < _NUM_EXAMPLES:
            self.examples.append(SkippedSample(sample_id, reason))
        self._check(max(self.num_good + self.num_skipped, _GRACE))

    def finish(self) -> None:
        """At the end of the sources: the share of all samples. Raises DataError as `skip`."""
        self._check(self.num_good + self.num_skipped)

    def summary(self) -> str:
        """How many were left out and why, for people."""
        more = self.num_skipped - len(self.examples)
        reasons = [s.reason for s in self.examples] + ([f"and {more} more"] if more else [])
        total = self.num_good + self.num_skipped
        return f"left out {self.num_skipped} of {total:,} samples as damaged: {'; '.join(reasons)}"

    def report(self) -> dict[str, object]:
        """Counts and first examples, as JSON."""
        return {
            "num_good": self.num_good,
            "num_skipped": self.num_skipped,
            "max_share": self.max_share,
            "examples": [{"id": s.id, "reason": s.reason} for s in self.examples],
        }

    def _check(self, total: int) -> None:
        if self.num_skipped > self.max_share * total:
            raise DataError(
                f"{self.num_skipped} of the first {self.num_good + self.num_skipped} samples are "
                f"damaged, more than max_bad_share {self.max_share} allows; the first: "
                f"{self.examples[0].reason}"
            )
