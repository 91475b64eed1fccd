"""Layouts of published datasets and of users' own files, a module each; `open.py` knows them all.

A reader yields documents whose pictures and clips are not decoded. What makes a whole source
unreadable (a file that is missing, is no JSON, lists an id twice) is a DataError; what spoils a
single sample (a blank caption, a picture that is null) is counted by a `SkipBudget`.
"""
