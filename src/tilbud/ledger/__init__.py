"""The durable truth about decisions, outcomes, settlements and customers.

ports.py     what each client needs of the ledger; tests/contract holds every adapter to all of it
sqlite/      in one file               memory/            in memory, for tests
customer_rows.py   customers as rows, and as an export
open.py      the reader of a ledger, whatever stores it
"""
