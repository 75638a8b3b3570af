"""Tilbud: which offer should this customer see, here and now?"""
