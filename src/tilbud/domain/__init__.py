"""Pure rules: no IO, clock, randomness, Vowpal Wabbit or gRPC; time, random numbers and ids are arguments.

campaign/   what a campaign file declares          customer/   what is known of a customer
decision/   how a decision falls, and what becomes of it

context.py      the situation as the caller sent it     language_tags.py   languages as devices write them
clock.py        the clocks, which nothing here reads    durations.py       30m, 7d, 08:00-21:00
errors.py       every way a call can fail               limits.py          every limit
pauses.py       offers and campaigns paused             text.py            one form of every text
allowance.py    so many a second                        relearning.py      how far a model is
versions.py     versions, in their order                numbers.py         as people write them
"""
