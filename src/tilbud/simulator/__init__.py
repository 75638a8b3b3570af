"""Worlds with known truth, and the driver that puts them, or logged data, through a service.

    shop.py      the truth of one shop         world.py     the truth over any campaign
    logged.py    logged randomised data        log_file.py   its rows as they were written
    sources.py   all of them, as questions and what came of the answers
    calls.py     the service: calls repeated until answered      driver.py   asks, shows, reports
    keeping_up.py   waits for the learner
    counts.py    what became of everything     tally.py     what it was worth
    conclusions.py   what that lets one conclude, in sentences
    errors.py    why a run cannot begin, or go on
    simulate.py, replay.py   runs of a running service          progress.py, tables.py   what is shown of them
    trial.py     a campaign in a service of its own (own_service.py)

It talks to the service over gRPC like any other caller and imports nothing of it but `tilbud.v1`
and `tilbud.client`.
"""
