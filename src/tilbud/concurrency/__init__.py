"""Many callers on one event loop: together where that is cheaper, in turn where it must be.

batching.py     calls that arrive together are answered together
fair_queue.py   connections take turns           turns.py        batches take turns
keyed_lock.py   one at a time for each key       time_slice.py   long work lets others run
"""
