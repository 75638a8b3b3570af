"""The ledger in one SQLite file, for one process or several on one machine.

adapter.py      the ports over what follows

Writing, in one thread
writer.py       many calls to a commit           transaction.py     a batch as one transaction
decisions.py    what a call does in it           exposures.py       what a decision means for its customer
customers.py    profiles, events, erasure        retention.py       what is removed when it is old
settling.py     how due decisions end            lease.py           who settles
absences.py     what time it is for a campaign
pauses.py       what people pause                interned.py        texts that many decisions share
windows.py      how a decision stands            rows.py, packing.py    decisions as rows

Reading, on the loop
loop_reads.py   what the ports say                    reader.py, customers_reader.py on reading_file.py
look_up.py      all that a batch of decisions needs
pause_cache.py  who is paused, without a read

Reading, elsewhere
record_reader.py   for whoever looks into the record, in a thread of its own
customer_export.py    all that is stored of one customer

The file
schema.py       tables and migrations            wal.py             keeps the log short
opening_check.py, same_file.py, acknowledged.py, condition.py    whether it is what it should be
service_clock.py   runs while somebody commits   snapshot.py        a copy at one moment
"""
