"""What the record says afterwards.

explain.py   why a decision fell as it did     audit.py   the model again, from the ledger alone
"""
