"""A synthetic shop with known truth, and the driver that puts it, or logged data, through a service.

    shop.py      the truth                     logged.py    logged randomised data, from a CSV
    sources.py   both, as questions and what came of the answers
    calls.py     the service: calls repeated until answered      driver.py   asks, shows, reports
    keeping_up.py   waits for the learner
    counts.py    what became of everything     tally.py     what it was worth
    errors.py    why a run cannot begin, or go on
    simulate.py, replay.py   the two runs      progress.py, tables.py   what is shown of them

It talks to the service over gRPC like any other caller and imports nothing of it but `tilbud.v1`
and `tilbud.client`.
"""
