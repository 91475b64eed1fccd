"""Names of controls, and what each may tell of."""

RANDOM = "random"
BLIND, SHUFFLED, FIRST_OPTION = "blind", "shuffled-image", "first option"
# Controls that never see the picture. Gain is measured over the best of those that were run;
# others (pixel neighbours) are references, which may well be above chance.
UNSEEING = (
    RANDOM, "constant", "length", "format", "n-gram", BLIND, "always yes", "majority", "prior",
    FIRST_OPTION, "first choice",
)  # fmt: skip
# Above chance they tell of a fault of the benchmark or of the scorer; what the order of a file
# gives away no scorer ever sees.
SUSPECT = (*UNSEEING, SHUFFLED, "line parity")
