"""The durable truth about decisions, outcomes, settlements and customers.

ports.py     what each client needs of the ledger; tests/contract holds every adapter to all of it
open.py      from an address to an adapter, or a reader
sqlite/      in one file               memory/            in memory, for tests
customer_rows.py   customers as rows, and as an export
"""
