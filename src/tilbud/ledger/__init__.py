"""The durable truth about decisions, outcomes, settlements and customers.

ports.py     what an adapter must do; tests/contract holds every adapter to it
sqlite/      in one file               memory/            in memory, for tests
customer_rows.py   customers as rows, and as an export
"""
