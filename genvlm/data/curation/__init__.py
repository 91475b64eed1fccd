"""Which documents of a user's files are kept: measures, rules in order, a ledger, shards."""
