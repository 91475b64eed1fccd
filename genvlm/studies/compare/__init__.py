"""Families of models on equal data and compute: cells, what each is asked, one page."""
