"""A ranking of transfer attacks: its rules, its work, its record and its page.

Run `python -m carom.benchmarks.transfer.ranking`.
"""
