"""The durable truth about decisions, outcomes, settlements and customers.

ports.py     what each client needs of the ledger; tests/contract holds every adapter to all of it
answers.py   what its calls answer with       durability.py   what acknowledged rows survive
open.py      from an address to an adapter, or a reader
sqlite/      in one file               memory/            in memory, for tests
profile_json.py   a profile as JSON      marks.py   what last times are stored under
export.py    what is stored of a customer, for a person to read     page_tokens.py   where a page of it ended
"""
