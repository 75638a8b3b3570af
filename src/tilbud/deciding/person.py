"""Under which key a person is kept, whatever form their id came in.

What holds: an id in NFC and in NFD is one person. Whoever was kept under the NFD form before ids were read in
one form, and under no other, stays who they were: their word, caps and rights go on.
"""

from __future__ import annotations

from tilbud.domain.customer.customer import CustomerKey, customer_key, older_key
from tilbud.ledger.ports import CustomersReading


def kept_under(customer_id: str, ledger_key: bytes, customers: CustomersReading) -> CustomerKey:
    """Return the key a person is kept under, or will be; "": anonymous."""
    key = customer_key(customer_id, ledger_key)
    if customer_id.isascii():
        return key
    older = older_key(customer_id, ledger_key)
    return older if older and not customers.customer(key).number and customers.customer(older).number else key


def all_kept_under(
    customer_id: str, ledger_key: bytes, customers: CustomersReading
) -> tuple[CustomerKey, ...]:
    """Return every key that rows of a person may lie under: the one of today first."""
    key, older = customer_key(customer_id, ledger_key), older_key(customer_id, ledger_key)
    return (key, older) if older and customers.customer(older).number else (key,)
