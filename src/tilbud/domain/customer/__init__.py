"""What is known of a customer.

customer.py         consent, preferences, traits, what last happened
profile_update.py   what a caller changes of it
"""
