"""Models on disk, each with the last settlement that it learned.

store.py   written, found, dropped     copies.py   copied for a backup
"""
