"""A campaign, as its file declares it.

campaign.py     the whole, and what holds between its sections
sections.py     context, groups, reward, exploration, variants     offer.py   one offer
conditions.py   `when`                                             fields.py  names, words, numbers
languages.py    texts in several languages      contact_policy.py  contact.yaml, beside all campaigns
"""
