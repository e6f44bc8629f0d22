"""`python -m carom.benchmarks.transfer.ranking`."""

from carom.benchmarks.transfer.ranking.record import main

main()
