"""Models on disk, each with the last settlement that it learned.

store.py   saved, loaded, dropped      manifest.py   what a checkpoint says of itself, and whether it is true
files.py   written, locked, removed    pruning.py    which of them stay
copies.py  copied for a backup
"""
