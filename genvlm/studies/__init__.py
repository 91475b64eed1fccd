"""Whole experiments made of the parts below: the demo, evaluations, reports, tokenizer training."""
