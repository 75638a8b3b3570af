"""The ledger in memory: the same promises, gone with the process. Tests use it.

adapter.py   decisions and settlements     customers.py   customers     entries.py   what it keeps of each
reads.py     what is asked of them
reader.py    for whoever looks into the record     customer_export.py   all that is stored of one customer
"""
