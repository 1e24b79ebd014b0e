"""
De-identification by PS3.15 Annex E: tables, rules, pseudonyms, a transformer, and a verifier that shares no code with
it.
"""
