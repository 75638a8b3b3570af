"""How a decision falls, and what becomes of it, in the order in which it is used.

records.py         the question, the offers, the record of the answer
admission.py       which of what was sent may be used     situation.py   the context with the customer in it
eligibility.py     which offers may be shown, and by which rule not
frequency_caps.py  how often is enough                    experiment.py  which side answers
draw.py            the draw: the one place that makes a probability
facts.py           what the ledger is asked, and tells      activation.py  the offer was shown
decision_rules.py  what its outcomes are worth            rewards.py     outcomes become a reward
lifecycle.py       from the record to its settlement
"""
